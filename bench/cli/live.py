"""What ``rbench run`` prints: a table that fills as cells end, the time left, and a summary."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.status import Status as Spinner
from rich.table import Table
from rich.text import Text

from bench.cli.options import duration, say, warn
from bench.core.analysis import AnalysisInfo
from bench.core.paths import Folder
from bench.core.result import MINIMUM_NORM, CellInfo, Row, minimum_norm_note, standing_beyond
from bench.metrics import percent, robust_accuracy
from bench.suite.plan import Plan, PlannedCell
from bench.suite.watcher import Status, Summary, Watcher


class RunPrinter(Watcher):
    """Prints a run: on a terminal as a table that fills, elsewhere a line for each cell.

    Attributes:
        stopped_by: 128 + the signal that the run was asked to stop by; 0 if there was none.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._spinner: Spinner | None = None
        self._texts: dict[str, Text] = {}
        self._beyond: dict[str, tuple[int, int]] = {}
        self._analysed = 0
        self.stopped_by = 0

    def begin(self, plan: Plan, costs: Mapping[str, float], n_analyses: int) -> None:
        """Names models that are left out, and starts the table."""
        self._plan, self._n_analyses = plan, n_analyses
        self._places: dict[str, list[PlannedCell]] = defaultdict(list)
        for cell in plan.cells:
            self._places[cell.cell_id].append(cell)
        self._costs, self._left = dict(costs), dict(costs)
        self._started = time.monotonic()
        self._bar = Progress(TextColumn("{task.description}"), BarColumn(bar_width=None))
        self._task = self._bar.add_task("", total=max(sum(costs.values()), 1e-9))
        say_notes(self._console, plan)
        if self._console.is_terminal:
            self._live.start()
            self.refresh()

    def show(self, info: CellInfo, rows: list[Row]) -> None:
        """Fills in a cell under each of its labels."""
        text = cell_text(info, rows)
        self._texts[info.cell_id] = text
        self._beyond[info.cell_id] = standing_beyond(rows)
        ran = self._left.pop(info.cell_id, None) is not None
        if ran and not self._console.is_terminal:
            done = f"[{len(self._costs) - len(self._left)}/{len(self._costs)}]"
            for cell in self._places.get(info.cell_id, ()):
                name = f"{cell.model_label} / {_marked(cell)}"
                say(self._console, f"{done} {name}: {text.plain} ({duration(info.seconds)})")
                if info.error:
                    say(self._console, f"    {info.error}")
        self.refresh()

    def progress(self, cell_id: str, cost: float) -> None:
        """Counts a part of a cell as done."""
        if cell_id in self._left:
            self._left[cell_id] = max(0.0, self._left[cell_id] - cost)

    def refresh(self) -> None:
        """Redraws the table and the time left."""
        if not self._live.is_started:
            return
        elapsed = time.monotonic() - self._started
        total, left = sum(self._costs.values()), sum(self._left.values())
        remaining = (
            f"about {duration(elapsed * left / (total - left))} left" if left < total else ""
        )
        done = len(self._costs) - len(self._left)
        text = f"{done} of {len(self._costs)} cells, {duration(elapsed)} {remaining}"
        self._bar.update(self._task, completed=total - left, description=text)
        self._live.update(Group(self.table(), self._bar), refresh=True)

    def cells_ended(self, summary: Summary, alarms: Mapping[str, tuple[str, ...]]) -> None:
        """Prints the table, what ran, what failed, and the alarms."""
        self._live.stop()
        self._console.print(self.table())
        refused = dict.fromkeys(cell.refused for cell in self._plan.cells if cell.refused)
        _say_summary(self._console, summary, refused)
        for note in self._minimum_norm():
            say(self._console, note)
        for cell_id, texts in alarms.items():
            place = self._places[cell_id][0]
            for text in texts:
                warn(self._console, f"alarm: {place.model_label} / {place.attack_label}: {text}")
        if self._n_analyses:
            self._spinner = self._console.status("running analyses")
            self._spinner.start()

    def analysis_ended(self, label: str, info: AnalysisInfo) -> None:
        """Prints a line about an analysis."""
        self._analysed += 1
        ended = "complete" if info.complete else f"incomplete: {info.error}"
        done = f"[{self._analysed}/{self._n_analyses}]"
        line = f"{done} analysis {label}: {ended} ({duration(info.seconds)})"
        say(self._console, line, None if info.complete else "red")

    def stopping(self, exit_code: int) -> None:
        """Says that the run is about to stop."""
        self.stopped_by = exit_code
        text = "stopping: what is at work is finished and stored; once more to end at once"
        warn(self._console, text)

    def end(self, reports: Sequence[Folder], status: Status) -> None:
        """Clears what is live; what was printed stays."""
        self._live.stop()
        if self._spinner is not None:
            self._spinner.stop()

    def table(self) -> Table:
        """Returns models by attacks, robust accuracy in percent with its 95 % interval."""
        models = list(dict.fromkeys(cell.model_label for cell in self._plan.cells))
        attacks = {cell.attack_label: _marked(cell) for cell in self._plan.cells}
        found = {(c.model_label, c.attack_label): c for c in self._plan.cells}
        table = Table(title=self._plan.suite.title, title_justify="left")
        table.add_column("model", no_wrap=True)
        for attack in attacks.values():
            table.add_column(attack, justify="right", overflow="fold")
        for model in models:
            table.add_row(model, *[self._cell(found.get((model, a))) for a in attacks])
        return table

    def _minimum_norm(self) -> list[str]:
        """Returns a line about each minimum-norm attack, over all models that are finished."""
        found: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for cell in self._plan.cells:
            if cell.attack_kind == "minimum-norm":
                found[cell.attack_label].append(self._beyond.get(cell.cell_id, (0, 0)))
        return [
            f"{MINIMUM_NORM} {label}: "
            + minimum_norm_note(sum(n for n, _ in counts), sum(m for _, m in counts))
            for label, counts in found.items()
        ]

    def _cell(self, cell: PlannedCell | None) -> Text:
        if cell is None or cell.refused:
            return Text("—", style="dim")
        return self._texts.get(cell.cell_id, Text("·", style="dim"))


