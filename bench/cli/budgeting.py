"""``rbench check --budget``: runs what shows a drop best in the time there is, and compares it."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from bench.attacks import get_attack
from bench.check.budget import choose
from bench.check.chosen import Choice, Chosen, read_chosen, write_chosen
from bench.check.compare import Rules
from bench.check.identity import trained_apart
from bench.check.record import Key, Recording, read_run
from bench.check.source import open_baseline
from bench.check.subset import compare_chosen, measured_otherwise
from bench.check.verdict import Check
from bench.cli.checking import default_baseline
from bench.cli.live import LiveTable
from bench.cli.options import duration
from bench.cli.ready import held
from bench.core.errors import UserError
from bench.core.identity import digest
from bench.core.places import Folder, folder_at
from bench.run.catalog import LocalCatalog
from bench.run.device import pick_device
from bench.run.freight import code_hash
from bench.run.local import Workers, default_workers
from bench.run.paths import checkpoints_folder, suite_folders
from bench.run.provenance import versions
from bench.run.sampled import (
    Deadline,
    ShortestFirst,
    forget,
    image_passes,
    image_seconds,
    sampled_jobs,
    sampled_plan,
)
from bench.run.stop import Stop
from bench.run.suite import run_suite
from bench.store import RunStore
from bench.suite import Plan, PlannedCell, find_suite, load_suite, make_plan

SLACK = 0.8
"""Share of the time that is planned with: estimates are of passes alone."""

START, START_POOL = 1.0, 8.0
"""Seconds kept for loading and comparing, and for worker processes that start."""

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def parse_budget(text: str) -> float:
    """Returns the seconds of ``5m``, ``90s``, ``1.5h`` or ``300``.

    Raises:
        UserError: For anything else, and for nothing at all.
    """
    match = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*([smh]?)\s*", text, re.ASCII)
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if not seconds > 0:
        raise UserError(
            f"--budget: expected a time such as 90s, 5m or 1h, or seconds, found '{text}'"
        )
    return seconds


def budget_command(
    console: Console,
    suite: str,
    baseline: str | None,
    budget_text: str,
    out: str | None,
    data_root: Path | None,
    checkpoints: Path | None,
    device: str,
    workers: int | None,
    rules: Rules,
    *,
    trust_code: bool = False,
) -> Check:
    """Runs what has most power to see a drop within a time, and compares it with a baseline.

    Args:
        console: Shows how the run goes on.
        suite: A suite's file or name.
        baseline: As ``open_baseline`` takes it; ``None`` for the suite's own.
        budget_text: As ``parse_budget`` takes it; counts from the call on.
        out: Run folder; ``None`` for ``reports/SUITE_check``. Its cells are kept for the same check
            of the same code, and deleted by any other.
        data_root: Where data sets lie; ``None`` for the defaults.
        checkpoints: Folder of checkpoints; ``None`` for the default.
        device: As ``--device`` takes it.
        workers: Processes; ``None`` for the default.
        rules: When the check fails.
        trust_code: Whether code that a URI of the suite names may be run.

    Raises:
        UserError: When the budget, the suite, the baseline or the run folder does not fit.
    """
    started, seconds = time.monotonic(), parse_budget(budget_text)
    device = pick_device(device)
    n_workers = workers or default_workers(device)
    places = _Places(checkpoints_folder(checkpoints), data_root, device, n_workers, trust_code)
    catalog = LocalCatalog(places.checkpoints, data_root, trust_code=trust_code)
    plan = make_plan(load_suite(find_suite(suite, suite_folders()), catalog), catalog)
    suite_name = plan.suite.suite
    where = default_baseline(suite_name, f"reports/{suite_name}") if baseline is None else baseline
    before = open_baseline(where)
    fitting = _fitting(plan, before, catalog)
    store = RunStore(folder_at(out) if out else Path("reports") / f"{suite_name}_check")
    _refuse_other_runs(store.folder)

    with held(console, store.folder) as stop:
        store.sweep()
        clock = _Clock(seconds, started + seconds)
        choices = _choices(console, plan, before, fitting, places, store.folder, clock, rules.alpha)
        chosen = sampled_plan(plan, {choice.key: choice.index for choice in choices}, catalog)
        store.write_manifest(chosen.manifest())
        _run(console, chosen, store, choices, places, clock, stop)
    recording = read_run(store.folder)
    return compare_chosen(recording, before, choices, fitting.unfit, rules)


@dataclass(frozen=True)
class _Places:
    checkpoints: Path
    data_root: Path | None
    device: str
    workers: int
    trust_code: bool


@dataclass(frozen=True)
class _Clock:
    """A budget of seconds, and the moment at which it ends."""

    seconds: float
    ends: float

    @property
    def left(self) -> float:
        """Seconds."""
        return self.ends - time.monotonic()


@dataclass(frozen=True)
class _Fitting:
    """Which planned cells can be held against a baseline, and why other cells of it cannot."""

    cells: Mapping[Key, PlannedCell]
    unfit: Mapping[Key, tuple[str, ...]]


def _fitting(plan: Plan, baseline: Recording, catalog: LocalCatalog) -> _Fitting:
    planned = {(cell.model_label, cell.attack_label): cell for cell in plan.cells}
    cells: dict[Key, PlannedCell] = {}
    unfit: dict[Key, tuple[str, ...]] = {}
    for key, record in baseline.records.items():
        cell = planned.get(key)
        if cell is None or cell.refused:
            why = f"refused: {cell.refused}" if cell else "not among the suite's cells"
            unfit[key] = (why,)
            continue
        parts = measured_otherwise(record, cell.spec)
        try:
            if not parts and catalog.data_hash(record.spec.data) != record.spec.data_hash:
                parts = ("the images of the data set are others than the baseline's",)
        except UserError as error:
            parts = (f"the baseline's images are not here: {error}",)
        if parts:
            unfit[key] = parts
        else:
            cells[key] = cell
    return _Fitting(cells, unfit)


def _refuse_other_runs(folder: Folder) -> None:
    """Keeps the cells of a whole run from being deleted as those of another check."""
    if (folder / "store" / "run.json").is_file() and read_chosen(folder) is None:
        raise UserError(
            f"{folder}: expected the folder of a check within a budget, or none, found a run; "
            "choose another with --out"
        )


def _choices(
    console: Console,
    plan: Plan,
    baseline: Recording,
    fitting: _Fitting,
    places: _Places,
    folder: Folder,
    clock: _Clock,
    alpha: float,
) -> Sequence[Choice]:
    """Returns what an earlier call has chosen, if this one goes on with it; else chooses anew."""
    key = _key(plan, baseline, places.device, clock.seconds, alpha)
    earlier = read_chosen(folder)
    if earlier is not None and earlier.key == key:
        return earlier.choices
    forget(folder)
    with console.status("timing passes"):
        costs = _costs(baseline, fitting, places)
    left = clock.left - (START if places.workers == 1 else START_POOL)
    if left <= 0:
        raise UserError(
            f"--budget: expected more than {duration(clock.seconds - left)}, which it takes to "
            f"start, found {duration(clock.seconds)}"
        )
    facts = plan.manifest().checkpoints
    apart = {
        record.model
        for key, record in baseline.records.items()
        if key in fitting.cells
        and record.spec.sha256 != fitting.cells[key].spec.sha256
        and trained_apart(
            baseline.checkpoints.get(record.spec.checkpoint),
            facts.get(fitting.cells[key].spec.checkpoint),
        )
    }
    found = choose(baseline, costs, SLACK * left, workers=places.workers, alpha=alpha, apart=apart)
    write_chosen(folder, Chosen(key=key, choices=tuple(found)))
    return found


def _key(plan: Plan, baseline: Recording, device: str, seconds: float, alpha: float) -> str:
    """Returns what tells this check from one that would choose or find something else."""
    libraries = [versions(get_attack(cell.spec.attack)) for cell in plan.cells]
    return digest(
        {
            "budget": [seconds, alpha, device],
            "cells": [cell.cell_id for cell in plan.cells],
            "baseline": [[*r.key, r.spec.cell_id, *r.hits] for r in baseline.records.values()],
            "code": [
                code_hash(),
                *sorted({f"{n} {v}" for one in libraries for n, v in one.items()}),
            ],
        }
    )


def _costs(baseline: Recording, fitting: _Fitting, places: _Places) -> dict[Key, float]:
    records = [baseline.records[key] for key in fitting.cells]
    passes = [
        image_passes(fitting.cells[one.key], one.passes, one.accuracy.value) for one in records
    ]
    seconds = image_seconds(
        list(fitting.cells.values()),
        passes,
        places.checkpoints,
        places.data_root,
        places.device,
        places.workers,
        trust_code=places.trust_code,
    )
    return dict(zip(fitting.cells, seconds, strict=True))


def _run(
    console: Console,
    plan: Plan,
    store: RunStore,
    choices: Sequence[Choice],
    places: _Places,
    clock: _Clock,
    stop: Stop,
) -> None:
    """Runs what is not stored yet, until the time is over."""
    jobs = sampled_jobs(
        plan,
        store,
        {choice.key: choice.seconds for choice in choices},
        clock.seconds,
        places.checkpoints,
        places.data_root,
        places.device,
        trust_code=places.trust_code,
    )
    n_workers = min(places.workers, max(1, sum(job.n_batches for job in jobs)))
    with (
        Workers(n_workers, None, Deadline(stop, clock.ends)) as pool,
        LiveTable(console, plan, {job.spec.cell_id: job.cost for job in jobs}) as live,
    ):
        run_suite(plan, store, jobs, ShortestFirst(pool, jobs), live)
