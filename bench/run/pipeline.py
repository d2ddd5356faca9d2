"""The pipeline of a run, from a suite to its reports: ``run_suite``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench.core.paths import Folder, Where, checkpoints_folder
from bench.evaluation.device import pick_device
from bench.metrics import robust_accuracy
from bench.report import write_reports
from bench.run.analyses import AnalysisJob, run_analyses
from bench.run.job import Job, forget_slices
from bench.run.local import Executor, Stop, Workers, stop_on_signals
from bench.run.prepare import PreparedRun, SuiteLike
from bench.run.probing import Probing
from bench.run.remote_files import RayCluster
from bench.run.schedule import run_cells
from bench.run.sweeps_and_alarms import raise_alarms
from bench.store.analysis_store import AnalysisStore
from bench.store.lock import locked
from bench.store.run_store import RunStore
from bench.suite.plan import Plan, PlannedCell
from bench.suite.watcher import Status, Summary, Watcher

if TYPE_CHECKING:  # a run whose cells are all stored needs no pandas here
    import pandas as pd


@dataclass(frozen=True, repr=False)
class SuiteRun:
    """The result of a run: stored cells, alarms, reports, and what failed.

    Attributes:
        plan: The suite's cells and analyses; ``plan.absent`` names models that were left out.
        store: The store of the run folder, which holds the rows.
        cells: How the cells ended; ``cells.incomplete`` names those that failed, with the reason.
        analyses: How the analyses ended.
        alarms: Reasons to doubt a number, by cell id.
        reports: The files written.
        stopped_by: 128 + the signal that stopped the run; 0 for a run that was not stopped.
    """

    plan: Plan
    store: RunStore
    cells: Summary
    analyses: Summary = field(default_factory=Summary)
    alarms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    reports: Sequence[Folder] = ()
    stopped_by: int = 0

    @property
    def folder(self) -> Folder:
        """The run folder."""
        return self.store.folder

    @property
    def status(self) -> Status:
        """``finished``; ``incomplete`` if cells or analyses failed; or ``stopped``."""
        if self.stopped_by:
            return "stopped"
        return "incomplete" if self.cells.incomplete or self.analyses.incomplete else "finished"

    @property
    def exit_code(self) -> int:
        """0 for a finished run, 3 for an incomplete one, 128 + n if signal n stopped it."""
        return self.stopped_by or {"finished": 0, "incomplete": 3}[self.status]

    def table(self) -> pd.DataFrame:
        """Returns one line for each planned cell, indexed by the labels of model and attack.

        Columns: ``status`` (``ok``, ``incomplete``, ``refused`` or ``missing``), ``accuracy``,
        ``low``, ``high`` (in [0, 1]; NaN unless the status is ``ok``), ``n``, ``method`` of the
        interval, ``alarms`` and ``reason``.
        """
        import pandas as pd

        lines = pd.DataFrame([self._line(cell) for cell in self.plan.cells])
        numbers = {"accuracy": "float64", "low": "float64", "high": "float64"}
        return lines.set_index(["model", "attack"]).astype(numbers)

    def _line(self, cell: PlannedCell) -> dict[str, object]:
        line: dict[str, object] = {"model": cell.model_label, "attack": cell.attack_label}
        line |= {"status": "refused", "accuracy": None, "low": None, "high": None, "n": 0}
        line |= {"method": "", "alarms": "", "reason": cell.refused}
        if cell.refused:
            return line
        if not self.store.stored(cell.cell_id):
            return line | {"status": "missing", "reason": "not run"}
        info, rows = self.store.read_cell(cell.cell_id)
        line |= {"n": len(rows), "alarms": "; ".join(info.alarms), "reason": info.error}
        if not info.complete:
            return line | {"status": "incomplete"}
        found = robust_accuracy(rows, info.cluster)
        line |= {"status": "ok", "accuracy": found.value, "low": found.low, "high": found.high}
        return line | {"n": found.n, "method": found.method}

    def __repr__(self) -> str:
        n, marked = len(self.plan.cells), len(self.alarms)
        return f"SuiteRun in {self.folder}: {self.status}, {n} cells, {marked} under alarm"

    def rows(self) -> pd.DataFrame:
        """Returns one line for each image of each stored cell.

        Columns: the labels ``model`` and ``attack``, then the fields of ``bench.core.result.Row``.
        """
        import pandas as pd

        lines = [
            {"model": cell.model_label, "attack": cell.attack_label, **asdict(row)}
            for cell in self.plan.cells
            if not cell.refused and self.store.stored(cell.cell_id)
            for row in self.store.read_cell(cell.cell_id)[1]
        ]
        return pd.DataFrame(lines)


def run_suite(
    suite: SuiteLike,
    *,
    out: str | Path | None = None,
    workers: int | None = None,
    device: str = "auto",
    data_root: str | Path | None = None,
    checkpoints: str | Path | None = None,
    skip_missing: bool = False,
    save_adv: bool = False,
    exact: bool = False,
    probe: bool = True,
    time_limit: float | None = None,
    trust_code: bool = False,
    cluster: RayCluster | None = None,
    watcher: Watcher | None = None,
) -> SuiteRun:
    """Runs a suite and writes its reports, as ``rbench run`` does.

    Cells and analyses that the run folder holds already are not run again. A first SIGINT or
    SIGTERM stops the run when the chunks at work are finished and stored; a second one raises
    ``KeyboardInterrupt``.

    Args:
        suite: A suite's file, the name of one in ``suites/``, or a mapping with a file's keys.
        out: Run folder or its URL; ``None`` for ``reports/SUITE``.
        workers: Processes, or chunks at a time on Ray; ``None`` for one per core, one on a GPU, and
            as many as there is room for on Ray. Several start Python anew: a script that asks for
            them calls this below ``if __name__ == "__main__":``.
        device: ``cpu``, ``cuda``, ``cuda:1`` or ``auto``.
        data_root: Folder of data sets; ``None`` for the default folders.
        checkpoints: Folder of checkpoints; ``None`` for the default one.
        skip_missing: Leaves out models whose checkpoint is not here.
        save_adv: Stores adversarial examples, for ``rbench verify``.
        exact: Attacks in float32 throughout, whatever the suite says.
        probe: Probes each model first, and raises if one is not what its card declares.
        time_limit: Seconds after which a chunk of images is given up; ``None`` for no limit.
        trust_code: Lets URIs ``python:MODULE:CALLABLE`` run that code.
        cluster: Runs the chunks on Ray; ``None`` runs them on this machine.
        watcher: Follows the run; ``None`` for silence.

    Raises:
        UserError: When the suite is wrong, a device, a checkpoint or a data set is not here, a
            model is not what its card declares, or another process writes into the run folder. A
            cell that fails raises nothing: it is incomplete.
    """
    where = Where(
        checkpoints_folder(Path(checkpoints) if checkpoints else None),
        Path(data_root) if data_root else None,
        _device(device, cluster),
        trust_code,
    )
    run = PreparedRun(suite, where, out=out, exact=exact, skip_missing=skip_missing)
    watcher = watcher or Watcher()
    with (
        locked(run.folder),
        stop_on_signals(lambda stop: watcher.stopping(stop.exit_code)) as stop,
    ):
        run.store.sweep()
        forget_slices()
        jobs = [job for some in run.cell_jobs(save_adv=save_adv) for job in some]
        analyses = run.analysis_jobs()
        if cluster is None:
            n = run.n_workers(workers, len(jobs), len(analyses))
            pool: AbstractContextManager[Executor] = Workers(n, time_limit, stop)
        else:
            from bench.run.on_ray import RayWorkers

            pool = RayWorkers(cluster, workers, time_limit, stop)
        with pool as executor:
            return _run(run, jobs, analyses, executor, watcher, stop, probe=probe)


def _device(asked: str, cluster: RayCluster | None) -> str:
    """Returns the device of a run; those of a cluster's machines cannot be checked from here."""
    if cluster is None:
        return pick_device(asked)
    if asked == "auto":
        return "cuda" if cluster.gpus else "cpu"
    return asked


