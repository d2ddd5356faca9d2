"""``rbench run`` and ``rbench plan``."""

from __future__ import annotations

from collections import defaultdict
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, JustifyMethod
from rich.table import Table

from bench.cli.live import LiveTable, duration
from bench.core.analysis import AnalysisInfo
from bench.report import write_reports
from bench.run.analyses import (
    AnalysisJob,
    AnalysisSummary,
    analyses_to_run,
    make_analysis_jobs,
    run_analyses,
)
from bench.run.calibrate import makespan, predict
from bench.run.catalog import LocalCatalog
from bench.run.checks import raise_alarms
from bench.run.convergence import plan_sweeps, sweep_jobs
from bench.run.device import pick_device
from bench.run.job import Job
from bench.run.local import Workers, default_workers
from bench.run.paths import checkpoints_folder, suite_folders
from bench.run.probing import Probed, probe_models
from bench.run.suite import Summary, cells_to_run, make_jobs, run_suite
from bench.store import AnalysisStore, RunStore
from bench.suite import Plan, PlannedCell, find_suite, load_suite, make_plan
from bench.verify.convergence import Sweep

EXIT_INCOMPLETE, EXIT_INTERRUPTED = 3, 130


@dataclass(frozen=True)
class _Ready:
    """A checked suite.

    Attributes:
        plan: Its cells.
        classes: Number of classes of its data.
        sweeps: Its convergence sweeps, each with the cell that it is about.
    """

    plan: Plan
    classes: int
    sweeps: list[tuple[Sweep, PlannedCell]]


def _prepare(
    suite: str,
    data_root: Path | None,
    checkpoints: Path | None,
    exact: bool,
    skip_missing: bool,
) -> _Ready:
    catalog = LocalCatalog(checkpoints_folder(checkpoints), data_root)
    path = find_suite(suite, suite_folders())
    spec = load_suite(path, catalog, skip_missing=skip_missing)
    spec = spec.model_copy(update={"search": "exact"}) if exact else spec
    plan = make_plan(spec, catalog)
    return _Ready(
        plan, catalog.dataset(spec.data.name).classes, plan_sweeps(plan, catalog.data_hash)
    )


def _jobs(
    ready: _Ready, store: RunStore, zoo: Path, data_root: Path | None, device: str
) -> tuple[list[Job], list[Job]]:
    """Returns what is not stored yet: the suite's cells, and those of its convergence sweeps."""
    jobs = make_jobs(cells_to_run(ready.plan, store), zoo, data_root, device)
    stored = [i for i in store.cell_ids() if store.has(i)]
    sweeps = sweep_jobs(
        ready.sweeps,
        [*stored, *(job.spec.cell_id for job in jobs)],
        lambda spec, kind, cost: Job(spec, kind, zoo, data_root, device, cost),
    )
    return jobs, sweeps


def run_command(
    console: Console,
    suite: str,
    out: Path | None,
    data_root: Path | None,
    checkpoints: Path | None,
    device: str,
    workers: int | None,
    *,
    probe: bool,
    exact: bool,
    skip_missing: bool,
) -> int:
    """Runs a suite, shows it, writes its reports; returns the exit code."""
    device = pick_device(device)
    ready = _prepare(suite, data_root, checkpoints, exact, skip_missing)
    plan = ready.plan
    _say_absent(console, plan)
    folder = out or Path("reports") / plan.suite.suite
    store = RunStore(folder)
    zoo = checkpoints_folder(checkpoints)
    jobs = [job for some in _jobs(ready, store, zoo, data_root, device) for job in some]
    pending = analyses_to_run(plan, AnalysisStore(folder))
    looks = make_analysis_jobs(pending, zoo, data_root, device)
    n_workers = min(workers or default_workers(device), max(len(jobs), len(looks), 1))
    try:
        with Workers(n_workers) as pool:
            probed: dict[str, Probed] = {}
            if probe:
                with console.status("probing the models"):
                    probed = probe_models(jobs, folder, pool)
            store.write_manifest(plan.manifest())
            return _run(console, ready, store, jobs, looks, pool, probed)
    except KeyboardInterrupt:
        console.print("interrupted: finished cells are stored, run the same command to go on")
        return EXIT_INTERRUPTED


