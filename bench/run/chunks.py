"""Chunks: cells run, and are stored, some whole batches at a time, so that a killed run resumes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from bench.core.result import CellInfo, Row
from bench.run.job import Done, Job
from bench.store.run_store import Chunk, RunStore, join

PASSES = 20_000
"""Passes of single images in a chunk, about: some 10 s of a small network on one core."""


def cut(jobs: Sequence[Job], stored: Sequence[Sequence[Chunk]]) -> Iterator[tuple[Job, ...]]:
    """Cuts jobs that run one after the other on the same batches into chunks.

    Args:
        jobs: Cells on the same images, in batches of the same size.
        stored: The finished chunks of each job.

    Yields:
        The jobs of each chunk, without those for which it is finished.
    """
    n = jobs[0].n_batches
    known = all(job.cost > 1 for job in jobs)
    each = sum(job.cost for job in jobs) / n
    size = max(1, round(PASSES / each)) if known else 1
    done = [{i for chunk in some for i in chunk.batches} for some in stored]
    for begun in range(0, n, size):
        wanted = range(begun, min(begun + size, n))
        parts = [
            replace(job, first=run.start, last=run.stop, cost=job.cost * len(run) / n)
            for job, mine in zip(jobs, done, strict=True)
            for run in _runs(wanted, mine)
        ]
        if parts:
            yield tuple(parts)


def _runs(wanted: range, done: set[int]) -> Iterator[range]:
    """Yields the stretches of a range that are not done, in order."""
    begun = wanted.start
    for i in (*(i for i in wanted if i in done), wanted.stop):
        if i > begun:
            yield range(begun, i)
        begun = i + 1


class ChunkedCells:
    """The chunks of a run's cells, stored one by one until their cell is whole.

    Args:
        store: The store of the run folder.
        jobs: The cells to run, each as one job.
    """

    def __init__(self, store: RunStore, jobs: Sequence[Job]) -> None:
        self._store = store
        self._wanted = {job.spec.cell_id: job.n_batches for job in jobs}
        self._chunks = {job.spec.cell_id: self._usable(job) for job in jobs}

    def _usable(self, job: Job) -> list[Chunk]:
        """Returns the stored chunks of a cell, with ``save_adv`` those that have examples too."""
        cell_id = job.spec.cell_id
        found = self._store.chunks.read(cell_id)
        if not job.save_adv:
            return found
        have = self._store.examples.batches(cell_id)
        return [chunk for chunk in found if have.issuperset(chunk.batches)]

    def stored(self, jobs: Sequence[Job]) -> list[list[Chunk]]:
        """Returns the finished chunks of each job."""
        return [self._chunks[job.spec.cell_id] for job in jobs]

    def finished(self) -> list[tuple[CellInfo, list[Row]]]:
        """Stores and returns the cells whose chunks were all there, but not yet joined."""
        joined = [self._joined(cell_id) for cell_id in self._wanted]
        return [self._store_whole(*cell) for cell in joined if cell is not None]

    def add(self, job: Job, done: Done) -> tuple[CellInfo, list[Row]] | None:
        """Stores the result of a job; returns its cell once all of its chunks have ended."""
        cell_id, first = job.spec.cell_id, job.first
        last = job.n_batches if job.last is None else job.last
        chunk = Chunk(first, last, done.info, done.rows)
        for number, x_adv in enumerate(done.x_adv, first):
            index = [row.index for row in done.rows if row.batch == number]
            self._store.examples.write(cell_id, number, index, x_adv)
        self._chunks[cell_id].append(chunk)
        cell = self._joined(cell_id)
        if done.info.complete and not (cell and cell[0].complete):
            self._store.chunks.write(chunk)
        return None if cell is None else self._store_whole(*cell)

    def _joined(self, cell_id: str) -> tuple[CellInfo, list[Row]] | None:
        """Returns a cell if every batch of it has ended."""
        chunks = self._chunks[cell_id]
        n = len({batch for chunk in chunks for batch in chunk.batches})
        return join(chunks) if n >= self._wanted[cell_id] else None

    def _store_whole(self, info: CellInfo, rows: list[Row]) -> tuple[CellInfo, list[Row]]:
        self._store.write_cell(info, rows)
        self._chunks[info.cell_id] = []
        return info, rows
