"""Reports a run to experiment trackers: its suite, each cell as it ends, and its reports."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import bench
from bench.core.paths import Folder
from bench.core.registry import Registry
from bench.core.result import CellInfo, Row
from bench.export.write import file_stems
from bench.metrics import robust_accuracy
from bench.suite.plan import Plan
from bench.suite.watcher import Status, Watcher
from bench.untrusted.escape import one_line

Value = str | int | float | bool


class Tracker(Protocol):
    """One tracker. If it raises, the run goes on without it."""

    def start(self, name: str, params: Mapping[str, Value]) -> None:
        """Starts a run."""

    def log(self, metrics: Mapping[str, float]) -> None:
        """Logs numbers; a later one replaces an earlier one of the same name."""

    def finish(self, files: Sequence[Path], status: Status) -> None:
        """Logs files and ends the run."""


TRACKERS: Registry[Callable[[], Tracker]] = Registry("tracker")
TRACKERS.add_lazy("mlflow", "bench.export.on_mlflow:MlflowTracker")
TRACKERS.add_lazy("wandb", "bench.export.on_wandb:WandbTracker")


class Tracking(Watcher):
    """Reports a run to trackers. One that fails is dropped, with one line of warning.

    Args:
        names: Names of trackers.
        warn: Prints a line.

    Raises:
        UserError: For an unknown tracker, or one whose package is not installed.
    """

    def __init__(self, names: Iterable[str], warn: Callable[[str], None]) -> None:
        self._trackers = {name: TRACKERS.get(name)() for name in dict.fromkeys(names)}
        self._warn = warn
        self._names: dict[str, list[str]] = {}
        self._logged: dict[str, dict[str, float]] = {}

    def begin(self, plan: Plan, costs: Mapping[str, float], n_analyses: int) -> None:
        """Starts a run in each tracker, named like the suite."""
        self._names = _cell_names(plan)
        self._each(lambda tracker: tracker.start(plan.suite.suite, params_of(plan)))

    def show(self, info: CellInfo, rows: list[Row]) -> None:
        """Logs a cell under each of its labels, unless nothing has changed since the last time."""
        numbers = metrics_of(info, rows)
        for name in self._names.get(info.cell_id, ()):
            if self._logged.get(name) != numbers:
                self._logged[name] = numbers
                self._log({f"{name}/{key}": value for key, value in numbers.items()})

    def end(self, reports: Sequence[Folder], status: Status) -> None:
        """Hands the reports over, and ends the run in each tracker."""
        local = [path for path in reports if isinstance(path, Path)]
        if self._trackers and len(local) < len(reports):
            self._warn("reports in an object store are not handed to trackers")
        self._each(lambda tracker: tracker.finish(local, status))

    def _log(self, metrics: Mapping[str, float]) -> None:
        self._each(lambda tracker: tracker.log(metrics))

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                call(tracker)
            except Exception as error:  # the run goes on, whatever it is
                del self._trackers[name]
                why = one_line(f"{type(error).__name__}: {error}")[:300]
                self._warn(f"{name} failed and is not used for the rest of this run: {why}")


def params_of(plan: Plan) -> dict[str, Value]:
    """Returns a suite's settings and protocols as a flat mapping of short values."""
    suite = plan.suite.model_dump(mode="json")
    lists = ("models", "attacks", "analyses", "reports", "description")
    params: dict[str, Value] = {"rbench": bench.__version__, "n_images": plan.n_images}
    for key, value in suite.items():
        if isinstance(value, dict):
            params |= {f"{key}.{inner}": _short(one) for inner, one in value.items()}
        elif key not in lists:
            params[key] = _short(value)
    for key in ("models", "attacks"):
        params[key] = _short(", ".join(entry["label"] for entry in suite[key]))
    specs = [cell.spec for cell in plan.cells]
    params["protocols"] = ", ".join(dict.fromkeys(spec.protocol for spec in specs))
    if aids := dict.fromkeys(" and ".join(s.adaptive.words()) for s in specs if s.adaptive):
        params["adaptive"] = _short("; ".join(aids))
    return params


def metrics_of(info: CellInfo, rows: Sequence[Row]) -> dict[str, float]:
    """Returns a cell's numbers; an incomplete one has no accuracy."""
    numbers = {
        "complete": float(info.complete),
        "alarms": float(len(info.alarms)),
        "seconds": info.seconds,
    }
    if info.complete and rows:
        found = robust_accuracy(rows, info.cluster)
        numbers |= {"accuracy": found.value, "n": float(found.n)}
        if found.interval is not None:
            numbers |= dict(zip(("low", "high"), found.interval, strict=True))
    return numbers


def _short(value: object) -> Value:
    if isinstance(value, int | float):
        return value
    return "" if value is None else str(value)[:500]  # what all trackers take


def _cell_names(plan: Plan) -> dict[str, list[str]]:
    """Returns each cell's names ``MODEL/ATTACK`` by id, in characters that all trackers accept."""
    models = list(dict.fromkeys(cell.model_label for cell in plan.cells))
    attacks = list(dict.fromkeys(cell.attack_label for cell in plan.cells))
    rows = dict(zip(models, file_stems(models), strict=True))
    columns = dict(zip(attacks, file_stems(attacks), strict=True))
    names: dict[str, list[str]] = defaultdict(list)
    for cell in plan.cells:
        names[cell.cell_id].append(f"{rows[cell.model_label]}/{columns[cell.attack_label]}")
    return names
