"""Cells in chunks: what is finished is kept, and the whole is as if it had been run at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_checkpoints import save

from bench.core.errors import UserError
from bench.core.paths import Where
from bench.core.result import CellInfo, Row
from bench.run import chunks
from bench.run.chunks import ChunkedCells, cut, join
from bench.run.job import Job, execute, failed
from bench.run.local import J, R
from bench.run.prepare import local_lookup
from bench.run.schedule import cells_to_run, make_jobs, run_cells
from bench.store.run_store import Chunk, RunStore
from bench.suite.load import load_suite
from bench.suite.plan import Plan, make_plan
from bench.suite.watcher import Summary, Watcher

pytestmark = pytest.mark.process

SUITE = """
suite: chunked
data: {{name: "npz:{data}"}}
threat_model: {{norm: linf, eps: 0.1}}
batch_size: 4
n_draws: 3
search: exact
models: [first, drawn, {{checkpoint: first, stats: batch}}]
attacks: [natural, {{attack: pgd, params: {{n_iter: 2, alpha: 0.03}}}},
  {{attack: pgd, label: longer, params: {{n_iter: 4, alpha: 0.03}}}}]
"""
N_BATCHES = 5


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with checkpoints, 18 images and a suite of 9 cells of 5 batches each."""
    folder = tmp_path_factory.mktemp("made")
    save(folder / "checkpoints" / "first", "bn", 1)
    save(folder / "checkpoints" / "drawn", {"name": "rna", "pool": ["bn", "in"]}, 3)
    x = np.random.default_rng(0).random((18, 1, 8, 8)).astype(np.float32)
    np.savez(folder / "made.npz", x=x, y=np.arange(18) % 3)
    (folder / "suite.yaml").write_text(SUITE.format(data=folder / "made.npz"))
    return folder


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a chunk of every batch."""
    monkeypatch.setattr(chunks, "PASSES", 1)


class Here:
    """Runs jobs in this process; some are lost, and from one on nothing is run.

    Args:
        lost: Whether a job is lost.
        stops_after: Tasks that are run.
    """

    def __init__(
        self, lost: Callable[[Job], bool] = lambda job: False, stops_after: int = 10**6
    ) -> None:
        self._lost, self._left = lost, stops_after
        self.ran: list[tuple[str, int]] = []

    def run(
        self, work: Callable[[J], R], jobs: Sequence[J], lost: Callable[[J, str], R]
    ) -> Iterator[tuple[J, R] | None]:
        for task in jobs:
            yield None
            if self._left == 0:
                return
            self._left -= 1
            parts: Any = task
            self.ran += [(job.spec.cell_id, i) for job in parts for i in range(job.first, job.last)]
            gone = any(self._lost(job) for job in parts)
            yield task, lost(task, "its worker died") if gone else work(task)


def run(made: Path, out: Path, workers: Here) -> tuple[Plan, RunStore, Summary]:
    lookup = local_lookup(Where(made / "checkpoints"))
    plan = make_plan(load_suite(made / "suite.yaml", lookup))
    store = RunStore(out)
    jobs = make_jobs(cells_to_run(plan, store), Where(made / "checkpoints"))
    return plan, store, run_cells(plan, store, jobs, workers, Watcher())


def one_job(made: Path) -> Job:
    """Returns the second cell: a few steps of PGD on BatchNorm."""
    lookup = local_lookup(Where(made / "checkpoints"))
    plan = make_plan(load_suite(made / "suite.yaml", lookup))
    (job,) = make_jobs([plan.cells[1]], Where(made / "checkpoints"))
    return job


def rows_of(plan: Plan, store: RunStore) -> dict[str, list[Row]]:
    return {cell.cell_id: store.read_cell(cell.cell_id)[1] for cell in plan.cells}


@pytest.mark.usefixtures("small")
def test_a_stopped_run_goes_on_at_the_next_chunk_and_ends_as_one_that_was_not(
    made: Path, tmp_path: Path
) -> None:
    whole_plan, whole, _ = run(made, tmp_path / "whole", Here())
    expected = rows_of(whole_plan, whole)
    ran: list[tuple[str, int]] = []
    attempts = 0
    while True:
        attempts += 1
        workers = Here(stops_after=4)
        plan, store, summary = run(made, tmp_path / "cut", workers)
        ran += workers.ran
        if not summary.open:
            break
    assert attempts > 5, "it was stopped many times"
    assert len(ran) == len(set(ran)) == len(expected) * N_BATCHES, "nothing was run twice"
    assert rows_of(plan, store) == expected
    assert not list((tmp_path / "cut/store/chunks").iterdir()), "chunks go when their cell is whole"


@pytest.mark.usefixtures("small")
def test_a_lost_chunk_costs_its_own_cell_and_alone_is_run_again(made: Path, tmp_path: Path) -> None:
    plan, _, _ = run(made, tmp_path / "plan", Here(stops_after=0))
    bad = plan.cells[0].cell_id

    def third(job: Job) -> bool:
        return job.spec.cell_id == bad and job.first == 2

    plan, store, summary = run(made, tmp_path / "run", Here(third))
    assert [why for *_, why in summary.incomplete] == ["its worker died"]
    assert not summary.open and len(store.cell_ids()) == len(plan.cells)
    info, rows = store.read_cell(bad)
    assert not info.complete and len(rows) == 14, "18 images, of which 4 are lost"
    again = Here()
    plan, store, summary = run(made, tmp_path / "run", again)
    assert again.ran == [(bad, 2)] and not summary.incomplete
    _, whole, _ = run(made, tmp_path / "whole", Here())
    assert rows_of(plan, store) == rows_of(plan, whole)


@pytest.mark.usefixtures("small")
def test_a_cell_that_was_whole_but_for_its_last_step_is_put_together(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: ChunkedCells, info: CellInfo, rows: list[Row]) -> None:
        raise UserError("killed")

    monkeypatch.setattr(ChunkedCells, "_store_whole", killed)
    # The last chunk of a cell is not stored by itself: it is lost with the kill.
    with pytest.raises(UserError, match="killed"):
        run(made, tmp_path, Here())
    monkeypatch.undo()
    monkeypatch.setattr(chunks, "PASSES", 1)
    workers = Here()
    plan, store, summary = run(made, tmp_path, workers)
    assert not summary.open and not summary.incomplete
    assert len(workers.ran) < len(plan.cells) * N_BATCHES
    assert all(store.has(cell.cell_id) for cell in plan.cells)


def test_a_damaged_chunk_is_named_with_what_to_do(made: Path, tmp_path: Path, small: None) -> None:
    run(made, tmp_path, Here(stops_after=2))
    (chunk, *_) = sorted((tmp_path / "store/chunks").iterdir())
    content = bytearray((chunk / "rows.parquet").read_bytes())
    content[len(content) // 2] ^= 1
    (chunk / "rows.parquet").write_bytes(content)
    with pytest.raises(UserError, match=rf"{chunk.name}.*damaged.*delete the folder"):
        run(made, tmp_path, Here())


@given(
    n=st.integers(1, 40),
    done=st.sets(st.integers(0, 39)),
    cost=st.floats(2, 1e6),
    passes=st.integers(1, 10**6),
)
def test_chunks_hold_every_open_batch_once(
    made: Path, n: int, done: set[int], cost: float, passes: int
) -> None:
    job = replace(one_job(made), cost=cost, n_images=4 * n)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "PASSES", passes)
        stored = [Chunk(i, i + 1, failed(job, ""), []) for i in sorted(done) if i < n]
        tasks = list(cut([job], [stored]))
    found = [i for task in tasks for one in task for i in range(one.first, one.last or n)]
    assert sorted(found) == [i for i in range(n) if i not in done]
    total = sum(one.cost for task in tasks for one in task)
    assert total == pytest.approx(cost * len(found) / n)


@settings(max_examples=6)
@given(cuts=st.sets(st.integers(1, N_BATCHES - 1)))
def test_a_cell_in_pieces_is_the_cell(made: Path, cuts: set[int]) -> None:
    job = one_job(made)
    whole, rows, _ = execute(job)
    edges = [0, *sorted(cuts), N_BATCHES]
    pieces = []
    for first, last in pairwise(edges):
        pieces.append(Chunk(first, last, *execute(replace(job, first=first, last=last))[:2]))
    joined, joined_rows = join(pieces[::-1])
    assert joined_rows == rows
    timeless = {"seconds": 0, "date": ""}
    assert joined.model_copy(update=timeless) == whole.model_copy(update=timeless)


def test_chunks_of_runs_that_were_cut_differently_hold_each_batch_once(made: Path) -> None:
    job = one_job(made)
    _, rows, _ = execute(job)
    overlapping = [
        Chunk(first, last, *execute(replace(job, first=first, last=last))[:2])
        for first, last in ((0, 1), (0, 2), (1, 4), (3, 5))
    ]
    info, joined_rows = join(overlapping)
    assert info.complete
    assert joined_rows == rows
