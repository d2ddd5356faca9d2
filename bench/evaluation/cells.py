"""Runs the cells of ``evaluate()``: in memory, or part by part in a folder, so that it resumes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.alarms.shared import CellResult
from bench.attacks.base import Attack
from bench.core.cell import CellSpec
from bench.core.errors import UserError
from bench.core.paths import folder_at
from bench.core.result import CellInfo, Row
from bench.data.slice import Slice
from bench.evaluation.cell import run_cell
from bench.evaluation.memory import Memory
from bench.evaluation.model import Target
from bench.evaluation.progress import Progress
from bench.oracle import Aids
from bench.store.lock import locked
from bench.store.run_store import Chunk, RunStore, join

PASSES = 20_000
"""Passes of single images after which a part of a cell is stored, about."""


@dataclass(frozen=True)
class Work:
    """A cell to run.

    Attributes:
        spec: The cell.
        data: Its images.
        passes: Estimated passes over single images, of all of them.
        attack: The attack, where it is in no registry.
        aids: What ``spec.adaptive`` names.
    """

    spec: CellSpec
    data: Slice
    passes: float
    attack: Attack | None = None
    aids: Aids | None = None

    @property
    def n_batches(self) -> int:
        """Batches of its images."""
        return -(-len(self.data.y) // self.spec.batch_size)


@dataclass(frozen=True)
class Ran:
    """A cell that was run.

    Attributes:
        result: Its info, without alarms, and its rows.
        x_adv: What the attack proposed for its images (n, c, h, w), NaN where it failed before;
            ``None`` where that is not kept.
    """

    result: CellResult
    x_adv: Tensor | None = None


@dataclass
class Cells:
    """Runs cells, and keeps them in a folder if there is one.

    Attributes:
        store: Of the folder; ``None`` keeps nothing.
        save_adv: Whether adversarial examples are kept.
        progress: Is told of each part.
    """

    store: RunStore | None
    save_adv: bool
    progress: Progress
    _alarms: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _ran: dict[str, Ran] = field(default_factory=dict)

    def run(self, name: str, work: Work, target: Target) -> Ran:
        """Returns a cell: as it is stored, or run now.

        Args:
            name: Of the attack, to be shown.
            work: The cell.
            target: Its model.
        """
        cell_id = work.spec.cell_id
        with self.progress.part(name, work.passes):
            if cell_id not in self._ran:
                self._ran[cell_id] = self._run(work, target)
            return self._ran[cell_id]

    def _run(self, work: Work, target: Target) -> Ran:
        if self.store is None:
            return self._in_memory(work, target)
        return self._stored(self.store, work) or self._in_folder(self.store, work, target)

    def again(self, name: str, work: Work, target: Target, memory: Memory | None) -> CellResult:
        """Returns a cell that looks behind others; one that this process ran is not run again."""
        key = ("cell", work.spec.cell_id, str(target.device))
        known = None if memory is None else memory.recall(key, CellResult)
        if known is not None:
            with self.progress.part(name, work.passes):
                return known
        found = replace(self, save_adv=False).run(name, work, target).result
        if memory is not None and found.info.complete:
            memory.keep(key, found)
        return found

    def write(self, info: CellInfo, rows: Sequence[Row]) -> None:
        """Stores a cell again, with its alarms, where these are not what is stored."""
        if self.store is not None and self._alarms.get(info.cell_id) != info.alarms:
            self.store.write_cell(info, rows)

    def _in_memory(self, work: Work, target: Target) -> Ran:
        kept: list[Tensor] = []
        keep = (lambda x_adv: kept.append(x_adv.detach().cpu())) if self.save_adv else None
        info, rows = run_cell(
            work.spec, target, work.data, keep=keep, aids=work.aids, attack=work.attack
        )
        return Ran(CellResult(info, tuple(rows)), self._joined(work, kept))

    def _stored(self, store: RunStore, work: Work) -> Ran | None:
        """Returns a cell that is stored whole, with its examples where these are wanted."""
        cell_id = work.spec.cell_id
        if not store.has(cell_id):
            return None
        if self.save_adv and not store.examples.has(cell_id, work.n_batches):
            return None
        info, rows = store.read_cell(cell_id)
        self._alarms[cell_id] = info.alarms
        x_adv = self._read_examples(store, work) if self.save_adv else None
        return Ran(CellResult(info.model_copy(update={"alarms": ()}), tuple(rows)), x_adv)

    def _in_folder(self, store: RunStore, work: Work, target: Target) -> Ran:
        """Runs the batches of a cell that are not stored, and stores them some at a time."""
        cell_id = work.spec.cell_id
        chunks = store.chunks.read(cell_id)
        if self.save_adv:
            have = store.examples.batches(cell_id)
            chunks = [chunk for chunk in chunks if have.issuperset(chunk.batches)]
        for part in self._parts(work, {i for chunk in chunks for i in chunk.batches}):
            chunks.append(self._run_part(store, work, target, part))
            if not chunks[-1].info.complete:
                break
        info, rows = join(chunks)
        store.write_cell(info, rows)
        x_adv = self._read_examples(store, work) if self.save_adv else None
        return Ran(CellResult(info, tuple(rows)), x_adv)

    def _parts(self, work: Work, done: set[int]) -> Iterator[range]:
        """Yields stretches of batches that are not done, each of about ``PASSES`` passes."""
        n = work.n_batches
        size = max(1, round(PASSES * n / max(work.passes, 1)))
        begun = 0
        for i in range(n + 1):
            if i == n or i in done or i - begun == size:
                if i > begun:
                    yield range(begun, i)
                begun = i + 1 if i in done else i

    def _run_part(self, store: RunStore, work: Work, target: Target, part: range) -> Chunk:
        kept: list[NDArray[np.float32]] = []

        def keep(x_adv: Tensor) -> None:
            kept.append(x_adv.detach().cpu().numpy())

        info, rows = run_cell(
            work.spec,
            target,
            work.data,
            first=part.start,
            last=part.stop,
            keep=keep if self.save_adv else None,
            aids=work.aids,
            attack=work.attack,
        )
        for number, x_adv in zip(part, kept, strict=False):
            index = [row.index for row in rows if row.batch == number]
            store.examples.write(info.cell_id, number, index, x_adv)
        chunk = Chunk(part.start, part.stop, info, rows)
        if info.complete:
            store.chunks.write(chunk)
        return chunk

    def _read_examples(self, store: RunStore, work: Work) -> Tensor | None:
        cell_id, kept = work.spec.cell_id, []
        for batch in range(work.n_batches):
            if not store.examples.folder(cell_id).is_dir() or batch not in (
                store.examples.batches(cell_id)
            ):
                break
            kept.append(torch.from_numpy(store.examples.read(cell_id, batch)[1].copy()))
        return self._joined(work, kept)

    def _joined(self, work: Work, kept: Sequence[Tensor]) -> Tensor | None:
        """Returns the examples of the first batches as those of all images."""
        if not self.save_adv:
            return None
        x_adv = torch.full(work.data.x.shape, torch.nan)
        if kept:
            first = torch.cat(list(kept))
            x_adv[: len(first)] = first
        return x_adv


@contextmanager
def kept_in(out: str | Path | None, suite: str) -> Iterator[RunStore | None]:
    """Yields the store of a folder that this process alone writes into; ``None`` without one.

    Args:
        out: The folder or its URL.
        suite: The name that its run has to have.

    Raises:
        UserError: When another process writes into it, or it holds the run of a suite.
    """
    if out is None:
        yield None
        return
    folder = folder_at(str(out))
    store = RunStore(folder)
    _refuse_another_run(store, suite)
    with locked(folder):
        store.sweep()
        yield store


def _refuse_another_run(store: RunStore, name: str) -> None:
    """Raises ``UserError`` when a folder holds the run of a suite, which would be replaced."""
    try:
        held = store.read_manifest().suite.get("suite")
    except UserError:  # nothing yet, or damage that is reported where it matters
        return
    if held != name:
        raise UserError(
            f"out: {store.folder} holds a run of suite '{held}', whose tables an evaluation would "
            "replace; choose another folder"
        )