def _marked(cell: PlannedCell) -> str:
    """Returns the label of a cell's attack, with a mark on minimum-norm attacks."""
    return cell.attack_label + f" {MINIMUM_NORM}" * (cell.attack_kind == "minimum-norm")


def cell_text(info: CellInfo, rows: list[Row]) -> Text:
    """Returns ``71.9 [60.9, 80.7]``, or ``incomplete``."""
    if not info.complete:
        return Text("incomplete", style="red")
    estimate = robust_accuracy(rows, info.cluster)
    text = Text(percent(estimate.value), style="bold")
    if info.spec.adaptive is not None:
        text.append(" adaptive", style="cyan not bold")
    if info.alarms:
        text.append(" !", style="yellow")
    if interval := estimate.brackets(lambda share: f"{100 * share:.0f}"):
        text.append(f" {interval}", style="dim not bold")
    return text


def say_notes(console: Console, plan: Plan) -> None:
    """Names the models that are left out for want of their checkpoint, and prints other notes."""
    for name in dict.fromkeys(plan.absent.values()):
        labels = ", ".join(label for label, lacking in plan.absent.items() if lacking == name)
        warn(console, f"left out, as checkpoint {name} is not here: {labels}")
    for note in plan.notes:
        warn(console, note)


def _say_summary(console: Console, summary: Summary, refused: Iterable[str]) -> None:
    console.print("robust accuracy in percent, 95 % interval in brackets", style="dim")
    parts = [f"{summary.ran} cells run in {duration(summary.seconds)}"]
    parts += [f"{summary.swept} more to test the attacks"] * bool(summary.swept)
    parts += [f"{summary.kept} already stored"] * bool(summary.kept)
    parts += [f"{summary.refused} refused as invalid (—)"] * bool(summary.refused)
    again = "; to run them again: --out ANOTHER_FOLDER" if summary.kept and not summary.ran else ""
    console.print(", ".join(parts) + again, highlight=False, soft_wrap=True)
    for reason in refused:
        say(console, f"refused: {reason}")
    for label, reason in summary.incomplete:
        say(console, f"incomplete: {label}: {reason}", "red")
