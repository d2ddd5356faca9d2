"""What ``rbench run`` prints: a table that fills as cells end, the time left, and a summary."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.status import Status as Spinner
from rich.table import Table
from rich.text import Text

from bench.cli.options import duration, say, warn
from bench.core.analysis import AnalysisInfo
from bench.core.cell import CellSpec
from bench.core.paths import Folder
from bench.core.result import MINIMUM_NORM, CellInfo, Row, minimum_norm_note, standing_beyond
from bench.metrics import Estimate, percent, robust_accuracy
from bench.suite.plan import Plan, PlannedCell
from bench.suite.watcher import Status, Summary, Watcher

if TYPE_CHECKING:  # read once cells have ended
    from bench.report.table import Ranked


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
        self._accuracies: dict[str, float] = {}
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
        self._cells = [cell_id for cell_id in costs if cell_id in self._places]
        self._checks = [cell_id for cell_id in costs if cell_id not in self._places]
        self._started = time.monotonic()
        self._bar = Progress(TextColumn("{task.description}"), BarColumn(bar_width=None))
        self._task = self._bar.add_task("", total=max(sum(costs.values()), 1e-9))
        say_notes(self._console, plan)
        if self._console.is_terminal:
            self._live.start()
            self.refresh()
        elif costs:
            checks = f", and {_count(len(self._checks), 'check')} of attacks" * bool(self._checks)
            say(self._console, f"{_count(len(self._cells), 'cell')} to run{checks}")

    def show(self, info: CellInfo, rows: list[Row]) -> None:
        """Fills in a cell under each of its labels."""
        text = cell_text(info, rows)
        self._texts[info.cell_id] = text
        if info.complete and info.attack_kind == "corruption":
            self._accuracies[info.cell_id] = robust_accuracy(rows, info.cluster).value
        self._beyond[info.cell_id] = standing_beyond(rows)
        ran = self._left.pop(info.cell_id, None) is not None
        if ran and not self._console.is_terminal:
            for line in self._lines(info, text.plain):
                say(self._console, line)
        self.refresh()

    def _lines(self, info: CellInfo, text: str) -> list[str]:
        """Returns what is printed into a pipe about a cell, or a check of attacks, that ended."""
        ended, error = f"({duration(info.seconds)})", [f"    {info.error}"] * bool(info.error)
        if info.cell_id not in self._places:
            return [f"check [{self._done(self._checks)}] {_check(info.spec)} {ended}", *error]
        done = self._done(self._cells)
        names = [f"{c.model_label} / {_marked(c)}" for c in self._places[info.cell_id]]
        return [line for n in names for line in (f"[{done}] {n}: {text} {ended}", *error)]

    def _done(self, ids: Sequence[str], between: str = "/") -> str:
        """Returns how many of these cells have ended, for example ``3/9``."""
        return f"{len(ids) - sum(one in self._left for one in ids)}{between}{len(ids)}"

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
        done = [f"{self._done(self._cells, ' of ')} cells"]
        done += [f"{self._done(self._checks, ' of ')} checks"] * bool(self._checks)
        text = f"{', '.join(done)}, {duration(elapsed)} {remaining}"
        self._bar.update(self._task, completed=total - left, description=text)
        self._live.update(Group(self.table(), self._bar), refresh=True)

    def cells_ended(
        self, summary: Summary, alarms: Mapping[str, tuple[str, ...]], folder: Folder
    ) -> None:
        """Prints the table with the leaderboard's ranking, what ran, what failed, and alarms."""
        self._live.stop()
        ranking = _ranking(self._plan, folder)
        self._console.print(self.table(ranking))
        refused = dict.fromkeys(cell.refused for cell in self._plan.cells if cell.refused)
        _say_summary(self._console, summary, refused)
        _say_signs(self._console, self._plan, ranking)
        for note in self._minimum_norm():
            say(self._console, note, "dim")
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

    def table(self, ranking: Sequence[Ranked] = ()) -> Table:
        """Returns models by attacks, robust accuracy in percent with its 95 % interval.

        Args:
            ranking: Adds the columns of worst case and rank, beside the names.
        """
        models = list(dict.fromkeys(cell.model_label for cell in self._plan.cells))
        shown = [cell for cell in self._plan.cells if cell.attack_kind != "corruption"]
        attacks = {cell.attack_label: _marked(cell) for cell in shown}
        corrupted = len(shown) < len(self._plan.cells)
        found = {(c.model_label, c.attack_label): c for c in self._plan.cells}
        ranked = {one.label: one for one in ranking}
        table = Table(title=self._plan.suite.title, title_justify="left")
        table.add_column("model", no_wrap=True)
        worst = "worst case (union)" if self._plan.suite.union else "worst case"
        for name in (
            *((worst, "rank") if ranking else ()),
            *attacks.values(),
            *["corruptions (mean)"] * corrupted,
        ):
            table.add_column(name, justify="right", overflow="fold")
        for model in models:
            first = _rank_cells(ranked.get(model)) if ranking else ()
            last = [self._mean_corruption(model)] if corrupted else []
            cells = [self._cell(found.get((model, a))) for a in attacks]
            table.add_row(model, *first, *cells, *last)
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

    def _mean_corruption(self, model: str) -> Text:
        """Returns the mean of a model's corruptions, as far as they are finished."""
        mine = [
            cell.cell_id
            for cell in self._plan.cells
            if cell.model_label == model and cell.attack_kind == "corruption"
        ]
        done = [self._accuracies[i] for i in mine if i in self._accuracies]
        if not done:
            return Text("·" if mine else "—", style="dim")
        text = Text(percent(sum(done) / len(done)), style="bold")
        if len(done) < len(mine):
            text.append(f" {len(done)} of {len(mine)}", style="dim not bold")
        return text

    def _cell(self, cell: PlannedCell | None) -> Text:
        if cell is None or cell.refused:
            return Text("—", style="dim")
        return self._texts.get(cell.cell_id, Text("·", style="dim"))