def _run(
    console: Console,
    ready: _Ready,
    store: RunStore,
    jobs: list[Job],
    looks: list[AnalysisJob],
    pool: Workers,
    probed: dict[str, Probed],
) -> int:
    """Runs jobs with a live table, then checks the numbers and writes the reports."""
    plan = ready.plan
    places: dict[str, list[PlannedCell]] = defaultdict(list)
    for cell in plan.cells:
        places[cell.spec.cell_id].append(cell)
    with LiveTable(console, plan, {job.spec.cell_id: job.cost for job in jobs}) as live:
        summary = run_suite(
            plan,
            store,
            jobs,
            pool,
            lambda info, rows: live.show(places.get(info.cell_id, ()), info, rows),
            live.refresh,
        )
        took = live.elapsed
        sweeps = [sweep for sweep, _ in ready.sweeps]
        alarms = raise_alarms(plan, store, ready.classes, probed, sweeps)
        for cell_id in places:
            if store.stored(cell_id):
                live.show((), *store.read_cell(cell_id))
    console.print(live.table())
    _say(console, summary, took)
    for cell_id, texts in alarms.items():
        place = places[cell_id][0]
        for text in texts:
            _warn(console, f"alarm: {place.model_label} / {place.attack_label}: {text}")
    analysed = _analyse(console, plan, AnalysisStore(store.folder), looks, pool)
    for path in write_reports(store.folder):
        console.print(f"wrote {path}", highlight=False, markup=False, soft_wrap=True)
    return EXIT_INCOMPLETE if summary.incomplete or analysed.incomplete else 0


def _analyse(
    console: Console, plan: Plan, store: AnalysisStore, looks: list[AnalysisJob], pool: Workers
) -> AnalysisSummary:
    """Runs analyses, saying a line about each."""
    done = 0

    def show(label: str, info: AnalysisInfo) -> None:
        nonlocal done
        done += 1
        ended = "complete" if info.complete else f"incomplete: {info.error}"
        line = f"[{done}/{len(looks)}] analysis {label}: {ended} ({duration(info.seconds)})"
        style = None if info.complete else "red"
        console.print(line, style=style, highlight=False, markup=False, soft_wrap=True)

    with console.status("running analyses") if looks else nullcontext():
        summary = run_analyses(plan, store, looks, pool, show)
    if summary.kept:
        console.print(f"{summary.kept} analyses already stored", highlight=False)
    return summary


def _say_absent(console: Console, plan: Plan) -> None:
    """Says which models are left out for lack of a checkpoint."""
    for name in dict.fromkeys(plan.absent.values()):
        labels = ", ".join(label for label, lacking in plan.absent.items() if lacking == name)
        _warn(console, f"left out, as checkpoint {name} is not here: {labels}")


def _warn(console: Console, line: str) -> None:
    console.print(line, style="yellow", highlight=False, markup=False, soft_wrap=True)


def _say(console: Console, summary: Summary, seconds: float) -> None:
    console.print("robust accuracy in percent, 95 % interval in brackets", style="dim")
    parts = [f"{summary.ran} cells run in {duration(seconds)}"]
    parts += [f"{summary.swept} more to see whether they converged"] * bool(summary.swept)
    parts += [f"{summary.kept} already stored"] * bool(summary.kept)
    parts += [f"{summary.refused} refused as invalid (—)"] * bool(summary.refused)
    console.print(", ".join(parts), highlight=False)
    for model, attack, reason in summary.incomplete:
        line = f"incomplete: {model} / {attack}: {reason}"
        console.print(line, style="red", highlight=False, markup=False, soft_wrap=True)


