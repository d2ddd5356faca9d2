"""Stored adversarial examples: every claim can be checked, and a false one is found."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_checkpoints import save
from typer.testing import CliRunner

from bench.cli.app import app
from bench.core.errors import UserError
from bench.core.paths import Where
from bench.run.job import Job
from bench.run.local import Workers
from bench.run.prepare import local_lookup
from bench.run.reverify import reverify
from bench.run.schedule import cells_to_run, make_jobs, run_cells
from bench.store.run_store import RunStore
from bench.suite.load import load_suite
from bench.suite.plan import Plan, make_plan
from bench.suite.watcher import Watcher
from bench.zoo import open_checkpoint

pytestmark = pytest.mark.process

SUITE = """
suite: kept
data: {{name: "npz:{data}"}}
threat_model: {{norm: linf, eps: 0.1}}
batch_size: 4
n_draws: 3
models: [first, drawn, {{checkpoint: first, stats: batch}},
  {{checkpoint: first, stats: batch, adversary: single}},
  {{checkpoint: drawn, protocol: fixed_path}},
  {{checkpoint: first, protocol: transfer, surrogate: drawn}}]
attacks: [natural, {{attack: pgd, params: {{n_iter: 3, alpha: 0.05}}}}, {{attack: deepfool}}]
"""
N = 10


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, RunStore, Path]:
    """A run of 6 models with examples: its plan, its store and the folder of it all."""
    folder = tmp_path_factory.mktemp("kept")
    save(folder / "checkpoints" / "first", "bn", 1)
    save(folder / "checkpoints" / "drawn", {"name": "rna", "pool": ["bn", "in"]}, 3)
    x = np.random.default_rng(0).random((N, 1, 8, 8)).astype(np.float32)
    with torch.no_grad():  # labels that the untrained model gets right, so that there are claims
        y = open_checkpoint(folder / "checkpoints/first").load()(torch.from_numpy(x)).argmax(1)
    y[-1] = 2  # every class occurs
    np.savez(folder / "made.npz", x=x, y=y.numpy())
    (folder / "suite.yaml").write_text(SUITE.format(data=folder / "made.npz"))
    plan, store = _run(folder, folder / "run", save_adv=True)
    store.write_manifest(plan.manifest())
    return plan, store, folder


def _run(folder: Path, out: Path, *, save_adv: bool) -> tuple[Plan, RunStore]:
    lookup = local_lookup(Where(folder / "checkpoints"))
    plan = make_plan(load_suite(folder / "suite.yaml", lookup))
    store = RunStore(out)
    cells = cells_to_run(plan, store, save_adv=save_adv)
    jobs = make_jobs(cells, Where(folder / "checkpoints"), save_adv=save_adv)
    with Workers(1) as workers:
        summary = run_cells(plan, store, jobs, workers, Watcher())
    assert not summary.incomplete
    return plan, store


def checked(kept: tuple[Plan, RunStore, Path], cell_id: str, store: RunStore | None = None):
    info, rows = kept[1].read_cell(cell_id)
    job = Job(info.spec, info.attack_kind, Where(kept[2] / "checkpoints"), 1.0, len(rows))
    return reverify(job, info, rows, store or kept[1])


def attacked(plan: Plan) -> list[str]:
    return [cell.cell_id for cell in plan.cells if cell.attack_kind != "none" and not cell.refused]


def test_every_protocol_checks_out_without_its_attack(
    kept: tuple[Plan, RunStore, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, store, _ = kept
    monkeypatch.setattr("bench.evaluation.cell._propose", None)
    claims = 0
    for cell_id in attacked(plan):
        verdict = checked(kept, cell_id)
        assert verdict.images == N and not verdict.failures
        claims += verdict.claims
        rows = store.read_cell(cell_id)[1]
        for batch in range(3):
            index, x_adv = store.examples.read(cell_id, batch)
            assert x_adv.dtype == np.float32 and x_adv.shape[1:] == (1, 8, 8)
            with np.load(kept[2] / "made.npz") as made:
                far = np.abs(x_adv - made["x"][index]).reshape(len(index), -1).max(1)
            stored = [row.linf for row in rows if row.index in index]
            np.testing.assert_allclose(far, stored, rtol=0, atol=1e-7)
    assert claims > N, "there was something to check"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda x_adv, x: x, "linf is 0"),
        (lambda x_adv, x: x_adv + 0.5, "status is out_of_b"),
        (lambda x_adv, x: np.full_like(x, np.nan), "status is not_finite"),
        (lambda x_adv, x: np.clip(np.rint(x_adv * 255) / 255, 0, 1), "linf is"),  # saved as 8 bit
    ],
)
def test_an_example_that_is_not_what_was_claimed_is_found(
    kept: tuple[Plan, RunStore, Path], tmp_path: Path, change, why: str
) -> None:
    plan, store, _ = kept
    cell_id = attacked(plan)[0]
    shutil.copytree(store.folder, tmp_path / "run")
    other = RunStore(tmp_path / "run")
    index, x_adv = other.examples.read(cell_id, 1)
    with np.load(kept[2] / "made.npz") as made:
        x = made["x"][index[0]]
    x_adv = x_adv.copy()
    x_adv[0] = change(x_adv[0], x)
    other.examples.write(cell_id, 1, index, x_adv)
    verdict = checked(kept, cell_id, other)
    assert [failure.index for failure in verdict.failures] == [index[0]]
    assert why in verdict.failures[0].why


def test_a_row_that_claims_too_much_is_found_and_the_command_says_so(
    kept: tuple[Plan, RunStore, Path], tmp_path: Path
) -> None:
    plan, store, folder = kept
    shutil.copytree(store.folder, tmp_path / "run")
    other, cell_id = RunStore(tmp_path / "run"), attacked(plan)[0]
    info, rows = other.read_cell(cell_id)
    survivor = next(row for row in rows if row.robust == 1.0)
    lied = replace(survivor, adv_correct=0.0, robust=0.0, adv_pred=(survivor.label + 1) % 3)
    other.write_cell(info, [lied if row is survivor else row for row in rows])
    verify = ["verify", str(tmp_path / "run"), "--checkpoints", str(folder / "checkpoints")]
    found = CliRunner().invoke(app, [*verify, "--device", "cpu"])
    assert found.exit_code == 1 and "mismatches in 1 of " in found.output
    assert f"image {survivor.index}: adv_pred is {survivor.adv_pred}" in found.output
    shutil.rmtree(tmp_path / "run/store/examples" / cell_id)
    partly = CliRunner().invoke(app, verify)
    assert partly.exit_code == 3, "one cell cannot be checked"
    assert "no mismatches, but 1 of " in partly.output
    sound = CliRunner().invoke(app, [verify[0], str(store.folder), *verify[2:]])
    assert sound.exit_code == 0
    assert "All stored adversarial examples match their results" in sound.output


def test_damaged_examples_and_altered_weights_are_named(
    kept: tuple[Plan, RunStore, Path], tmp_path: Path
) -> None:
    plan, store, _ = kept
    shutil.copytree(store.folder, tmp_path / "run")
    path = tmp_path / "run/store/examples" / attacked(plan)[0] / "000001.parquet"
    content = bytearray(path.read_bytes())
    for place in (len(content) // 3, 4, len(content) - 6):
        damaged = bytearray(content)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"000001.parquet: damaged.*--save-adv again"):
            checked(kept, attacked(plan)[0], RunStore(tmp_path / "run"))
    (job,) = make_jobs([plan.cells[1]], Where(tmp_path))
    save(tmp_path / "first", "bn", 5)
    info, rows = store.read_cell(plan.cells[1].cell_id)
    with pytest.raises(UserError, match="the checkpoint changed since the run was planned"):
        reverify(job, info, rows, store)


def test_cells_without_examples_are_run_again_for_them_and_stay_the_same(
    kept: tuple[Plan, RunStore, Path], tmp_path: Path
) -> None:
    plan, store = _run(kept[2], tmp_path / "run", save_adv=False)
    before = {cell_id: store.read_cell(cell_id)[1] for cell_id in store.cell_ids()}
    assert not cells_to_run(plan, store)
    assert [c.cell_id for c in cells_to_run(plan, store, save_adv=True)] == attacked(plan)
    _run(kept[2], tmp_path / "run", save_adv=True)
    assert not cells_to_run(plan, store, save_adv=True)
    assert {cell_id: store.read_cell(cell_id)[1] for cell_id in store.cell_ids()} == before
