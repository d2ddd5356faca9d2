"""``rbench plan``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import JustifyMethod
from rich.table import Table

from bench.cli.options import (
    AsJson,
    Checkpoints,
    DataRoot,
    Device,
    Exact,
    OutFolder,
    SkipMissing,
    SuiteArgument,
    TrustCode,
    Workers,
    console,
    duration,
    errors,
    say,
    where_of,
)

if TYPE_CHECKING:  # imported at every start
    from bench.run.prepare import PreparedRun
    from bench.store.analysis_store import AnalysisStore
    from bench.store.run_store import RunStore
    from bench.suite.plan import Plan


def plan(
    suite: SuiteArgument,
    out: OutFolder = None,
    data_root: DataRoot = None,
    checkpoints: Checkpoints = None,
    exact: Exact = False,
    device: Device = "auto",
    workers: Workers = None,
    timed: Annotated[
        bool, typer.Option("--time/--no-time", help="Estimate the time from a few timed passes.")
    ] = True,
    skip_missing: SkipMissing = False,
    as_json: AsJson = False,
    trust_code: TrustCode = False,
) -> None:
    """Check a suite, list what it would run, and estimate the time."""
    from bench.cli.live import say_notes
    from bench.run.calibrate import predict
    from bench.run.prepare import PreparedRun

    where = where_of(checkpoints, data_root, device, trust_code)
    run = PreparedRun(suite, where, out=out, exact=exact, skip_missing=skip_missing)
    told = errors if as_json else console
    say_notes(told, run.plan)
    jobs, sweeps = run.cell_jobs()
    n_workers = run.n_workers(workers, len(jobs) + len(sweeps))
    seconds: dict[str, float] = {}
    since = ""
    if timed:
        with told.status("timing passes"):
            seconds, since = predict([*jobs, *sweeps], n_workers)
    if as_json:
        typer.echo(_as_json(run, seconds, since, n_workers))
    else:
        _print(run, seconds, since, n_workers, len(sweeps))


def _print(
    run: PreparedRun, seconds: Mapping[str, float], since: str, n_workers: int, n_sweeps: int
) -> None:
    """Prints the plan; ``seconds`` are upper bounds by cell, from passes timed on ``since``."""
    from bench.run.calibrate import makespan, passes_file
    from bench.run.schedule import cells_to_run
    from bench.store.analysis_store import AnalysisStore

    console.print(_cell_table(run.plan, run.store, seconds))
    if run.plan.analyses:
        console.print(_analysis_table(run.plan, AnalysisStore(run.folder)))
    pending = cells_to_run(run.plan, run.store)
    total = sum(cell.passes or 0 for cell in pending)
    console.print(f"{len(run.plan.cells)} cells, at most {total:,.0f} image passes to run")
    if n_sweeps:
        console.print(
            f"and {n_sweeps} short cells to test the attacks: did they converge, does a stronger "
            "one break more"
        )
    if seconds:
        longest = duration(makespan(seconds.values(), n_workers))
        device = f"{n_workers} worker{'s' * (n_workers > 1)} on {run.where.device}"
        unknown = sum(cell.passes is None for cell in pending)
        without = f", without {unknown} cells of unknown passes" * bool(unknown)
        say(
            console,
            f"at most about {longest} with {device}{without}. Upper bound, extrapolated from "
            f"float32 passes timed here on {since} ({passes_file()}); most attacks stop early on "
            "broken images, and may search in lower precision",
        )


def _as_json(run: PreparedRun, seconds: Mapping[str, float], since: str, n_workers: int) -> str:
    """Returns the plan for programs; numbers that are not known are null."""
    from bench.run.calibrate import makespan
    from bench.store.analysis_store import AnalysisStore

    plan, store = run.plan, AnalysisStore(run.folder)
    cells = [
        {
            "model": cell.model_label,
            "attack": cell.attack_label,
            "cell_id": cell.cell_id,
            "images": cell.n_images,
            "passes": cell.passes,
            "seconds": seconds.get(cell.cell_id) if cell.passes is not None else None,
            "state": "refused" if cell.refused else _state(run.store.has(cell.cell_id)),
            "reason": cell.refused or None,
        }
        for cell in plan.cells
    ]
    analyses = [
        {
            "analysis": one.label,
            "models": list(one.models),
            "analysis_id": one.analysis_id,
            "images": one.n_images,
            "passes": one.passes,
            "state": _state(store.has(one.analysis_id)),
        }
        for one in plan.analyses
    ]
    found = {
        "suite": plan.suite.suite,
        "out": str(run.folder),
        "device": run.where.device,
        "workers": n_workers,
        "seconds": makespan(seconds.values(), n_workers) if seconds else None,
        "timed": since or None,
        "absent": dict(plan.absent),
        "notes": list(plan.notes),
        "cells": cells,
        "analyses": analyses,
    }
    return json.dumps(found, indent=2, ensure_ascii=False)


def _state(stored: bool) -> str:
    return "stored" if stored else "to run"


def _cell_table(plan: Plan, store: RunStore, seconds: Mapping[str, float]) -> Table:
    """Returns a line for each cell; without ``seconds`` there is no column for time."""
    table = Table(title=plan.suite.title, title_justify="left")
    right = ("images", "passes at most", "time at most")
    columns = ["model", "attack", "cell", "images", "passes at most", "time at most", "state"]
    for name in columns:
        if seconds or name != "time at most":
            table.add_column(name, justify="right" if name in right else "left")
    for cell in plan.cells:
        state = f"refused: {cell.refused}" if cell.refused else _state(store.has(cell.cell_id))
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
        state = _state(store.has(one.analysis_id))
        images = f"{one.n_images:,}"
        models = ", ".join(one.models)
        table.add_row(one.label, models, one.analysis_id, images, passes, state)
    return table


def _about(seconds: float) -> str:
    return duration(seconds) if seconds >= 1 else "< 1 s"
