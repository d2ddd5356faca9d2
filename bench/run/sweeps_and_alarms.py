"""Sweeps and sentinels, which a run adds to its cells, and the alarms about cells that ended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from bench.alarms.convergence import Sweep, convergence_sweep, sweep_alarms
from bench.alarms.pairs import effort_of
from bench.alarms.rules import find_alarms
from bench.alarms.sentinel import (
    N_IMAGES,
    PARAMS,
    look_again,
    sentinel_cell,
    wants_sentinel,
    weak_attack_alarms,
)
from bench.alarms.shared import CellResult, alarms_by_cell, trusts_own_gradients
from bench.attacks import get_attack
from bench.core.attack import NO_ADVERSARY
from bench.core.cell import CellSpec, DataSpec
from bench.core.paths import Where
from bench.core.threat import ThreatModel
from bench.run.job import Job
from bench.run.probing import Probed, about_gradients, probe_key
from bench.store.run_store import RunStore
from bench.suite.plan import Plan, PlannedCell

Sentinel: TypeAlias = tuple[CellSpec, list[PlannedCell]]
"""A sentinel's cell, and the cells of its model that it looks behind."""


def raise_alarms(
    plan: Plan,
    store: RunStore,
    classes: int,
    probed: Mapping[str, Probed],
    sweeps: Sequence[Sweep],
    sentinels: Sequence[Sentinel],
) -> dict[str, tuple[str, ...]]:
    """Finds the alarms of a run's cells and stores them with the cells.

    Alarms depend on all cells of a run, so they are found again each time it ends.

    Args:
        plan: The run.
        store: Its store.
        classes: Number of classes of the data.
        probed: Findings about its models, by ``probe_key``.
        sweeps: Its convergence sweeps.
        sentinels: Its sentinels.

    Returns:
        The alarms of each cell that has any, by id.
    """
    cells = _stored(store, (cell.cell_id for cell in plan.cells if not cell.refused))
    alarms = list(find_alarms(cells, classes))
    for sweep in sweeps:
        results = _stored(store, (cell.cell_id for cell in sweep.cells))
        alarms += sweep_alarms(sweep, results)
    for sentinel, about in sentinels:
        for result in _stored(store, [sentinel.cell_id]):
            asked = _stored(store, (cell.cell_id for cell in about))
            alarms += weak_attack_alarms(asked, look_again(asked, result))
    by_cell = alarms_by_cell(dict.fromkeys(alarms))
    found: dict[str, tuple[str, ...]] = {}
    for cell in cells:
        cell_id = cell.info.cell_id
        mine = (*_doubts(cell, cells, probed), *by_cell.get(cell_id, ()))
        if mine:
            found[cell_id] = mine
        if cell.info.alarms != mine:
            store.write_cell(cell.info.model_copy(update={"alarms": mine}), list(cell.rows))
    return found


def _stored(store: RunStore, ids: Iterable[str]) -> list[CellResult]:
    return [CellResult(*store.read_cell(i)) for i in dict.fromkeys(ids) if store.stored(i)]


def _doubts(
    cell: CellResult, cells: Sequence[CellResult], probed: Mapping[str, Probed]
) -> tuple[str, ...]:
    """Returns the probe's doubts about a cell's model and its surrogate."""
    models = (cell.spec, cell.spec.surrogate)
    keys = [probe_key(model) for model in models if model is not None]
    found = dict.fromkeys(d for key in keys if key in probed for d in probed[key].doubts)
    if found and not trusts_own_gradients(cell, cells):
        return tuple(doubt for doubt in found if not about_gradients(doubt))
    return tuple(found)


def plan_sweeps(
    plan: Plan, data_hash: Callable[[DataSpec], str]
) -> list[tuple[Sweep, PlannedCell]]:
    """Plans a sweep for each model, of its longest white-box attack that iterates on gradients.

    Args:
        plan: The run; its suite says how many images a sweep takes, 0 for no sweep.
        data_hash: Returns the hash of a slice.

    Returns:
        Each sweep with the cell whose convergence it tests.
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
    traits = get_attack(cell.spec.attack).traits
    return (
        cell.spec.protocol == "white_box"
        and cell.spec.y_target is None
        and traits.steps == "many"
        and traits.gradients == "only"
        and cell.spec.threat_model.eps > 0
        and effort_of(cell.spec, "n_iter") is not None
    )


def plan_sentinels(plan: Plan, data_hash: Callable[[DataSpec], str]) -> list[Sentinel]:
    """Plans a sentinel for each model and threat model whose attacks do not make it needless.

    Args:
        plan: The run.
        data_hash: Returns the hash of a slice.
    """
    threats = plan.suite.threat_models
    groups: dict[tuple[int, ThreatModel], list[PlannedCell]] = defaultdict(list)
    for cell in plan.cells if plan.suite.sentinel else ():
        asked = cell.attack_kind not in NO_ADVERSARY and cell.spec.protocol == "white_box"
        asked = asked and cell.spec.y_target is None  # whose success is another
        if asked and not cell.refused and cell.spec.threat_model in threats:
            groups[cell.model_index, cell.spec.threat_model].append(cell)
    found = []
    for cells in groups.values():
        shared = any(cell.batch_dependent for cell in cells)
        if wants_sentinel((cell.spec for cell in cells), batch_dependent=shared):
            data = cells[0].spec.data.first(min(N_IMAGES, plan.n_images))
            about = [cell.spec for cell in cells]
            found.append((sentinel_cell(about, data, data_hash(data)), cells))
    return found


def sweep_jobs(
    sweeps: Sequence[tuple[Sweep, PlannedCell]],
    sentinels: Sequence[Sentinel],
    others: Iterable[str],
    where: Where,
) -> list[Job]:
    """Returns the jobs of all sweeps and sentinels, each id once.

    Args:
        sweeps: Each with the cell whose convergence it tests.
        sentinels: Each with the cells that it looks behind.
        others: Ids of cells that are stored, or run anyway.
        where: Where checkpoints and images are found, and the device.
    """
    jobs: dict[str, Job] = {}
    for sweep, about in sweeps:
        for spec in sweep.cells:
            n_images = spec.data.n_images or about.n_images
            share = n_images / about.n_images
            effort = (effort_of(spec, "n_iter") or 1) * spec.eot_iter
            base = (effort_of(about.spec, "n_iter") or 1) * about.spec.eot_iter
            cost = (about.passes or 1.0) * share * effort / base
            jobs.setdefault(spec.cell_id, Job(spec, about.attack_kind, where, cost, n_images))
    for spec, _ in sentinels:
        n_images = spec.data.n_images or N_IMAGES
        cost = float(n_images * PARAMS["n_passes"] * spec.eot_iter)
        jobs.setdefault(spec.cell_id, Job(spec, "bounded", where, cost, n_images))
    taken = set(others)
    return [job for cell_id, job in jobs.items() if cell_id not in taken]