def plan_command(
    console: Console,
    suite: str,
    out: Path | None,
    data_root: Path | None,
    checkpoints: Path | None,
    device: str,
    workers: int | None,
    *,
    exact: bool,
    timed: bool,
    skip_missing: bool,
) -> None:
    """Shows a suite's cells: their ids, what is stored, the passes and the time they may take."""
    device = pick_device(device)
    ready = _prepare(suite, data_root, checkpoints, exact, skip_missing)
    plan = ready.plan
    _say_absent(console, plan)
    store = RunStore(out or Path("reports") / plan.suite.suite)
    jobs, sweeps = _jobs(ready, store, checkpoints_folder(checkpoints), data_root, device)
    n_workers = min(workers or default_workers(device), max(len(jobs) + len(sweeps), 1))
    seconds: dict[str, float] = {}
    if timed:
        with console.status("timing passes"):
            seconds = predict([*jobs, *sweeps], n_workers)
    console.print(_plan_table(plan, store, seconds))
    if plan.analyses:
        console.print(_analysis_table(plan, AnalysisStore(store.folder)))
    pending = cells_to_run(plan, store)
    total = sum(cell.passes or 0 for cell in pending)
    console.print(f"{len(plan.cells)} cells, at most {total:,.0f} image passes to run")
    if sweeps:
        console.print(f"and {len(sweeps)} short cells to see whether the attacks converged")
    if seconds:
        longest = duration(makespan(seconds.values(), n_workers))
        where = f"{n_workers} worker{'s' * (n_workers > 1)} on {device}"
        unknown = sum(cell.passes is None for cell in pending)
        without = f", without {unknown} cells of unknown passes" * bool(unknown)
        console.print(
            f"at most about {longest} with {where}{without}: an upper bound from passes timed "
            "here and now, as broken images leave most attacks early",
            highlight=False,
            soft_wrap=True,
        )


def _plan_table(plan: Plan, store: RunStore, seconds: dict[str, float]) -> Table:
    """Returns a line for each cell; without ``seconds`` there is no column for time."""
    table = Table(title=plan.suite.title, title_justify="left")
    right = ("images", "passes at most", "time at most")
    columns = ["model", "attack", "cell", "images", "passes at most", "time at most", "state"]
    for name in columns:
        if seconds or name != "time at most":
            table.add_column(name, justify="right" if name in right else "left")
    for cell in plan.cells:
        state = "stored" if store.has(cell.spec.cell_id) else "to run"
        state = f"refused: {cell.refused}" if cell.refused else state
        passes = f"{cell.passes:,.0f}" if cell.passes else "unknown"
        images = f"{cell.n_images:,}"
        known = cell.passes is not None and cell.cell_id in seconds
        taken = _about(seconds[cell.cell_id]) if known else ""
        time = [taken] * bool(seconds)
        table.add_row(
            cell.model_label, cell.attack_label, cell.cell_id, images, passes, *time, state
        )
    return table


def _analysis_table(plan: Plan, store: AnalysisStore) -> Table:
    """Returns a line for each analysis."""
    table = Table(title="analyses", title_justify="left")
    for name in ("analysis", "models", "id", "images", "passes about", "state"):
        justify: JustifyMethod = "right" if name in ("images", "passes about") else "left"
        table.add_column(name, justify=justify, no_wrap=name in ("analysis", "id"))
    for one in plan.analyses:
        passes = f"{one.passes:,.0f}" if one.passes is not None else "unknown"
        state = "stored" if store.has(one.analysis_id) else "to run"
        images = f"{one.n_images:,}"
        models = ", ".join(one.models)
        table.add_row(one.label, models, one.analysis_id, images, passes, state)
    return table


def _about(seconds: float) -> str:
    return duration(seconds) if seconds >= 1 else "< 1 s"
