"""Runs a planned suite: what is stored is skipped, what finishes is stored at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.core.result import CellInfo, Row
from bench.run.job import Job
from bench.run.local import run_jobs
from bench.store import RunStore
from bench.suite import Plan, PlannedCell

Show = Callable[[CellInfo, list[Row]], None]


@dataclass(frozen=True)
class Summary:
    """How a run ended.

    Attributes:
        ran: Cells run now.
        kept: Cells that were stored already.
        refused: Combinations that the plan refused.
        incomplete: ``(model, attack, reason)`` of each cell that has no full result.
    """

    ran: int
    kept: int
    refused: int
    incomplete: tuple[tuple[str, str, str], ...]


def cells_to_run(plan: Plan, store: RunStore) -> list[PlannedCell]:
    """Returns the cells that are neither refused nor stored, each id once."""
    pending: dict[str, PlannedCell] = {}
    for cell in plan.cells:
        if not cell.refused and not store.has(cell.spec.cell_id):
            pending.setdefault(cell.spec.cell_id, cell)
    return list(pending.values())


def make_jobs(
    cells: list[PlannedCell], checkpoints: Path, data_root: Path | None, device: str
) -> list[Job]:
    """Turns planned cells into jobs for an executor."""
    return [
        Job(c.spec, c.attack_kind, checkpoints, data_root, device, cost=c.passes or 1.0)
        for c in cells
    ]


def run_suite(
    plan: Plan, store: RunStore, jobs: list[Job], workers: int, show: Show, tick: Callable[[], None]
) -> Summary:
    """Runs jobs, storing and showing each result; one failed cell never stops the others.

    Args:
        plan: The whole suite, for the summary and for what is stored already.
        store: The run folder's store.
        jobs: What is to run.
        workers: Worker processes.
        show: Called with each result, stored ones first.
        tick: Called a few times a second, for a display.
    """
    wanted = {cell.spec.cell_id for cell in plan.cells if not cell.refused}
    stored = wanted - {job.spec.cell_id for job in jobs}
    for cell_id in sorted(stored):
        show(*store.read_cell(cell_id))
    failed: dict[str, str] = {}
    for outcome in run_jobs(jobs, workers):
        if outcome is None:
            tick()
            continue
        _, info, rows = outcome
        store.write_cell(info, rows)
        show(info, rows)
        if not info.complete:
            failed[info.cell_id] = info.error
    incomplete = tuple(
        (cell.model_label, cell.attack_label, failed[cell.spec.cell_id])
        for cell in plan.cells
        if cell.spec.cell_id in failed
    )
    refused = sum(bool(cell.refused) for cell in plan.cells)
    return Summary(len(jobs), len(stored), refused, incomplete)
