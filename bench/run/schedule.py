"""Runs a planned suite: what is stored is skipped, what finishes is stored at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.attacks import get_attack
from bench.core.result import CellInfo, Row
from bench.core.spec import canonical_json
from bench.run.chunks import Parts, cut
from bench.run.job import Job, execute_chain, lost_chain
from bench.run.local import Executor
from bench.store import RunStore
from bench.suite import Plan, PlannedCell


class Watcher:
    """Is told how a run goes on; by itself it does nothing about it."""

    def show(self, info: CellInfo, rows: list[Row]) -> None:
        """Is told of a cell that has ended, or was stored already."""

    def progress(self, cell_id: str, cost: float) -> None:
        """Is told that a part of a cell, of so many estimated passes, has ended."""

    def refresh(self) -> None:
        """Is called a few times a second."""


@dataclass(frozen=True)
class Summary:
    """How a run ended.

    Attributes:
        ran: Cells run now.
        swept: Cells run beside them, of convergence sweeps.
        kept: Cells that were stored already.
        refused: Combinations that the plan refused.
        incomplete: ``(model, attack, reason)`` of each cell that has no full result.
        open: Cells that were not finished, as somebody stopped the run.
    """

    ran: int
    swept: int
    kept: int
    refused: int
    incomplete: tuple[tuple[str, str, str], ...]
    open: int = 0


def cells_to_run(plan: Plan, store: RunStore, *, save_adv: bool = False) -> list[PlannedCell]:
    """Returns the cells that are neither refused nor stored, each id once.

    With ``save_adv``, one without stored adversarial examples is run again for them.
    """
    pending = []
    for cell in plan.to_run:
        wants = save_adv and cell.attack_kind != "none"
        lacks = wants and not store.examples.has(cell.cell_id, cell.n_batches)
        if lacks or not store.has(cell.cell_id):
            pending.append(cell)
    return pending


def make_jobs(
    cells: list[PlannedCell],
    checkpoints: Path,
    data_root: Path | None,
    device: str,
    *,
    save_adv: bool = False,
    trust_code: bool = False,
) -> list[Job]:
    """Turns planned cells into jobs for an executor."""
    places = (checkpoints, data_root, device)
    return [
        Job(
            c.spec,
            c.attack_kind,
            *places,
            c.passes or 1.0,
            c.n_images,
            save_adv=save_adv and c.attack_kind != "none",
            trust_code=trust_code,
        )
        for c in cells
    ]


def chains(jobs: Sequence[Job]) -> list[tuple[Job, ...]]:
    """Groups jobs whose attacks go on where one another end, shortest first; the costliest lead.

    A group is run by one worker, which then takes each step once (``bench.evaluation.cell``).
    """
    groups: dict[object, list[Job]] = {}
    for job in jobs:
        params = dict(job.spec.attack_params)
        key: object = job.spec.cell_id
        if get_attack(job.spec.attack).extends and params.get("alpha") is not None:
            params.pop("n_iter", None)
            key = canonical_json(
                job.spec.model_copy(update={"attack_params": params}).model_dump(mode="json")
            )
        groups.setdefault(key, []).append(job)
    ordered = [tuple(sorted(group, key=lambda job: job.cost)) for group in groups.values()]
    return sorted(ordered, key=lambda group: -group[-1].cost)


def run_suite(
    plan: Plan, store: RunStore, jobs: Sequence[Job], workers: Executor, watcher: Watcher
) -> Summary:
    """Runs jobs in chunks, the costliest cells first, storing each chunk and showing each cell.

    One failed cell never stops the others. What is stored of a cell that is not finished is not run
    again.

    Args:
        plan: The whole suite, for the summary and for what is stored already.
        store: The run folder's store.
        jobs: What is to run, each id once; cells of convergence sweeps may be among them.
        workers: Do the work.
        watcher: Is told, of stored cells first.
    """
    wanted = {cell.spec.cell_id for cell in plan.cells if not cell.refused}
    stored = wanted - {job.spec.cell_id for job in jobs}
    for cell_id in sorted(stored):
        watcher.show(*store.read_cell(cell_id))
    ended: dict[str, CellInfo] = {}
    parts = Parts(store, jobs)
    tasks = [task for group in chains(jobs) for task in cut(group, parts.stored(group))]
    for one in parts.finished():
        ended[one[0].cell_id] = one[0]
        watcher.show(*one)
    for outcome in workers.run(execute_chain, tasks, lost_chain):
        if outcome is None:
            watcher.refresh()
            continue
        for job, done in zip(*outcome, strict=True):
            watcher.progress(job.spec.cell_id, job.cost)
            cell = parts.add(job, done)
            if cell is not None:
                ended[cell[0].cell_id] = cell[0]
                watcher.show(*cell)
    failed = {cell_id: info.error for cell_id, info in ended.items() if not info.complete}
    incomplete = tuple(
        (cell.model_label, cell.attack_label, failed[cell.spec.cell_id])
        for cell in plan.cells
        if cell.spec.cell_id in failed
    )
    refused = sum(bool(cell.refused) for cell in plan.cells)
    ran = sum(cell_id in wanted for cell_id in ended)
    return Summary(
        ran, len(ended) - ran, len(stored), refused, incomplete, open=len(jobs) - len(ended)
    )
