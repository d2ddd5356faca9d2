"""A check within a budget, from a suite and a baseline to verdicts, with real models."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from bench.check.chosen import read_chosen
from bench.check.compare import Rules
from bench.check.verdict import Check
from bench.cli import budgeting
from bench.cli.budgeting import budget_command, parse_budget
from bench.core.errors import UserError
from bench.run import calibrate, sampled
from bench.run.catalog import LocalCatalog
from bench.run.local import Workers
from bench.run.sampled import Deadline
from bench.run.stop import Stop
from bench.run.suite import Watcher, cells_to_run, make_jobs, run_suite
from bench.store import RunStore
from bench.suite import load_suite, make_plan
from bench.zoo import open_checkpoint

sys.path.append(str(Path(__file__).parents[1] / "run"))
from made_checkpoints import save

N = 160
SUITE = """
suite: tiny
data: {{name: "npz:{data}"}}
threat_model: {{norm: linf, eps: 0.02}}
batch_size: 8
search: exact
convergence_images: 0
models:
  - {{checkpoint: first, label: single}}
  - {{checkpoint: first, stats: batch, label: together}}
attacks: [natural, fgsm, {{attack: pgd, params: {{n_iter: 3}}}}]
"""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5m", 300), ("90s", 90), ("1h", 3600), ("300", 300), (" 1.5 m ", 90), ("0.5", 0.5)],
)
def test_budgets_are_times(text: str, seconds: float) -> None:
    assert parse_budget(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "m", "5 minutes", "-5m", "0", "0s", "1e3", "nan", "5m30s", "٣"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--budget: expected a time such as 90s, 5m or 1h"):
        parse_budget(text)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Makes a checkpoint, data, a suite and a run of it, which is the baseline."""
    folder = tmp_path_factory.mktemp("budget")
    save(folder / "checkpoints" / "first", "bn", 1)
    rng = np.random.default_rng(0)
    x = rng.random((N, 1, 8, 8)).astype(np.float32)
    # The labels are what the model says, so that there is something to lose.
    model = open_checkpoint(folder / "checkpoints" / "first").load("population").eval()
    y = model(torch.from_numpy(x)).argmax(1).numpy()
    y[:3] = range(3)
    np.savez(folder / "made.npz", x=x, y=y)
    (folder / "tiny.yaml").write_text(SUITE.format(data=folder / "made.npz"))
    catalog = LocalCatalog(folder / "checkpoints", None)
    plan = make_plan(load_suite(folder / "tiny.yaml", catalog), catalog)
    store = RunStore(folder / "baseline")
    store.write_manifest(plan.manifest())
    jobs = make_jobs(cells_to_run(plan, store), folder / "checkpoints", None, "cpu")
    with Workers(1) as workers:
        assert not run_suite(plan, store, jobs, workers, Watcher()).incomplete
    return folder


def check(made: Path, out: Path, budget: str = "1h", **changes: object) -> Check:
    values: dict[str, object] = {
        "suite": str(made / "tiny.yaml"),
        "baseline": str(made / "baseline"),
        "budget_text": budget,
        "out": str(out),
        "data_root": None,
        "checkpoints": made / "checkpoints",
        "device": "cpu",
        "workers": 1,
        "rules": Rules(),
    }
    return budget_command(Console(quiet=True), **(values | changes))  # type: ignore[arg-type]


