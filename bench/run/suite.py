"""Runs a planned suite: what is stored is skipped, what finishes is stored at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.attacks import get_attack
from bench.core.identity import canonical_json
from bench.core.result import CellInfo, Row
from bench.run.job import Job, execute_chain
from bench.run.local import Workers
from bench.store import RunStore
from bench.suite import Plan, PlannedCell

Show = Callable[[CellInfo, list[Row]], None]


@dataclass(frozen=True)
class Summary:
    """How a run ended.

    Attributes:
        ran: Cells run now.
        swept: Cells run beside them, of convergence sweeps.
        kept: Cells that were stored already.
        refused: Combinations that the plan refused.
        incomplete: ``(model, attack, reason)`` of each cell that has no full result.
    """

    ran: int
    swept: int
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


def chains(jobs: list[Job]) -> list[tuple[Job, ...]]:
    """Groups jobs whose attacks go on where one another end, shortest first; the costliest lead.

    A group is run by one worker, which then takes each step once (``bench.run.shared``).
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
    plan: Plan,
    store: RunStore,
    jobs: list[Job],
    workers: Workers,
    show: Show,
    tick: Callable[[], None],
) -> Summary:
    """Runs jobs, the costliest first, storing and showing each result.

    One failed cell never stops the others.

    Args:
        plan: The whole suite, for the summary and for what is stored already.
        store: The run folder's store.
        jobs: What is to run, each id once; cells of convergence sweeps may be among them.
        workers: Do the work.
        show: Called with each result, stored ones first.
        tick: Called a few times a second, for a display.
    """
    wanted = {cell.spec.cell_id for cell in plan.cells if not cell.refused}
    stored = wanted - {job.spec.cell_id for job in jobs}
    for cell_id in sorted(stored):
        show(*store.read_cell(cell_id))
    failed: dict[str, str] = {}
    for outcome in workers.run(execute_chain, chains(jobs)):
        if outcome is None:
            tick()
            continue
        for info, rows in outcome[1]:
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
    ran = sum(job.spec.cell_id in wanted for job in jobs)
    return Summary(ran, len(jobs) - ran, len(stored), refused, incomplete)
