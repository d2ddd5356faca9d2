"""What ``rbench run`` and ``rbench plan`` do before the first cell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from bench.core.errors import UserError
from bench.core.paths import Folder, checkpoints_folder, folder_at, suite_folders
from bench.evaluation.device import pick_device
from bench.run.after import plan_sweeps, sweep_jobs
from bench.run.analyses import AnalysisJob, analyses_to_run, make_analysis_jobs
from bench.run.job import Job
from bench.run.local import Executor, Stop, Workers, default_workers, stop_on_signals
from bench.run.lookup import local_lookup
from bench.run.schedule import cells_to_run, make_jobs
from bench.store import AnalysisStore, RunStore, locked
from bench.suite import Plan, find_suite, load_suite, make_plan


def warn(console: Console, line: str) -> None:
    """Prints what the reader should not overlook."""
    console.print(line, style="yellow", highlight=False, markup=False, soft_wrap=True)


@contextmanager
def held(console: Console, folder: Folder) -> Iterator[Stop]:
    """Holds a run folder; on a first signal, says that the run stops once what is at work is done.

    Raises:
        UserError: When another rbench holds it.
        KeyboardInterrupt: Inside the context, on the second signal.
    """

    def told(stop: Stop) -> None:
        warn(console, "stopping: what is at work is finished and stored; once more to end at once")

    with locked(folder), stop_on_signals(told) as stop:
        yield stop


@dataclass(frozen=True)
class Wanted:
    """What ``rbench run`` and ``rbench plan`` are asked for.

    Attributes:
        suite: A suite's file or name.
        out: Run folder; ``None`` for the suite's own under ``reports``.
        data_root: Where data sets lie; ``None`` for the defaults.
        checkpoints: Folder of checkpoints; ``None`` for the default.
        device: As ``--device`` takes it.
        workers: Processes; ``None`` for the default.
        exact: Whether to attack in float32 throughout.
        skip_missing: Whether to leave out models whose checkpoint is not here.
        probe: Whether to look at each model first.
        time_limit: Seconds that a chunk may take; ``None`` for no end.
        save_adv: Whether to store adversarial examples.
        engine: ``local`` or ``ray``.
        address: Of a Ray cluster; ``None`` starts Ray on this machine.
        task_cpus: Cores that a chunk takes on Ray.
        task_gpus: GPUs, or what part of one, that a chunk takes on Ray.
        track: Names of experiment trackers that are told of it.
        trust_code: Whether code that a URI of the suite names may be run.
    """

    suite: str
    out: str | None
    data_root: Path | None
    checkpoints: Path | None
    device: str
    workers: int | None
    exact: bool
    skip_missing: bool
    probe: bool = True
    time_limit: float | None = None
    save_adv: bool = False
    engine: Literal["local", "ray"] = "local"
    address: str | None = None
    task_cpus: float = 1
    task_gpus: float = 0
    track: tuple[str, ...] = ()
    trust_code: bool = False


class Ready:
    """A checked suite, and where it is run.

    Args:
        wanted: What is asked for.

    Attributes:
        plan: Its cells.
        classes: Number of classes of its data.
        sweeps: Its convergence sweeps, each with the cell that it is about.
        store: Of the run folder.
        device: That it is run on.

    Raises:
        UserError: When the suite, the device or the run folder does not fit.
    """

    def __init__(self, wanted: Wanted) -> None:
        self._wanted, self.device = wanted, _device(wanted)
        self._zoo = checkpoints_folder(wanted.checkpoints)
        lookup = local_lookup(self._zoo, wanted.data_root, trust_code=wanted.trust_code)
        path = find_suite(wanted.suite, suite_folders())
        suite = load_suite(path, lookup, skip_missing=wanted.skip_missing)
        suite = suite.exact() if wanted.exact else suite
        self.plan: Plan = make_plan(suite)
        self.classes = suite.dataset.classes
        self.sweeps = plan_sweeps(self.plan, lambda data: suite.images(data).sha256)
        out = folder_at(wanted.out) if wanted.out else Path("reports") / suite.spec.suite
        self.store = RunStore(out)
        self._refuse_another_suite()

    @property
    def folder(self) -> Folder:
        """The run folder."""
        return self.store.folder

    def _refuse_another_suite(self) -> None:
        """Raises ``UserError`` where the folder holds a run of a suite of another name."""
        try:
            held = self.store.read_manifest().suite.get("suite")
        except UserError:  # no run yet, or one whose damage is told of where it matters
            return
        if held != self.plan.suite.suite:
            raise UserError(
                f"{self.folder}: holds a run of suite '{held}', which one of suite "
                f"'{self.plan.suite.suite}' would replace; choose another --out"
            )

    def jobs(self) -> tuple[list[Job], list[Job]]:
        """Returns what is not stored yet: the suite's cells, and those of its sweeps."""
        places = (self._zoo, self._wanted.data_root, self.device)
        save, trust = self._wanted.save_adv, self._wanted.trust_code
        cells = cells_to_run(self.plan, self.store, save_adv=save)
        jobs = make_jobs(cells, *places, save_adv=save, trust_code=trust)
        stored = [i for i in self.store.cell_ids() if self.store.has(i)]
        sweeps = sweep_jobs(
            self.sweeps,
            [*stored, *(job.spec.cell_id for job in jobs)],
            lambda spec, kind, cost, n: Job(spec, kind, *places, cost, n, trust_code=trust),
        )
        return jobs, sweeps

    def analyses(self) -> list[AnalysisJob]:
        """Returns the analyses that are not stored yet."""
        pending = analyses_to_run(self.plan, AnalysisStore(self.folder))
        places = (self._zoo, self._wanted.data_root, self.device)
        return make_analysis_jobs(pending, *places, trust_code=self._wanted.trust_code)

    def executor(self, stop: Stop, *pending: int) -> AbstractContextManager[Executor]:
        """Returns what runs so many jobs of each kind, until it is told to stop."""
        wanted = self._wanted
        if wanted.engine == "local":
            return Workers(self.n_workers(*pending), wanted.time_limit, stop)
        from bench.run.on_ray import RayWorkers, Share

        share = Share(wanted.task_cpus, wanted.task_gpus)
        return RayWorkers(wanted.address, wanted.workers, share, wanted.time_limit, stop)

    def n_workers(self, *pending: int) -> int:
        """Returns how many workers serve so many jobs of each kind."""
        return min(self._wanted.workers or default_workers(self.device), max(*pending, 1))

    def say_absent(self, console: Console) -> None:
        """Says which models are left out for lack of a checkpoint."""
        absent = self.plan.absent
        for name in dict.fromkeys(absent.values()):
            labels = ", ".join(label for label, lacking in absent.items() if lacking == name)
            warn(console, f"left out, as checkpoint {name} is not here: {labels}")


def _device(wanted: Wanted) -> str:
    """Returns the device of a run; that of another machine cannot be looked at from here."""
    if wanted.engine == "local":
        return pick_device(wanted.device)
    if wanted.device == "auto":
        return "cuda" if wanted.task_gpus else "cpu"
    return wanted.device
