"""What a run checks by itself: the models before it starts, the numbers when it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from bench.core.errors import UserError
from bench.data import take_slice
from bench.run.job import Job
from bench.run.target import Target
from bench.store import RunStore
from bench.suite import Plan
from bench.verify.alarm_base import CellResult, alarms_by_cell
from bench.verify.alarms import find_alarms
from bench.verify.probe import MAX_IMAGES, probe
from bench.zoo import open_checkpoint


def probe_models(jobs: Iterable[Job], show: Callable[[str], None]) -> None:
    """Probes each model that is to be run, with the first images of its slice.

    Args:
        jobs: What is to run.
        show: Called with each finding that is more than a note, in one line.

    Raises:
        UserError: When a model is not what its card declares; holds both.
    """
    seen: set[tuple[Path, str | None]] = set()
    for job in jobs:
        spec = job.spec
        folder = job.checkpoints / spec.checkpoint
        if (folder, spec.stats) in seen:
            continue
        seen.add((folder, spec.stats))
        try:
            model = open_checkpoint(folder).load(spec.stats).to(job.device)
        except UserError:
            continue  # the cell itself will say so, and the others go on
        few = spec.data.model_copy(update={"limit": min(spec.data.limit or MAX_IMAGES, MAX_IMAGES)})
        data = take_slice(few, job.data_root)
        x, y = torch.from_numpy(data.x).to(job.device), torch.from_numpy(data.y).to(job.device)
        target = Target.of(model)
        found = probe(model, x, y, classes=target.classes)
        differs = found.disagreement(
            stochastic=target.stochastic, batch_dependent=target.batch_dependent
        )
        if differs:
            raise UserError(f"{folder}: {differs}")
        for finding in found.findings:
            if finding.severity != "note":
                show(f"{spec.checkpoint}: {finding.severity}: {finding.text}")


def raise_alarms(plan: Plan, store: RunStore, classes: int) -> dict[str, tuple[str, ...]]:
    """Looks for reasons to doubt the run's numbers, and stores them with the cells.

    An alarm rests on all cells of a run, so it is found anew at the end of each.

    Args:
        plan: The run.
        store: Its store.
        classes: Number of classes.

    Returns:
        The alarms of each cell that has any, by id.
    """
    ids = dict.fromkeys(cell.cell_id for cell in plan.cells if not cell.refused)
    cells = [CellResult(*store.read_cell(cell_id)) for cell_id in ids if store.stored(cell_id)]
    found = alarms_by_cell(find_alarms(cells, classes))
    for cell in cells:
        alarms = found.get(cell.info.cell_id, ())
        if cell.info.alarms != alarms:
            store.write_cell(cell.info.model_copy(update={"alarms": alarms}), list(cell.rows))
    return found
