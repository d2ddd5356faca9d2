"""What a run tells trackers: its suite, each cell as it ends, and its reports."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol

import bench
from bench.core.paths import Folder
from bench.core.registry import Registry
from bench.core.result import CellInfo, Row
from bench.export.write import file_stems
from bench.metrics import robust_accuracy
from bench.run.schedule import Watcher
from bench.suite import Plan
from bench.untrusted.escape import one_line

Status = Literal["finished", "incomplete", "stopped"]
Value = str | int | float | bool


class Tracker(Protocol):
    """One tracker; anything that it raises ends its part and nothing else."""

    def start(self, name: str, params: Mapping[str, Value]) -> None:
        """Begins a run of a suite's name."""

    def log(self, metrics: Mapping[str, float]) -> None:
        """Keeps numbers; a later one of the same name counts."""

    def finish(self, files: Sequence[Path], status: Status) -> None:
        """Keeps files, and ends the run."""


TRACKERS: Registry[Callable[[], Tracker]] = Registry("tracker")
TRACKERS.add_lazy("mlflow", "bench.export.on_mlflow:MlflowTracker")
TRACKERS.add_lazy("wandb", "bench.export.on_wandb:WandbTracker")


class Tracking(Watcher):
    """Tells trackers of a run. One that fails is dropped, with one line of warning.

    Args:
        names: Of trackers.
        plan: The run's cells.
        warn: Prints a line.

    Raises:
        UserError: For an unknown tracker, or one whose package is not installed.
    """

    def __init__(self, names: Iterable[str], plan: Plan, warn: Callable[[str], None]) -> None:
        self._trackers = {name: TRACKERS.get(name)() for name in dict.fromkeys(names)}
        self._plan, self._warn = plan, warn
        self._names = _cell_names(plan)
        self._told: dict[str, dict[str, float]] = {}
        self._open = False

    def __enter__(self) -> Tracking:
        self._open = True
        suite = self._plan.suite
        self._each(lambda tracker: tracker.start(suite.suite, params_of(self._plan)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.finish((), "stopped")

    def show(self, info: CellInfo, rows: list[Row]) -> None:
        """Tells of a cell, in all its places; again only if something has changed."""
        numbers = metrics_of(info, rows)
        for name in self._names.get(info.cell_id, ()):
            if self._told.get(name) != numbers:
                self._told[name] = numbers
                self._log({f"{name}/{key}": value for key, value in numbers.items()})

    def finish(self, files: Sequence[Folder], status: Status) -> None:
        """Hands over the reports, and ends; what comes later is not told."""
        if not self._open:
            return
        self._open = False
        local = [path for path in files if isinstance(path, Path)]
        if self._trackers and len(local) < len(files):
            self._warn("reports in an object store are not handed to trackers")
        self._each(lambda tracker: tracker.finish(local, status))

    def _log(self, metrics: Mapping[str, float]) -> None:
        self._each(lambda tracker: tracker.log(metrics))

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                call(tracker)
            except Exception as error:  # whatever it is, the run goes on
                del self._trackers[name]
                why = one_line(f"{type(error).__name__}: {error}")[:300]
                self._warn(f"{name} failed, and is told no more of this run: {why}")


class Both(Watcher):
    """Tells several watchers."""

    def __init__(self, *watchers: Watcher) -> None:
        self._watchers = watchers

    def show(self, info: CellInfo, rows: list[Row]) -> None:
        """Tells each of a cell."""
        for watcher in self._watchers:
            watcher.show(info, rows)

    def progress(self, cell_id: str, cost: float) -> None:
        """Tells each of a part of a cell."""
        for watcher in self._watchers:
            watcher.progress(cell_id, cost)

    def refresh(self) -> None:
        """Passes the call on."""
        for watcher in self._watchers:
            watcher.refresh()


def params_of(plan: Plan) -> dict[str, Value]:
    """Returns a suite's settings and protocols as one flat mapping of short values."""
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
    params["protocols"] = ", ".join(dict.fromkeys(cell.spec.protocol for cell in plan.cells))
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
        if found.low is not None and found.high is not None:
            numbers |= {"low": found.low, "high": found.high}
    return numbers


def _short(value: object) -> Value:
    if isinstance(value, int | float):
        return value
    return "" if value is None else str(value)[:500]  # what all trackers take


def _cell_names(plan: Plan) -> dict[str, list[str]]:
    """Returns ``MODEL/ATTACK`` for each place of a cell, in letters that all trackers take."""
    models = list(dict.fromkeys(cell.model_label for cell in plan.cells))
    attacks = list(dict.fromkeys(cell.attack_label for cell in plan.cells))
    rows = dict(zip(models, file_stems(models), strict=True))
    columns = dict(zip(attacks, file_stems(attacks), strict=True))
    names: dict[str, list[str]] = defaultdict(list)
    for cell in plan.cells:
        names[cell.cell_id].append(f"{rows[cell.model_label]}/{columns[cell.attack_label]}")
    return names
