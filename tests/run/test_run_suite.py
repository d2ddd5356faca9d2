"""From a suite file over saved checkpoints to stored rows and tables, for every protocol."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_checkpoints import save
from torch import Tensor

from bench.attacks import ATTACKS
from bench.attacks.base import Attack
from bench.core.paths import Where
from bench.core.result import CellInfo, Row
from bench.core.spec import Spec
from bench.models import Classifier
from bench.oracle import LOSSES
from bench.report import write_reports
from bench.run.job import execute
from bench.run.local import Workers
from bench.run.prepare import local_lookup
from bench.run.schedule import cells_to_run, make_jobs, run_cells
from bench.store.run_store import RunStore
from bench.suite.load import load_suite
from bench.suite.plan import Plan, make_plan
from bench.suite.watcher import Watcher
from bench.zoo import open_checkpoint

pytestmark = pytest.mark.process

EPS = 0.03
BATCH = 4

SUITE = """
suite: protocols
data: {{name: "npz:{data}"}}
threat_model: {{norm: linf, eps: 0.03}}
batch_size: 4
n_draws: 3
search: exact
models:
  - first
  - {{checkpoint: second, protocol: transfer, surrogate: first}}
  - {{checkpoint: first, stats: batch, protocol: stats_transfer, surrogate: {{stats: population}}}}
  - {{checkpoint: first, stats: batch, adversary: single}}
  - {{checkpoint: drawn, eot_iter: 2}}
attacks:
  - natural
  - one_step
  - {{attack: one_step, eot_iter: 3}}
