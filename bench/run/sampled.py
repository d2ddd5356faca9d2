"""Runs planned cells on some of their images, until a moment at which nothing more is begun."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from bench.core.cell import DataSpec
from bench.core.places import Folder
from bench.run.calibrate import Calibration
from bench.run.chunks import PASSES
from bench.run.job import Job
from bench.run.local import Executor
from bench.run.stop import Stop
from bench.run.suite import cells_to_run, make_jobs
from bench.store import RunStore
from bench.store.files import remove_folder
from bench.suite import Catalog, Plan, PlannedCell

J = TypeVar("J")
R = TypeVar("R")

LEAST_RIGHT = 0.1
"""Accuracy below which what a right image takes is no longer told from the mean."""

CHUNK, CHUNKS = 10.0, 10
"""Seconds of a chunk, and parts of the budget, about: one may be at work when the time is over."""


class Deadline(Stop):
    """Asks to stop when somebody else does, and at a moment.

    Args:
        stop: The other.
        ends: The moment, of ``time.monotonic``.
    """

    def __init__(self, stop: Stop, ends: float) -> None:
        self._stop, self._ends = stop, ends
        super().__init__()

    @property
    def asked(self) -> bool:
        """Whether to begin nothing more."""
        return self._stop.asked or time.monotonic() >= self._ends


class ShortestFirst:
    """Runs the parts of short cells first, so that few are unfinished if the time is too short.

    Args:
        workers: Do the work.
        jobs: Whole cells.
    """

    def __init__(self, workers: Executor, jobs: Sequence[Job]) -> None:
        self._workers = workers
        self._costs = {job.spec.cell_id: job.cost for job in jobs}

    def run(
        self, work: Callable[[J], R], jobs: Sequence[J], lost: Callable[[J, str], R]
    ) -> Iterator[tuple[J, R] | None]:
        """Runs jobs, see ``Executor``."""

        def length(chain: Any) -> float:
            return sum(self._costs[job.spec.cell_id] for job in chain)

        return self._workers.run(work, sorted(jobs, key=length), lost)


def sampled_plan(
    plan: Plan, index: Mapping[tuple[str, str], tuple[int, ...]], catalog: Catalog
) -> Plan:
    """Returns a plan of some cells on some of their images, without analyses.

    Args:
        plan: Of the whole suite.
        index: The images, by position in the split, in order, by the labels of model and attack.
        catalog: Knows the images.

    Raises:
        UserError: When the data set does not have one of the images.
    """
    cells = []
    for cell in plan.cells:
        wanted = index.get((cell.model_label, cell.attack_label))
        if wanted is None or cell.refused:
            continue
        whole = cell.spec.data
        data = DataSpec(name=whole.name, split=whole.split, index=wanted)
        changes = {"data": data, "data_hash": catalog.data_hash(data)}
        passes = None if cell.passes is None else cell.passes * len(wanted) / cell.n_images
        cells.append(
            replace(
                cell,
                spec=cell.spec.model_copy(update=changes),
                n_images=len(wanted),
                passes=passes,
            )
        )
    return replace(plan, cells=tuple(cells), analyses=())


def image_passes(cell: PlannedCell, spent: float, right: float) -> float:
    """Returns the passes over an image that is not broken, at most: broken ones may end early.

    Args:
        cell: On any images.
        spent: Passes that the attack took of an image in the mean, where it was run before.
        right: Share of these images that it did not break.
    """
    spec = cell.spec
    batch = min(spec.batch_size, cell.n_images) if spec.adversary == "single" else 1
    looks = 1 if cell.attack_kind == "none" else 2
    # Even if broken images take no pass at all, others take no more than this.
    found = spent / max(right, LEAST_RIGHT) + looks * spec.n_draws * batch
    return found if cell.passes is None else min(found, cell.passes / cell.n_images)


def image_seconds(
    cells: Sequence[PlannedCell],
    passes: Sequence[float],
    checkpoints: Path,
    data_root: Path | None,
    device: str,
    workers: int,
    *,
    trust_code: bool = False,
) -> list[float]:
    """Returns what an image of each cell takes one worker, from passes timed on this machine.

    Raises:
        UserError: When a checkpoint or the data cannot be read.
    """
    jobs = make_jobs(list(cells), checkpoints, data_root, device, trust_code=trust_code)
    calibration = Calibration(jobs, workers)
    return [
        calibration.seconds(replace(job, cost=cost)) for job, cost in zip(jobs, passes, strict=True)
    ]


def sampled_jobs(
    plan: Plan,
    store: RunStore,
    seconds: Mapping[tuple[str, str], float],
    budget: float,
    checkpoints: Path,
    data_root: Path | None,
    device: str,
    *,
    trust_code: bool = False,
) -> list[Job]:
    """Returns what is not stored yet, such that its chunks are short beside the budget.

    Args:
        plan: Of chosen images.
        store: Of the run folder.
        seconds: That each cell takes one worker, by its labels.
        budget: Seconds that there are in all.
        checkpoints: Folder that holds the checkpoints.
        data_root: Where data sets lie; ``None`` for the defaults.
        device: Where they are run.
        trust_code: Whether code that a URI names may be run.
    """
    cells = cells_to_run(plan, store)
    chunk = min(CHUNK, budget / CHUNKS)
    # Costs are in passes, of which a chunk has a fixed number: here one that takes so long.
    costs = [PASSES * seconds[cell.model_label, cell.attack_label] / chunk for cell in cells]
    jobs = make_jobs(cells, checkpoints, data_root, device, trust_code=trust_code)
    return [replace(job, cost=max(2.0, cost)) for job, cost in zip(jobs, costs, strict=True)]


def forget(folder: Folder) -> None:
    """Deletes the cells of a run folder, finished or not."""
    for name in ("cells", "chunks"):
        root = folder / "store" / name
        names = [entry.name for entry in root.iterdir()] if root.is_dir() else []
        for entry in names:
            remove_folder(root / entry)
