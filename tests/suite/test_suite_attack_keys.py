"""Every key of an attack has its effect or is refused, in a suite and in ``evaluate()`` alike."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from bench import evaluate
from bench.attacks.registry import attack_info
from bench.core.cell import CellSpec
from bench.core.errors import UserError
from bench.core.model_spec import ModelSpec
from bench.evaluation.result import EvaluationResult
from bench.models import Classifier
from bench.norms import replace_norms
from bench.suite.load import load_suite
from bench.suite.plan import Plan, make_plan
from bench.suite.resolve import Lookup
from bench.suite.spec import AttackEntry

BASE: dict[str, Any] = {"attack": "bim", "params": {"n_iter": 1}}
CHANGES: dict[str, dict[str, Any]] = {
    "attack": {"attack": "mim"},
    "params": {"params": {"n_iter": 2}},
    "norm": {"norm": "l2", "eps": 0.5},
    "eps": {"eps": "0.001"},
    "eot_iter": {"eot_iter": 3},
    "eot": {"eot": "mean_field"},
    "y_target": {"y_target": "random"},
    "limit": {"limit": 2},
}
"""A value of each key that decides what is run."""
NAMES = {"label"}
REPORTS = {"series": "line", "published": "AA"}
"""Values of the keys that only the reports of a suite use."""
WRITTEN_OUT = {"varied": {"eps": "1/255"}}
"""Keys that ``each`` writes, and nobody else may."""
DECIDED = ("attack", "attack_params", "threat_model", "eot", "eot_iter", "batch_size", "y_target")


def rna() -> Classifier:
    fields = {"arch": "resnet20", "channels": 1, "size": 8, "classes": 2}
    norm = {"name": "rna", "pool": ["bn", "in"]}
    spec = ModelSpec.model_validate({**fields, "norm": norm, "mean": [0.5], "std": [0.25]})
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))
    net = nn.Sequential(*layers)
    replace_norms(net, spec.norm)
    return Classifier(spec, net).eval()


def in_memory(*attacks: dict[str, Any]) -> EvaluationResult:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(4, 1, 8, 8, generator=generator), torch.arange(4) % 2
    declared = {"probe": False, "stochastic": True, "batch_dependent": False, "sentinel": False}
    return evaluate(rna(), x, y, "linf:0.05", attacks, n_draws=2, **declared)


@cache
def api_spec(key: str) -> CellSpec:
    entry = {**BASE, "label": "one", **CHANGES.get(key, {})}
    return in_memory(entry)["one"].info.spec


def plan_of(folder: Path, lookup: Lookup, *attacks: dict[str, Any]) -> Plan:
    suite = {
        "suite": "keys",
        "data": {"name": "fashion-mnist", "limit": 4},
        "threat_model": {"norm": "linf", "eps": 0.05},
        "n_draws": 2,
        "models": ["fmnist-resnet20-rna-at"],
        "attacks": list(attacks),
    }
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump(suite), encoding="utf-8")
    return make_plan(load_suite(path, replace(lookup, attack=attack_info)))


def decided(spec: CellSpec) -> dict[str, Any]:
    return {**{key: getattr(spec, key) for key in DECIDED}, "limit": spec.data.limit}


def test_no_key_is_left_out_of_this_test() -> None:
    assert {*CHANGES, *NAMES, *REPORTS, *WRITTEN_OUT} == set(AttackEntry.model_fields)


@pytest.mark.parametrize("key", CHANGES)
def test_a_key_that_decides_what_is_run_does_so_in_both(
    tmp_path: Path, lookup: Lookup, key: str
) -> None:
    before, after = api_spec(""), api_spec(key)
    assert decided(after) != decided(before)
    plan = plan_of(tmp_path, lookup, {**BASE, "label": "one", **CHANGES[key]})
    assert decided(plan.cells[0].spec) == decided(after)


def test_the_keys_of_reports_are_used_in_a_suite_and_refused_in_evaluate(
    tmp_path: Path, lookup: Lookup
) -> None:
    for key, value in REPORTS.items():
        (entry,) = plan_of(tmp_path, lookup, {**BASE, key: value}).suite.attacks
        assert getattr(entry, key) == value
        with pytest.raises(UserError, match=rf"attacks\[0\].{key}: is for the reports of a suite"):
            in_memory({**BASE, key: value})
    for key, value in WRITTEN_OUT.items():
        with pytest.raises(UserError, match=rf"attacks\[0\].{key}"):
            plan_of(tmp_path, lookup, {**BASE, key: value})
        with pytest.raises(UserError, match=rf"attacks\[0\].{key}"):
            in_memory({**BASE, key: value})


@pytest.mark.parametrize(("key", "value", "said"), [("eps", "9", "at most 1"), ("limit", 5, "5")])
def test_a_value_that_cannot_be_is_refused_with_its_place_in_both(
    tmp_path: Path, lookup: Lookup, key: str, value: Any, said: str
) -> None:
    for use in (lambda entry: plan_of(tmp_path, lookup, entry), in_memory):
        with pytest.raises(UserError, match=rf"attacks\[0\].{key}: .*{said}"):
            use({**BASE, key: value})


def test_the_worst_case_is_of_the_attacks_in_the_ball_on_all_images() -> None:
    """As in a leaderboard; a larger ball or a few images would not be compared like with like."""
    larger, few = {"eps": 0.9, "label": "larger"}, {"limit": 1, "label": "few"}
    own = [{**BASE, **keys} for keys in ({"label": "all"}, larger, few)]
    result = in_memory(*own)
    alone = in_memory({**BASE, "label": "all"})
    assert result.worst_case() == alone.worst_case() and result.worst_case().n == 4
    assert result.clean_accuracy().n == 4
    assert result["larger"].rows[0].linf > 0.05 and len(result["few"].rows) == 1
    text = repr(result)
    assert "larger: n_iter 1, threat model linf 0.9, no part of the worst case" in text
    assert "few: n_iter 1, on the first 1 image, no part of the worst case" in text
    assert "worst case" not in in_memory({**BASE, **few}).table().index


def test_a_smaller_eps_changes_the_number() -> None:
    """Brightness 0.02, 0.04, ... from the threshold: the accuracies are those of the radii."""

    class Brightness(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            z = 20 * (x.mean((1, 2, 3)) - 0.5)
            return torch.stack([-z, z], 1)

    y = torch.arange(10) % 2
    level = 0.5 + 0.02 * torch.arange(1, 11) * (2 * y - 1)
    x = level.view(-1, 1, 1, 1).expand(10, 1, 8, 8)
    attacks = [{"attack": "fgsm", "eps": eps, "label": eps} for eps in ("0.03", "0.07", "0.11")]
    result = evaluate(Brightness(), x, y, "linf:0.11", attacks)
    found = [result.robust_accuracy(label).value for label in ("0.03", "0.07", "0.11")]
    assert found == pytest.approx([0.9, 0.7, 0.5])
    assert result.worst_case().value == pytest.approx(0.5)