def cell_text(info: CellInfo, rows: list[Row]) -> Text:
    """Returns ``71.9 [60.9, 80.7]``, or ``incomplete``."""
    if not info.complete:
        return Text("incomplete", style="red")
    text = _number(robust_accuracy(rows, info.cluster), alarmed=bool(info.alarms))
    if info.spec.y_target is not None:
        text.append(" targeted", style="cyan not bold")
    return text.append(" adaptive", style="cyan not bold") if info.spec.adaptive else text


def _number(estimate: Estimate, *, alarmed: bool, bound: bool = False) -> Text:
    text = Text("≤ " * bound + percent(estimate.value), style="bold")
    if alarmed:
        text.append(" !", style="yellow")
    if interval := estimate.brackets(lambda share: f"{100 * share:.0f}"):
        text.append(f" {interval}", style="dim not bold")
    return text


def _ranking(plan: Plan, folder: Folder) -> Sequence[Ranked]:
    """Returns the ranking of a run whose suite asks for a leaderboard; else empty."""
    from bench.report.kinds.leaderboard import standings
    from bench.report.run_view import RunView

    if all(report.kind != "leaderboard" for report in plan.suite.reports):
        return ()
    return standings(RunView(folder))


def _rank_cells(ranked: Ranked | None) -> tuple[Text, Text]:
    """Returns a model's worst case and rank; the best are starred."""
    if ranked is None:
        return Text("—", style="dim"), Text("—", style="dim")
    worst = _number(ranked.accuracy, alarmed=bool(ranked.alarms), bound=ranked.partial)
    rank = "—" if ranked.rank is None else str(ranked.rank)
    return worst, Text("★ " * ranked.best + rank, style="bold green" if ranked.best else "")


def _check(spec: CellSpec) -> str:
    """Names a check of a model's attacks, for example ``bn / pgd, n_iter 20: convergence``."""
    from bench.alarms.sentinel import ATTACK

    name, n_iter = f"{spec.checkpoint} / {spec.attack}", spec.attack_params.get("n_iter")
    if spec.attack == ATTACK:
        return f"{name}: sentinel"
    return f"{name}, n_iter {n_iter}: convergence" if n_iter else f"{name}: convergence"


def _marked(cell: PlannedCell) -> str:
    """Returns the label of a cell's attack, with a mark on minimum-norm attacks."""
    return cell.attack_label + f" {MINIMUM_NORM}" * (cell.attack_kind == "minimum-norm")


def say_notes(console: Console, plan: Plan) -> None:
    """Names the models that are left out for want of their checkpoint, and prints other notes."""
    for name in dict.fromkeys(plan.absent.values()):
        labels = ", ".join(label for label, lacking in plan.absent.items() if lacking == name)
        warn(console, f"left out, as checkpoint {name} is not here: {labels}")
    for note in plan.notes:
        warn(console, note)


def _count(n: int, word: str) -> str:
    return f"{n} {word}" + "s" * (n != 1)


def _say_signs(console: Console, plan: Plan, ranking: Sequence[Ranked]) -> None:
    """Explains the signs of the table."""
    from bench.report.table import star_note

    signs = ["models without a significant difference share a rank"] * bool(ranking)
    if note := star_note(ranking):
        signs.append(f"★ {note}")
    if any(one.partial for one in ranking):
        signs.append("≤ attacks are missing, so this is only an upper bound")
    if any(attack.y_target is not None for attack in plan.suite.attacks):
        signs.append("targeted: the share of images that are not brought to their target class")
    for sign in signs:
        say(console, sign, "dim")


def _say_summary(console: Console, summary: Summary, refused: Iterable[str]) -> None:
    console.print("robust accuracy in percent, 95 % interval in brackets", style="dim")
    checks = [_count(summary.swept, "convergence check")] * bool(summary.swept)
    checks += [_count(summary.sentinels, "sentinel")] * bool(summary.sentinels)
    parts = [f"{_count(summary.ran, 'cell')} done in {duration(summary.seconds)}"]
    parts += [f"plus {' and '.join(checks)}"] * bool(checks)
    parts += [f"{summary.kept} already stored"] * bool(summary.kept)
    parts += [f"{summary.refused} refused as invalid (—)"] * bool(summary.refused)
    again = "; to run them again: --out ANOTHER_FOLDER" if summary.kept and not summary.ran else ""
    console.print(", ".join(parts) + again, highlight=False, soft_wrap=True)
    for reason in refused:
        say(console, f"refused: {reason}")
    for label, reason in summary.incomplete:
        say(console, f"incomplete: {label}: {reason}", "red")
