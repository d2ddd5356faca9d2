"""A table that fills as cells finish, with the time left; plain lines without a terminal."""

from __future__ import annotations

import time
from collections import defaultdict
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from bench.cli.options import duration
from bench.core.result import CellInfo, Row
from bench.metrics import robust_accuracy
from bench.run.schedule import Watcher
from bench.suite import Plan, PlannedCell


class LiveTable(Watcher):
    """Shows a run while it goes on.

    Args:
        console: Where to show it.
        plan: The cells.
        costs: Estimated passes of each cell that is still to run, by id.
    """

    def __init__(self, console: Console, plan: Plan, costs: dict[str, float]) -> None:
        self._console, self._plan = console, plan
        self._places: dict[str, list[PlannedCell]] = defaultdict(list)
        for cell in plan.cells:
            self._places[cell.spec.cell_id].append(cell)
        self._costs, self._left = dict(costs), dict(costs)
        self._n = len(costs)
        self._started = time.monotonic()
        self._texts: dict[str, Text] = {}
        self._bar = Progress(TextColumn("{task.description}"), BarColumn(bar_width=None))
        self._task = self._bar.add_task("", total=max(sum(costs.values()), 1e-9))
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> LiveTable:
        if self._console.is_terminal:
            self._live.start()
            self.refresh()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    @property
    def elapsed(self) -> float:
        """Seconds since the table was made."""
        return time.monotonic() - self._started

    def stop(self) -> None:
        """Clears the live view; what was printed stays."""
        self._live.stop()

    def show(self, info: CellInfo, rows: list[Row]) -> None:
        """Fills in a cell, in all its places."""
        text = cell_text(info, rows)
        self._texts[info.cell_id] = text
        ran = self._left.pop(info.cell_id, None) is not None
        if ran and not self._console.is_terminal:
            done = self._n - len(self._left)
            for cell in self._places.get(info.cell_id, ()):
                name = f"{cell.model_label} / {cell.attack_label}"
                line = f"[{done}/{self._n}] {name}: {text.plain} ({duration(info.seconds)})"
                self._console.print(line, highlight=False, markup=False, soft_wrap=True)
                if info.error:
                    self._console.print(f"    {info.error}", markup=False, soft_wrap=True)
        self.refresh()

    def progress(self, cell_id: str, cost: float) -> None:
        """Counts a part of a cell as done."""
        if cell_id in self._left:
            self._left[cell_id] = max(0.0, self._left[cell_id] - cost)

    def refresh(self) -> None:
        """Redraws the table and the time left."""
        if not self._console.is_terminal:
            return
        elapsed = self.elapsed
        total, left = sum(self._costs.values()), sum(self._left.values())
        remaining = (
            f"about {duration(elapsed * left / (total - left))} left" if left < total else ""
        )
        done = self._n - len(self._left)
        text = f"{done} of {self._n} cells, {duration(elapsed)} {remaining}"
        self._bar.update(self._task, completed=total - left, description=text)
        self._live.update(Group(self.table(), self._bar), refresh=True)

    def table(self) -> Table:
        """Returns models by attacks, robust accuracy in percent with its 95 % interval."""
        models = list(dict.fromkeys(cell.model_label for cell in self._plan.cells))
        attacks = list(dict.fromkeys(cell.attack_label for cell in self._plan.cells))
        found = {(c.model_label, c.attack_label): c for c in self._plan.cells}
        table = Table(title=self._plan.suite.title, title_justify="left")
        table.add_column("model", no_wrap=True)
        for attack in attacks:
            table.add_column(attack, justify="right", overflow="fold")
        for model in models:
            table.add_row(model, *[self._cell(found.get((model, a))) for a in attacks])
        return table

    def _cell(self, cell: PlannedCell | None) -> Text:
        if cell is None or cell.refused:
            return Text("—", style="dim")
        return self._texts.get(cell.spec.cell_id, Text("·", style="dim"))


def cell_text(info: CellInfo, rows: list[Row]) -> Text:
    """Returns ``71.9 [60.9, 80.7]``, or ``incomplete``."""
    if not info.complete:
        return Text("incomplete", style="red")
    estimate = robust_accuracy(rows, info.cluster)
    text = Text(f"{100 * estimate.value:.1f}", style="bold")
    if info.alarms:
        text.append(" !", style="yellow")
    if estimate.low is not None and estimate.high is not None:
        text.append(f" [{100 * estimate.low:.0f}, {100 * estimate.high:.0f}]", style="dim not bold")
    return text
