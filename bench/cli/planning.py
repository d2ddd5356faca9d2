"""``rbench plan``."""

from __future__ import annotations

import json

import typer
from rich.console import Console, JustifyMethod
from rich.table import Table

from bench.cli.options import duration, errors
from bench.cli.ready import Ready, Wanted
from bench.run.calibrate import makespan, passes_file, predict
from bench.run.schedule import cells_to_run
from bench.store import AnalysisStore, RunStore
from bench.suite import Plan


def plan_command(console: Console, wanted: Wanted, *, timed: bool, as_json: bool) -> None:
    """Shows a suite's cells: their ids, what is stored, the passes and the time they may take."""
    ready = Ready(wanted)
    ready.say_absent(errors if as_json else console)
    plan, store = ready.plan, ready.store
    jobs, sweeps = ready.jobs()
    n_workers = ready.n_workers(len(jobs) + len(sweeps))
    seconds: dict[str, float] = {}
    since = ""
    if timed:
        with (errors if as_json else console).status("timing passes"):
            seconds, since = predict([*jobs, *sweeps], n_workers)
    if as_json:
        typer.echo(_plan_json(ready, seconds, since, n_workers))
        return
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
        where = f"{n_workers} worker{'s' * (n_workers > 1)} on {ready.device}"
        unknown = sum(cell.passes is None for cell in pending)
        without = f", without {unknown} cells of unknown passes" * bool(unknown)
        console.print(
            f"at most about {longest} with {where}{without}: an upper bound from float32 passes "
            f"of each kind of model, timed here on {since} ({passes_file()}); broken images leave "
            "most attacks early, and a search may run in lower precision",
            highlight=False,
            soft_wrap=True,
        )


def _plan_json(ready: Ready, seconds: dict[str, float], since: str, n_workers: int) -> str:
    """Returns the plan for programs; ``seconds`` are at most so many, null where not known.

    They are from passes timed on the day ``since``.
    """
    plan, store = ready.plan, ready.store
    cells = [
        {
            "model": cell.model_label,
            "attack": cell.attack_label,
            "cell_id": cell.cell_id,
            "images": cell.n_images,
            "passes": cell.passes,
            "seconds": seconds.get(cell.cell_id) if cell.passes is not None else None,
            "state": "refused" if cell.refused else _state(store.has(cell.cell_id)),
            "reason": cell.refused or None,
        }
        for cell in plan.cells
    ]
    looks = AnalysisStore(store.folder)
    analyses = [
        {
            "analysis": one.label,
            "models": list(one.models),
            "analysis_id": one.analysis_id,
            "images": one.n_images,
            "passes": one.passes,
            "state": _state(looks.has(one.analysis_id)),
        }
        for one in plan.analyses
    ]
    found = {
        "suite": plan.suite.suite,
        "out": str(store.folder),
        "device": ready.device,
        "workers": n_workers,
        "seconds": makespan(seconds.values(), n_workers) if seconds else None,
        "timed": since or None,
        "absent": dict(plan.absent),
        "cells": cells,
        "analyses": analyses,
    }
    return json.dumps(found, indent=2, ensure_ascii=False)


def _state(stored: bool) -> str:
    return "stored" if stored else "to run"


def _plan_table(plan: Plan, store: RunStore, seconds: dict[str, float]) -> Table:
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
