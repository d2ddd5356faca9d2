"""All who make cells make the same one: suites, ``evaluate``, analyses and training's quick PGD."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from bench import evaluate
from bench.core.cell import CellSpec
from bench.core.model_spec import ModelSpec
from bench.core.paths import Where
from bench.models import build_model
from bench.run.prepare import local_lookup
from bench.suite.load import load_suite
from bench.suite.plan import Plan, make_plan
from bench.train.quality import QUICK_DRAWS, QUICK_EOT, SCORING_BATCH, quick_cell
from bench.zoo import Card, Checkpoint, CleanAccuracy, save_checkpoint

N = 12
RNA = {"name": "rna", "pool": ["bn", "in"]}
PGD = {"attack": "pgd", "params": {"n_iter": 20, "alpha": 0.025, "keep": "last"}}
SHARED = {"batch_size": SCORING_BATCH, "n_draws": QUICK_DRAWS, "search": "exact", "seed": 0}
ONLY_IN_MEMORY = ("checkpoint", "sha256", "data")
"""What an evaluation without files cannot know: names, and a hash of files."""


@pytest.fixture(params=["bn", "rn", RNA], ids=["bn", "rn", "rna"])
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Checkpoint:
    """A checkpoint of a norm, with its images beside it."""
    fields = {"arch": "resnet20", "channels": 1, "size": 8, "classes": 4}
    spec = ModelSpec.model_validate({**fields, "norm": request.param, "mean": [0.5], "std": [0.2]})
    x = np.random.default_rng(0).integers(0, 256, (N, 1, 8, 8)).astype(np.uint8)
    np.savez(tmp_path / "tiny.npz", x=x, y=np.arange(N) % 4)
    card = Card(
        name="one",
        model=spec,
        dataset="fashion-mnist",
        training="natural",
        clean_accuracy=CleanAccuracy(value=0.5, n=N, split="npz:tiny.npz test"),
        versions={},
        sha256="0" * 64,
    )
    return save_checkpoint(tmp_path / "zoo" / "one", build_model(spec, seed=0).net, card)


def planned(folder: Path, attack: dict[str, Any], eot_iter: int) -> Plan:
    """A suite of the checkpoint under an attack, and an analysis of the same."""
    suite = {
        "suite": "one",
        "data": {"name": "npz:tiny.npz", "limit": N, "seed": 0},
        "threat_model": {"norm": "linf", "eps": 0.1},
        "eot_iter": eot_iter,
        "models": ["one"],
        "attacks": [{**attack, "label": "A"}],
        "analyses": [{"analysis": "examples", "attack": "A", "params": {"images": 1}}],
        **SHARED,
    }
    path = folder / "one.yaml"
    path.write_text(yaml.safe_dump(suite), encoding="utf-8")
    return make_plan(load_suite(path, local_lookup(Where(folder / "zoo", folder))))


def without(spec: CellSpec, *fields: str) -> dict[str, Any]:
    return spec.model_dump(mode="json", exclude=set(fields))


def test_quick_pgd_and_an_analysis_make_a_suites_cell(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    plan = planned(tmp_path, PGD, QUICK_EOT)
    (cell,), (analysis,) = plan.cells, plan.analyses
    quick = quick_cell(checkpoint, cell.spec.data, cell.spec.data_hash)
    assert without(quick) == without(cell.spec) and quick.cell_id == cell.cell_id
    crafted = analysis.spec.cell(0)
    assert without(crafted) == without(cell.spec) and crafted.cell_id == cell.cell_id


@pytest.mark.process
@pytest.mark.parametrize("name", ["pgd", "torchattacks:FGSM"])
def test_evaluate_makes_a_suites_cell(name: str, checkpoint: Checkpoint, tmp_path: Path) -> None:
    params = {"n_iter": 2} if name == "pgd" else {}
    plan = planned(tmp_path, {"attack": name, "params": params}, eot_iter=2)
    (cell,), (analysis,) = plan.cells, plan.analyses
    assert analysis.spec.cell(0).cell_id == cell.cell_id
    images = np.load(tmp_path / "tiny.npz")
    order = _order(plan)
    result = evaluate(
        checkpoint.load(),
        torch.from_numpy(images["x"][order]),
        images["y"][order],
        "linf:0.1",
        [(name, params)],
        eot_iter=2,
        **SHARED,
    )
    (found,) = [one.info.spec for one in result.cells.values()]
    assert without(found, *ONLY_IN_MEMORY) == without(cell.spec, *ONLY_IN_MEMORY)
    same = {field: getattr(cell.spec, field) for field in ONLY_IN_MEMORY}
    assert found.model_copy(update=same).cell_id == cell.cell_id
    assert bool(found.library) == (":" in name)


def _order(plan: Plan) -> list[int]:
    """Returns the positions of the suite's images in their file."""
    from bench.data.slice import slice_index

    y = np.arange(N) % 4
    return [int(i) for i in slice_index(plan.suite.data, y)]


def test_an_analysis_of_another_library_version_or_other_rules_is_another(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(tmp_path, {"attack": "torchattacks:FGSM", "params": {}}, 1)
    spec = plan.analyses[0].spec
    assert spec.attack is not None and spec.attack.library.startswith("torchattacks ")
    newer = spec.attack.model_copy(update={"library": "torchattacks 99"})
    before = spec.analysis_id
    assert spec.model_copy(update={"attack": newer}).analysis_id != before
    monkeypatch.setattr("bench.core.analysis.RULES", 99)
    assert spec.analysis_id != before
