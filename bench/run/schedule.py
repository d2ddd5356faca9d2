"""Runs the cells of a plan: stored ones are skipped, finished ones are stored at once."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from bench.alarms.sentinel import ATTACK as SENTINEL
from bench.attacks import get_attack
from bench.core.paths import Where
from bench.core.result import CellInfo
from bench.core.spec import canonical_json
from bench.run.chunks import ChunkedCells, cut
from bench.run.job import Job, execute_chain, lost_chain
from bench.run.local import Executor
from bench.store.run_store import RunStore
from bench.suite.plan import Plan, PlannedCell
from bench.suite.watcher import Summary, Watcher


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


def make_jobs(cells: Iterable[PlannedCell], where: Where, *, save_adv: bool = False) -> list[Job]:
    """Returns a job for each cell; with ``save_adv`` it returns adversarial examples too."""
    return [
        Job(
            cell.spec,
            cell.attack_kind,
            where,
            cell.passes or 1.0,
            cell.n_images,
            save_adv=save_adv and cell.attack_kind != "none",
        )
        for cell in cells
    ]


def chains(jobs: Sequence[Job]) -> list[tuple[Job, ...]]:
    """Groups jobs whose attacks resume one another, shortest first; the costliest group leads.

    One worker runs a group, and so computes each step once (``bench.evaluation.cell``).
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


def run_cells(
    plan: Plan, store: RunStore, jobs: Sequence[Job], workers: Executor, watcher: Watcher
) -> Summary:
    """Runs jobs in chunks, the costliest cells first, and stores each chunk as it ends.

    A failed cell does not stop the others. Stored chunks of an unfinished cell are not run again.

    Args:
        plan: The whole suite; its cells without a job are stored already, or refused.
        store: The run folder's store.
        jobs: The cells to run, each id once; cells of convergence sweeps may be among them.
        workers: Do the work.
        watcher: Is shown each cell, stored ones first.
    """
    started = time.monotonic()
    wanted = {cell.cell_id for cell in plan.cells if not cell.refused}
    for cell_id in sorted(wanted.difference(job.spec.cell_id for job in jobs)):
        watcher.show(*store.read_cell(cell_id))
    ended: dict[str, CellInfo] = {}
    chunked = ChunkedCells(store, jobs)
    tasks = [task for group in chains(jobs) for task in cut(group, chunked.stored(group))]
    for one in chunked.finished():
        ended[one[0].cell_id] = one[0]
        watcher.show(*one)
    for outcome in workers.run(execute_chain, tasks, lost_chain):
        if outcome is None:
            watcher.refresh()
            continue
        for job, done in zip(*outcome, strict=True):
            watcher.progress(job.spec.cell_id, job.cost)
            cell = chunked.add(job, done)
            if cell is not None:
                ended[cell[0].cell_id] = cell[0]
                watcher.show(*cell)
    return _summary(plan, jobs, ended, time.monotonic() - started)


def _summary(
    plan: Plan, jobs: Sequence[Job], ended: Mapping[str, CellInfo], seconds: float
) -> Summary:
    """Sums up a run; ``ended`` holds the cells that ran, checks of attacks included, by id."""
    wanted = {cell.cell_id for cell in plan.cells if not cell.refused}
    checks = [info.spec.attack for cell_id, info in ended.items() if cell_id not in wanted]
    sentinels = checks.count(SENTINEL)
    failed = {cell_id: info.error for cell_id, info in ended.items() if not info.complete}
    return Summary(
        ran=len(ended) - len(checks),
        swept=len(checks) - sentinels,
        sentinels=sentinels,
        kept=len(wanted.difference(job.spec.cell_id for job in jobs)),
        refused=sum(bool(cell.refused) for cell in plan.cells),
        incomplete=tuple(
            (f"{cell.model_label} / {cell.attack_label}", failed[cell.cell_id])
            for cell in plan.cells
            if cell.cell_id in failed
        ),
        open=len(jobs) - len(ended),
        seconds=seconds,
    )
