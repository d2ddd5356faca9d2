"""``rbench run``."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext

from rich.console import Console

from bench.cli.live import LiveTable
from bench.cli.options import EXIT_INCOMPLETE, EXIT_INTERRUPTED, duration
from bench.cli.ready import Ready, Wanted, held, warn
from bench.core.analysis import AnalysisInfo
from bench.export.tracking import Both, Tracking
from bench.report import write_reports
from bench.run.after import raise_alarms
from bench.run.analyses import AnalysisJob, AnalysisSummary, run_analyses
from bench.run.job import Job
from bench.run.local import Executor, Stop
from bench.run.probing import Probing
from bench.run.schedule import Summary, run_suite
from bench.store import AnalysisStore
from bench.suite import Plan


def run_command(console: Console, wanted: Wanted) -> int:
    """Runs a suite, shows it, writes its reports; returns the exit code."""
    ready = Ready(wanted)
    ready.say_absent(console)
    tracking = Tracking(wanted.track, ready.plan, lambda line: warn(console, line))

    with held(console, ready.folder) as stop:
        ready.store.sweep()
        jobs = [job for some in ready.jobs() for job in some]
        looks = ready.analyses()
        try:
            with ready.executor(stop, len(jobs), len(looks)) as pool:
                runner = Probing(jobs, ready.folder, pool) if wanted.probe else pool
                ready.store.write_manifest(ready.plan.manifest())
                with tracking:
                    return _run(console, ready, jobs, looks, pool, runner, stop, tracking)
        except KeyboardInterrupt:
            return _stopped(console, "ended at once", stop)


def _stopped(console: Console, how: str, stop: Stop) -> int:
    warn(console, f"{how}: run the same command again to go on, nothing that is stored is lost")
    return stop.exit_code or EXIT_INTERRUPTED


def _run(
    console: Console,
    ready: Ready,
    jobs: list[Job],
    looks: list[AnalysisJob],
    pool: Executor,
    runner: Executor,
    stop: Stop,
    tracking: Tracking,
) -> int:
    """Runs jobs with a live table, then checks the numbers and writes the reports."""
    plan, store = ready.plan, ready.store
    with LiveTable(console, plan, {job.spec.cell_id: job.cost for job in jobs}) as live:
        summary = run_suite(plan, store, jobs, runner, Both(live, tracking))
        took = live.elapsed
        if summary.open:
            live.stop()
            return _stopped(console, f"stopped with {summary.open} cells to finish", stop)
        known = runner.known if isinstance(runner, Probing) else {}
        sweeps = [sweep for sweep, _ in ready.sweeps]
        alarms = raise_alarms(plan, store, ready.classes, known, sweeps)
        places = {cell.spec.cell_id: cell for cell in reversed(plan.cells)}
        for cell_id in places:
            if store.stored(cell_id):
                Both(live, tracking).show(*store.read_cell(cell_id))
    console.print(live.table())
    _say(console, summary, took, dict.fromkeys(c.refused for c in plan.cells if c.refused))
    for cell_id, texts in alarms.items():
        for text in texts:
            place = places[cell_id]
            warn(console, f"alarm: {place.model_label} / {place.attack_label}: {text}")
    analysed = _analyse(console, plan, AnalysisStore(store.folder), looks, pool)
    if analysed.open:
        return _stopped(console, f"stopped with {analysed.open} analyses to run", stop)
    paths = write_reports(store.folder)
    for path in paths:
        console.print(f"wrote {path}", highlight=False, markup=False, soft_wrap=True)
    incomplete = bool(summary.incomplete or analysed.incomplete)
    tracking.finish(paths, "incomplete" if incomplete else "finished")
    return EXIT_INCOMPLETE if incomplete else 0


def _analyse(
    console: Console, plan: Plan, store: AnalysisStore, looks: list[AnalysisJob], pool: Executor
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


def _say(console: Console, summary: Summary, seconds: float, reasons: Iterable[str]) -> None:
    console.print("robust accuracy in percent, 95 % interval in brackets", style="dim")
    parts = [f"{summary.ran} cells run in {duration(seconds)}"]
    parts += [f"{summary.swept} more to see whether they converged"] * bool(summary.swept)
    parts += [f"{summary.kept} already stored"] * bool(summary.kept)
    parts += [f"{summary.refused} refused as invalid (—)"] * bool(summary.refused)
    again = "; to run them again: --out ANOTHER_FOLDER" if summary.kept and not summary.ran else ""
    console.print(", ".join(parts) + again, highlight=False, soft_wrap=True)
    for reason in reasons:
        console.print(f"refused: {reason}", highlight=False, markup=False, soft_wrap=True)
    for model, attack, reason in summary.incomplete:
        line = f"incomplete: {model} / {attack}: {reason}"
        console.print(line, style="red", highlight=False, markup=False, soft_wrap=True)