def _run(
    run: PreparedRun,
    jobs: Sequence[Job],
    analyses: Sequence[AnalysisJob],
    executor: Executor,
    watcher: Watcher,
    stop: Stop,
    *,
    probe: bool,
) -> SuiteRun:
    """Runs cells and analyses, raises alarms, writes reports."""
    plan, store = run.plan, run.store
    store.write_manifest(plan.manifest())
    probing = Probing(jobs, run.folder, executor) if probe else None
    reports: Sequence[Folder] = ()
    status: Status = "stopped"
    watcher.begin(plan, {job.spec.cell_id: job.cost for job in jobs}, len(analyses))
    try:
        cells = run_cells(plan, store, jobs, probing or executor, watcher)
        if cells.open:
            return SuiteRun(plan, store, cells, stopped_by=stop.exit_code)
        alarms = _raise_alarms(run, probing, watcher)
        watcher.cells_ended(cells, alarms, run.folder)
        analysed = run_analyses(plan, AnalysisStore(run.folder), analyses, executor, watcher)
        if analysed.open:
            return SuiteRun(plan, store, cells, analysed, alarms, stopped_by=stop.exit_code)
        reports = write_reports(run.folder)
        ended = SuiteRun(plan, store, cells, analysed, alarms, reports)
        status = ended.status
        return ended
    finally:
        watcher.end(reports, status)


def _raise_alarms(
    run: PreparedRun, probing: Probing | None, watcher: Watcher
) -> dict[str, tuple[str, ...]]:
    """Stores the alarms of all cells and shows the cells again."""
    known = probing.known if probing else {}
    sweeps = [sweep for sweep, _ in run.sweeps]
    alarms = raise_alarms(run.plan, run.store, run.classes, known, sweeps, run.sentinels)
    for cell_id in dict.fromkeys(cell.cell_id for cell in run.plan.cells):
        if run.store.stored(cell_id):
            watcher.show(*run.store.read_cell(cell_id))
    return alarms