@pytest.fixture
def dear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes an image of an attack seem to cost minutes, so that there is time for some only."""

    def seconds(cells: list, *_: object, **__: object) -> list[float]:
        return [{"natural": 0.1, "fgsm": 15.0, "pgd": 15.0}[c.attack_label] for c in cells]

    monkeypatch.setattr(budgeting, "image_seconds", seconds)


def test_an_unchanged_model_passes_on_some_of_its_images(
    made: Path, tmp_path: Path, dear: None
) -> None:
    found = check(made, tmp_path)
    assert found.exit_code == 0
    assert {cell.verdict for cell in found.cells} == {"same"}
    assert {cell.model for cell in found.cells} == {"single", "together"}
    chosen = read_chosen(tmp_path)
    assert chosen is not None
    attacked = [choice for choice in chosen.choices if choice.attack != "natural"]
    assert [choice.how for choice in attacked] == ["near", "near batches"]
    assert all(20 < len(choice.index) < N for choice in attacked)
    store = RunStore(tmp_path)
    for cell, choice in zip(store.read_manifest().cells, chosen.choices, strict=True):
        _, rows = store.read_cell(str(cell.cell_id))
        assert [row.index for row in rows] == list(choice.index)


def test_a_check_that_was_stopped_goes_on_with_what_it_chose(
    made: Path, tmp_path: Path, dear: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(budgeting, "Deadline", lambda stop, ends: Deadline(stop, 0.0))
        over = check(made, tmp_path)
    assert over.exit_code == 3
    assert all("budget was used up" in cell.reasons[0] for cell in over.cells)
    chosen = read_chosen(tmp_path)
    monkeypatch.setattr(budgeting, "image_seconds", lambda *_: pytest.fail("timed again"))
    done = check(made, tmp_path)
    assert done.exit_code == 0 and read_chosen(tmp_path) == chosen
    monkeypatch.setattr(budgeting, "run_suite", _nothing_to_run)
    assert check(made, tmp_path).cells == done.cells


def _nothing_to_run(plan: object, store: object, jobs: list, *_: object) -> None:
    assert not jobs


def test_another_check_starts_afresh(made: Path, tmp_path: Path, dear: None) -> None:
    check(made, tmp_path)
    stored = set(RunStore(tmp_path).cell_ids())
    check(made, tmp_path, budget="30m")
    assert stored - set(RunStore(tmp_path).cell_ids())


def test_the_folder_of_a_whole_run_is_left_alone(made: Path) -> None:
    before = RunStore(made / "baseline").cell_ids()
    with pytest.raises(UserError, match="found a run; choose another with --out"):
        check(made, made / "baseline")
    assert RunStore(made / "baseline").cell_ids() == before


def test_another_model_is_found_out_with_passes_that_are_really_timed(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "SPENT", 0.01)
    zoo = tmp_path / "checkpoints"
    save(zoo / "first", "bn", 2)
    found = check(made, tmp_path / "run", budget="10m", checkpoints=zoo)
    assert {cell.model for cell in found.cells} == {"single", "together"} and found.exit_code == 1
    assert {cell.verdict for cell in found.cells if cell.fails} == {"regressed"}


def test_what_the_suite_measures_otherwise_is_not_run(
    made: Path, tmp_path: Path, dear: None
) -> None:
    text = (made / "tiny.yaml").read_text()
    (tmp_path / "tiny.yaml").write_text(text.replace("n_iter: 3", "n_iter: 4"))
    found = check(made, tmp_path / "run", suite=str(tmp_path / "tiny.yaml"))
    others = {cell.name: cell.reasons for cell in found.cells if cell.verdict == "not comparable"}
    assert others == {
        "single / pgd": ("n_iter 4, was 3",),
        "together / pgd": ("n_iter 4, was 3",),
    }
    assert found.exit_code == 3


def test_too_short_a_budget_is_refused(made: Path, tmp_path: Path, dear: None) -> None:
    with pytest.raises(UserError, match="--budget: expected more than"):
        check(made, tmp_path, budget="0.1s")


def test_a_deadline_asks_to_stop_and_hears_others() -> None:
    stop = Stop()
    assert Deadline(stop, 0.0).asked
    late = Deadline(stop, float("inf"))
    assert not late.asked
    stop.signal = signal.SIGTERM
    assert late.asked


def test_short_cells_are_run_first() -> None:
    class Recorder:
        def run(self, work: object, jobs: list, lost: object) -> object:
            return iter(jobs)

    class Spec:
        def __init__(self, cell_id: str) -> None:
            self.cell_id = cell_id

    class Fake:
        def __init__(self, name: str, cost: float) -> None:
            self.spec, self.cost = Spec(name), cost

    long, short = Fake("long", 9.0), Fake("short", 1.0)
    executor = sampled.ShortestFirst(Recorder(), [long, short])  # type: ignore[arg-type,list-item]
    assert list(executor.run(print, [(long,), (short,)], print)) == [(short,), (long,)]
