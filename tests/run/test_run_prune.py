"""``rbench prune`` deletes what the suite no longer names, and nothing that it still needs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_checkpoints import save
from typer.testing import CliRunner

from bench.cli.app import app
from bench.core.errors import UserError
from bench.run.prune import find_leftovers
from bench.store.lock import locked
from bench.store.run_store import RunStore

pytestmark = pytest.mark.process
ROOT = Path(__file__).parents[2]
PGD = {"attack": "pgd", "label": "PGD", "params": {"n_iter": 2, "alpha": 0.01}}
LONG = {"attack": "pgd", "label": "long", "params": {"n_iter": 3, "alpha": 0.01}}


def rbench(*arguments: object) -> str:
    done = CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200"})
    if isinstance(done.exception, UserError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two models under three attacks, with examples and an analysis."""
    world = tmp_path_factory.mktemp("world")
    save(world / "checkpoints" / "one", "bn", 1)
    save(world / "checkpoints" / "two", "in", 2)
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)).numpy()
    np.savez(world / "made.npz", x=x, y=np.array([0, 1, 2, 0]))
    run(world, [PGD, LONG], "--save-adv")
    return world


@pytest.fixture(scope="module")
def shortened(world: Path) -> Path:
    """The folder of a later run, without the long attack and the analysis."""
    out = Path(shutil.copytree(world / "run", world / "shortened"))
    run(world, [PGD], out=out, analyses=False)
    return out


@pytest.fixture
def whole(world: Path, tmp_path: Path) -> Path:
    """A copy of the first run."""
    return Path(shutil.copytree(world / "run", tmp_path / "run"))


@pytest.fixture
def copy(shortened: Path, tmp_path: Path) -> Path:
    """A copy of the later run."""
    return Path(shutil.copytree(shortened, tmp_path / "run"))


def run(
    world: Path, attacks: list[Any], *options: str, out: Path | None = None, analyses: bool = True
) -> str:
    suite = {
        "suite": "some",
        "data": {"name": f"npz:{world / 'made.npz'}"},
        "threat_model": {"norm": "linf", "eps": 0.03},
        "batch_size": 2,
        "models": ["one", "two"],
        "attacks": ["natural", *attacks],
        "analyses": [{"analysis": "gradient_similarity"}] if analyses else [],
        "reports": ["leaderboard"],
    }
    path = world / "some.yaml"
    path.write_text(json.dumps(suite))
    where = ("--checkpoints", world / "checkpoints", "--out", out or world / "run")
    return rbench("run", path, *where, "--device", "cpu", "--workers", 1, "--no-probe", *options)


def stored(folder: Path) -> dict[str, int]:
    """Everything in a store with its time of change, by kind and name."""
    paths = (folder / "store").glob("*/*")
    return {f"{path.parent.name}/{path.name}": path.stat().st_mtime_ns for path in paths}


def test_all_that_a_run_of_the_suite_would_use_stays(whole: Path) -> None:
    store = RunStore(whole)
    named = {cell.cell_id for cell in store.read_manifest().cells}
    assert len(named) == 6 and len(store.cell_ids()) > 6  # sweeps, and a sentinel of each model
    before = stored(whole)
    assert {name.partition("/")[0] for name in before} == {"cells", "examples", "analyses"}
    assert "nothing to delete: the suite names all" in rbench("prune", whole)
    assert stored(whole) == before


def test_an_attack_that_is_gone_goes_with_its_sweep_examples_and_analysis(
    world: Path, copy: Path
) -> None:
    before = stored(copy)
    found = find_leftovers(copy).found
    words = {one.what for one in found}
    assert {w.partition(",")[0] for w in words} >= {"one / pgd (n_iter 3)", "two / pgd (n_iter 3)"}
    assert "one / pgd (n_iter 12), 4 images" in " ".join(words)  # of the sweep
    assert "analysis gradient_similarity of one, two" in words
    said = rbench("prune", copy, "--dry-run")
    assert f"would be deleted: {len(found)} entries of " in said and stored(copy) == before
    assert all(one.id in said and one.what in said for one in found)
    assert f"\ndeleted: {len(found)} entries of " in rbench("prune", copy)
    after = stored(copy)
    assert {name.partition("/")[2] for name in before.keys() - after.keys()} == {
        one.id for one in found
    }
    assert {name.partition("/")[0] for name in before.keys() - after.keys()} == {
        "cells",
        "examples",
        "analyses",
    }
    assert "0 cells done" in run(world, [PGD], out=copy, analyses=False)
    assert stored(copy) == after


def test_the_cells_of_a_checkpoint_that_is_not_here_now_stay(whole: Path) -> None:
    """As after ``rbench run --skip-missing`` on a machine without it."""
    store = RunStore(whole)
    manifest = store.read_manifest()
    here = tuple(cell for cell in manifest.cells if cell.model_label != "two")
    absent = {"cells": here, "absent": {"two": "two"}, "analyses": ()}
    store.write_manifest(manifest.model_copy(update=absent))
    before = stored(whole)
    assert "nothing to delete" in rbench("prune", whole)
    assert stored(whole) == before
    store.write_manifest(manifest.model_copy(update={**absent, "absent": {}}))
    found = find_leftovers(whole).found
    assert found and all(one.what.startswith(("two / ", "analysis ")) for one in found)


def test_what_cannot_be_read_is_left_alone_and_named(copy: Path) -> None:
    found = find_leftovers(copy).found
    one = next(one for one in found if len(one.folders) == 2)
    (copy / "store" / "cells" / one.id / "rows.parquet").write_bytes(b"PAR1")
    said = rbench("prune", copy)
    assert "damaged, and so left alone: " in said and f"deleted: {len(found) - 1} entries" in said
    assert (copy / "store" / "cells" / one.id).is_dir()
    assert (copy / "store" / "examples" / one.id).is_dir()


def test_nothing_is_deleted_while_a_run_holds_the_folder(copy: Path) -> None:
    before = stored(copy)
    with locked(copy):
        with pytest.raises(UserError, match="in use by process"):
            rbench("prune", copy)
        assert stored(copy) == before
        assert "would be deleted" in rbench("prune", copy, "--dry-run")


@pytest.mark.parametrize("name", ["table1", "eot_cost"])
def test_committed_runs_hold_nothing_else(name: str) -> None:
    """Among theirs are sweeps over draws, and sentinels, of RNA."""
    folder = ROOT / "reports" / name
    store = RunStore(folder)
    named = {cell.cell_id for cell in store.read_manifest().cells}
    assert set(store.cell_ids()) > named
    assert find_leftovers(folder).found == ()


def test_a_folder_that_is_none_of_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        rbench("prune", tmp_path / "none")
    assert not (tmp_path / "none").exists()
