"""Unions of threat models in suites: a list under ``threat_model``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.attacks.registry import attack_info
from bench.core.errors import UserError
from bench.suite.load import load_suite
from bench.suite.plan import Plan, make_plan
from bench.suite.rebuild import edited_manifest, rebuild_manifest
from bench.suite.resolve import Lookup
from bench.suite.spec import SuiteSpec

BN = "fmnist-resnet20-bn"
BALLS: list[Any] = ["linf:8/255", {"norm": "l2", "eps": 0.5}, "l1:12"]
WORDS = ("linf 8/255", "l2 0.5", "l1 12")


def plan(folder: Path, lookup: Lookup, attacks: Any, **changes: Any) -> Plan:
    suite = {
        "suite": "demo",
        "data": {"name": "fashion-mnist", "limit": 64},
        "threat_model": BALLS,
        "models": [BN],
        "attacks": attacks,
        **changes,
    }
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump(suite, sort_keys=False), encoding="utf-8")
    return make_plan(load_suite(path, replace(lookup, attack=attack_info)))


def balls(plan: Plan) -> dict[str, str]:
    return {cell.attack_label: cell.spec.threat_model.describe() for cell in plan.cells}


def test_each_attack_is_run_in_every_ball(tmp_path: Path, lookup: Lookup) -> None:
    found = plan(tmp_path, lookup, ["natural", "apgd", {"attack": "square", "label": "Square"}])
    named = {"natural": WORDS[0]}
    for name in ("apgd", "Square"):
        named |= {f"{name}, {ball}": ball for ball in WORDS}
    assert balls(found) == named
    assert found.suite.threat_model.describe() == WORDS[0]
    assert [ball.describe() for ball in found.suite.union] == list(WORDS[1:])
    alone = plan(tmp_path, lookup, ["apgd"], threat_model="l2:0.5").cells[0]
    assert alone.cell_id in {cell.cell_id for cell in found.cells}, "the same measurement"


def test_an_eps_or_a_norm_of_its_own_keeps_an_attack_apart(tmp_path: Path, lookup: Lookup) -> None:
    own = {"attack": "pgd", "norm": "l2", "eps": 0.25}
    series = {"attack": "pgd", "label": "PGD", "each": {"eps": ["2/255", "16/255"]}}
    steps = {"attack": "bim", "each": {"params.n_iter": [1, 2]}}
    found = plan(tmp_path, lookup, [own, series, steps, "cw_linf"])
    assert balls(found) == {
        "pgd l2 0.25": "l2 0.25",
        "PGD, eps 2/255": "linf 2/255",
        "PGD, eps 16/255": "linf 16/255",
        **{f"bim, n_iter {n}, {ball}": ball for n in (1, 2) for ball in WORDS},
        "cw_linf, linf 8/255": "linf 8/255",
    }
    counts = [a.label for a in found.suite.attacks if a.in_worst_case(*found.suite.threat_models)]
    assert "pgd l2 0.25" in counts and "PGD, eps 16/255" not in counts and len(counts) == 9


def test_names_of_an_attack_mean_it_in_all_balls(tmp_path: Path, lookup: Lookup) -> None:
    models = [{"checkpoint": BN, "attacks": ["apgd"]}, {"checkpoint": BN, "label": "all"}]
    found = plan(tmp_path, lookup, ["natural", "apgd"], models=models)
    mine = [cell.attack_label for cell in found.cells if cell.model_label == BN]
    assert mine == [f"apgd, {ball}" for ball in WORDS]


def test_files_of_other_suites_do_not_know_of_it(tmp_path: Path, lookup: Lookup) -> None:
    one = plan(tmp_path, lookup, ["pgd"], threat_model={"norm": "linf", "eps": 0.1}).manifest()
    assert "union" not in one.suite and "norm" not in one.suite["attacks"][0]
    several = plan(tmp_path, lookup, ["pgd"]).manifest()
    again = SuiteSpec.model_validate(several.suite)
    assert [ball.describe() for ball in again.threat_models] == list(WORDS)


def test_an_edited_or_rebuilt_suite_keeps_it(tmp_path: Path, lookup: Lookup) -> None:
    found = plan(tmp_path, lookup, ["natural", "apgd"])
    edited = plan(tmp_path, lookup, ["natural", "apgd"], title="Another")
    assert edited_manifest(found.manifest(), edited.suite).suite["title"] == "Another"
    fewer = plan(tmp_path, lookup, ["natural", "apgd"], threat_model=BALLS[:2])
    with pytest.raises(UserError, match="union"):
        edited_manifest(found.manifest(), fewer.suite)
    rebuilt = SuiteSpec.model_validate(
        rebuild_manifest([cell.spec for cell in found.cells], "again").suite
    )
    assert {ball.describe() for ball in rebuilt.threat_models} == set(WORDS)
    within = [a.label for a in rebuilt.attacks if a.in_worst_case(*rebuilt.threat_models)]
    assert len(within) == len(rebuilt.attacks) == 4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"threat_model": ["linf:8/255", "l2"]}, "suite.yaml:7: threat_model[1]: expected for"),
        ({"threat_model": ["linf:8/255", "linf:1/255"]}, "threat_model[1]: a second ball of norm"),
        ({"threat_model": []}, "threat_model[0]: expected at least one threat model"),
        ({"threat_model": ["linf:8/255", "l2:5000"]}, "threat_model[1].eps: expected at most 28"),
        ({"threat_model": ["linf:8/255", "l2:0"]}, "threat_model[1]: eps must be greater than 0"),
        ({"threat_model": "linf"}, "threat_model: expected for example linf:8/255"),
        ({"union": ["l2:0.5"]}, "union: unknown key; threat_model takes a list"),
        ({"attacks": [{"attack": "pgd", "norm": "l2"}]}, "attacks[0]: norm l2 needs an eps"),
        (
            {"attacks": ["cw_linf"], "threat_model": ["l2:0.5", "l1:12"]},
            "attacks[0].attack: attack 'cw_linf' serves norm linf, not l2",
        ),
    ],
)
def test_what_is_wrong_is_said_where_it_stands(
    tmp_path: Path, lookup: Lookup, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError) as error:
        plan(tmp_path, lookup, changes.pop("attacks", ["pgd"]), **changes)
    assert said in str(error.value)