"""


class NoParams(Spec):
    """No parameters."""


def one_step(oracle: Any, x: Tensor, y: Tensor, budget: Any, *_: object) -> Tensor:
    grad = oracle.query(x, y, LOSSES["margin"]).grad
    return (x + budget.eps[0] * grad.sign()).clamp(0, 1)


@pytest.fixture(scope="module")
def attack() -> Iterator[None]:
    """Registers an attack of one step, at two passes an image."""
    fields = {"kind": "bounded", "norms": ("linf",), "params": NoParams, "summary": "", "url": ""}
    ATTACKS.add(
        "one_step", Attack(name="one_step", version=1, run=one_step, passes=lambda p: 2.0, **fields)
    )
    yield
    ATTACKS.remove("one_step")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, attack: None) -> tuple[Plan, RunStore, Path]:
    """Runs the suite above; returns its plan, its store and its checkpoints."""
    tmp_path = tmp_path_factory.mktemp("suite")
    checkpoints = tmp_path / "checkpoints"
    save(checkpoints / "first", "bn", 1)
    save(checkpoints / "second", "bn", 2)
    save(checkpoints / "drawn", {"name": "rna", "pool": ["bn", "in"]}, 3)
    rng = np.random.default_rng(0)
    x = rng.random((2 * BATCH, 1, 8, 8)).astype(np.float32)
    y = np.array([0, 1, 2, 0, 1, 2, 0, 1])
    np.savez(tmp_path / "made.npz", x=x, y=y)
    suite = tmp_path / "protocols.yaml"
    suite.write_text(SUITE.format(data=tmp_path / "made.npz"))
    lookup = local_lookup(Where(checkpoints))
    plan = make_plan(load_suite(suite, lookup))
    store = RunStore(tmp_path / "run")
    store.write_manifest(plan.manifest())
    jobs = make_jobs(cells_to_run(plan, store), Where(checkpoints))
    with Workers(1) as workers:
        summary = run_cells(plan, store, jobs, workers, Watcher())
    assert not summary.incomplete
    return plan, store, checkpoints


def cell(run: tuple[Plan, RunStore, Path], model: int, attack: int) -> tuple[CellInfo, list[Row]]:
    plan, store, _ = run
    (found,) = [c for c in plan.cells if (c.model_index, c.attack_index) == (model, attack)]
    return store.read_cell(found.cell_id)


def images(run: tuple[Plan, RunStore, Path]) -> tuple[Tensor, Tensor]:
    with np.load(run[2].parent / "made.npz") as made:
        return torch.from_numpy(made["x"]), torch.from_numpy(made["y"])


def crafted(model: Classifier, x: Tensor, y: Tensor) -> Tensor:
    """The same step with plain autograd."""
    x = x.clone().requires_grad_()
    z = model(x)
    others = z.masked_fill(torch.nn.functional.one_hot(y, 3).bool(), -torch.inf).amax(1)
    (grad,) = torch.autograd.grad((others - z.gather(1, y[:, None])[:, 0]).sum(), x)
    return (x.detach() + EPS * grad.sign()).clamp(0, 1)


@pytest.mark.parametrize(
    ("row", "source", "target"),
    [
        (0, ("first", "population"), ("first", "population")),
        (1, ("first", "population"), ("second", "population")),
        (2, ("first", "population"), ("first", "batch")),
    ],
)
def test_images_are_crafted_on_one_model_and_scored_on_another(
    run: tuple[Plan, RunStore, Path], row: int, source: Any, target: Any
) -> None:
    load = [open_checkpoint(run[2] / name).load(stats) for name, stats in (source, target)]
    x, y = images(run)
    info, rows = cell(run, row, 1)
    assert info.cluster == ("batch" if target[1] == "batch" else "sample")
    expected = []
    for start in range(0, len(x), BATCH):
        part = slice(start, start + BATCH)
        x_adv = crafted(load[0], x[part], y[part])
        with torch.no_grad():
            expected += load[1](x_adv).argmax(1).tolist()
    assert [r.adv_pred for r in rows] == expected
    assert [r.label for r in rows] == y.tolist()


def test_passes_cost_and_identity_follow_the_draws(run: tuple[Plan, RunStore, Path]) -> None:
    plan = run[0]
    spent = {}
    for model, attack in ((0, 1), (0, 2), (3, 1), (4, 1), (4, 2)):
        info, rows = cell(run, model, attack)
        spent[model, attack] = (info.spec.eot_iter, {(r.forwards, r.backwards) for r in rows})
    assert spent == {
        (0, 1): (1, {(1.0, 1.0)}),
        (0, 2): (1, {(1.0, 1.0)}),  # deterministic: the column's three draws are one
        (3, 1): (1, {(4.0, 4.0)}),  # a lone adversary passes its whole batch
        (4, 1): (2, {(2.0, 2.0)}),
        (4, 2): (3, {(3.0, 3.0)}),
    }
    estimates = {(c.model_index, c.attack_index): c.passes for c in plan.cells}
    n = 2 * BATCH
    assert estimates[3, 1] == n * (2 * BATCH + 1 + BATCH)
    assert estimates[4, 2] == n * (2 * 3 + 2 * 3)


def test_tables_say_how_each_number_was_made(run: tuple[Plan, RunStore, Path]) -> None:
    written = write_reports(run[1].folder)
    with next(p for p in written if p.suffix == ".csv").open(newline="") as handle:
        lines = {
            (line["model"], line["attack"]): line["protocol"] for line in csv.DictReader(handle)
        }
    assert lines["first", "one_step"] == "white_box"
    assert lines["second (transfer from first)", "one_step"] == "transfer from first (population)"
    mixed = "first (batch, stats_transfer from population)"
    assert lines[mixed, "one_step"] == "stats_transfer from population"
    assert lines["first (batch, single)", "one_step"] == "white_box, single"
    assert lines["drawn (eot 2)", "one_step EOT-3"] == "white_box, eot 3"


def test_a_damaged_surrogate_makes_the_cell_incomplete(
    run: tuple[Plan, RunStore, Path], tmp_path: Path
) -> None:
    plan, _, checkpoints = run
    transfer = next(c for c in plan.cells if c.spec.protocol == "transfer")
    shutil.copytree(checkpoints, tmp_path / "copy")
    weights = tmp_path / "copy" / "first" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    (job,) = make_jobs([transfer], Where(tmp_path / "copy"))
    info, rows, _ = execute(job)
    assert not info.complete and not rows and "expected sha256" in info.error
