"""After a run: a short sweep per model, whether more effort would have broken more images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from bench.core.cell import CellSpec, DataSpec
from bench.run.job import Job
from bench.suite import Plan, PlannedCell
from bench.suite.catalog import AttackKind
from bench.verify.alarm_base import ENSEMBLES, ITERATIVE
from bench.verify.alarm_pairs import effort_of
from bench.verify.convergence import Sweep, convergence_sweep


def plan_sweeps(
    plan: Plan, data_hash: Callable[[DataSpec], str]
) -> list[tuple[Sweep, PlannedCell]]:
    """Lays out a sweep for each model: of its longest white-box attack that iterates on gradients.

    Args:
        plan: The run; its suite says how many images a sweep takes, 0 for no sweep.
        data_hash: Returns the hash of a slice.

    Returns:
        Each sweep with the cell whose number it is about.
    """
    n = plan.suite.convergence_images
    chosen: dict[int, PlannedCell] = {}
    for cell in plan.cells if n else ():
        if not cell.refused and _can_sweep(cell):
            best = chosen.get(cell.model_index)
            if best is None or (cell.passes or 0) > (best.passes or 0):
                chosen[cell.model_index] = cell
    sweeps: dict[str, tuple[Sweep, PlannedCell]] = {}
    for cell in chosen.values():
        # Images of a batch may depend on each other; then one batch alone would show nothing.
        limit = min(max(n, 2 * cell.spec.batch_size if cell.batch_dependent else n), plan.n_images)
        data = cell.spec.data.first(limit)
        sweep = convergence_sweep(
            cell.spec, data, data_hash(data), stochastic=cell.spec.n_draws > 1
        )
        sweeps.setdefault(cell.cell_id, (sweep, cell))
    return list(sweeps.values())


def _can_sweep(cell: PlannedCell) -> bool:
    name = cell.spec.attack.rpartition(":")[2].lower()
    return (
        cell.spec.protocol == "white_box"
        and name in ITERATIVE - ENSEMBLES
        and effort_of(cell.spec, "n_iter") is not None
    )


def sweep_jobs(
    sweeps: Sequence[tuple[Sweep, PlannedCell]],
    others: Iterable[str],
    like: Callable[[CellSpec, AttackKind, float, int], Job],
) -> list[Job]:
    """Returns the jobs of all sweeps, each id once.

    Args:
        sweeps: With the cells that they are about.
        others: Ids of cells that are stored, or run anyway.
        like: Makes a job of a cell, its attack's kind, its estimated passes and its images.
    """
    jobs: dict[str, Job] = {}
    for sweep, about in sweeps:
        for spec in sweep.cells:
            n_images = spec.data.n_images or about.n_images
            share = n_images / about.n_images
            effort = (effort_of(spec, "n_iter") or 1) * spec.eot_iter
            base = (effort_of(about.spec, "n_iter") or 1) * about.spec.eot_iter
            cost = (about.passes or 1.0) * share * effort / base
            jobs.setdefault(spec.cell_id, like(spec, about.attack_kind, cost, n_images))
    taken = set(others)
    return [job for cell_id, job in jobs.items() if cell_id not in taken]
