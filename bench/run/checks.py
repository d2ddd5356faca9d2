"""What a run checks by itself when it ends: are there reasons to doubt its numbers?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bench.run.probing import Probed, probe_key
from bench.store import RunStore
from bench.suite import Plan
from bench.verify.alarm_base import CellResult, alarms_by_cell
from bench.verify.alarms import find_alarms
from bench.verify.convergence import Sweep, sweep_alarms


def raise_alarms(
    plan: Plan,
    store: RunStore,
    classes: int,
    probed: Mapping[str, Probed],
    sweeps: Sequence[Sweep],
) -> dict[str, tuple[str, ...]]:
    """Looks for reasons to doubt the run's numbers, and stores them with the cells.

    An alarm rests on all cells of a run, so it is found anew at the end of each.

    Args:
        plan: The run.
        store: Its store.
        classes: Number of classes.
        probed: What is known of its models, by ``probe_key``.
        sweeps: Its convergence sweeps.

    Returns:
        The alarms of each cell that has any, by id.
    """
    cells = _stored(store, (cell.cell_id for cell in plan.cells if not cell.refused))
    alarms = list(find_alarms(cells, classes))
    for sweep in sweeps:
        results = _stored(store, (cell.cell_id for cell in sweep.cells))
        alarms += sweep_alarms(sweep, results)
    by_cell = alarms_by_cell(dict.fromkeys(alarms))
    found: dict[str, tuple[str, ...]] = {}
    for cell in cells:
        cell_id = cell.info.cell_id
        mine = (*_doubts(cell, probed), *by_cell.get(cell_id, ()))
        if mine:
            found[cell_id] = mine
        if cell.info.alarms != mine:
            store.write_cell(cell.info.model_copy(update={"alarms": mine}), list(cell.rows))
    return found


def _stored(store: RunStore, ids: Iterable[str]) -> list[CellResult]:
    return [CellResult(*store.read_cell(i)) for i in dict.fromkeys(ids) if store.stored(i)]


def _doubts(cell: CellResult, probed: Mapping[str, Probed]) -> tuple[str, ...]:
    """Returns what the probe found wrong with the model, and with what it is attacked through."""
    models = (cell.spec, cell.spec.surrogate)
    keys = [probe_key(model) for model in models if model is not None]
    return tuple(dict.fromkeys(d for key in keys if key in probed for d in probed[key].doubts))
