"""Sorts the cells of a run into the points, lines and panels of a curve."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.core.attack import CORRUPTION
from bench.core.checkpoint import CheckpointFacts
from bench.core.result import CellInfo
from bench.core.threat import ThreatModel
from bench.report.run_view import Outcome, RunView
from bench.report.text import STATS_TEXT
from bench.suite.entry import PanelEntry, ReportEntry


def attack_line(view: RunView, attack: int, without: Collection[str]) -> str:
    """Names the line of an attack over some varied fields.

    Attacks that the suite lists one by one share a line if they are the same in the registry.
    """
    entry = view.attacks[attack]
    if entry.series or entry.varied:
        return entry.line(without)
    alike = [a for a in view.attacks if a.attack == entry.attack and not (a.series or a.varied)]
    return entry.label if len(alike) == 1 else entry.attack.rpartition(":")[2]


def stats_text(view: RunView, model: int) -> str:
    """Returns the statistics in force of a model; empty where it has none."""
    stats = view.stats(model)
    return STATS_TEXT.get(stats or "", stats or "")


OTHER_NORM = "of another norm than the suite's, whose eps is another distance"
MAX_LINES = 8
"""Lines of a panel; more cannot be told apart."""


@dataclass(frozen=True)
class Unit:
    """The unit of an axis: its label, the text of a value, and the factor to it."""

    label: str
    text: Callable[[float], str] = "{:g}".format
    scale: float = 1.0


@dataclass(frozen=True)
class Axis:
    """The x axis of a curve.

    Attributes:
        name: Name of the quantity in captions and in the CSV file.
        x: Returns the quantity of a stored cell of a checkpoint; ``None`` for a cell without it.
        unit: Returns the unit for a threat model and all values of x.
        model_line: Names the line of a model, by position; models of a name share a line.
        attack_line: Names the line of an attack likewise.
        absent: Why a stored cell may lack the quantity.
        own_norm: Whether only cells in the norm of the suite's threat model have a place on it.
        log: Whether x is on a logarithmic scale.
        natural: Whether the clean accuracy is the point at 0 (``at 0``), a line of its own
            (``line``), or left out.
    """

    name: str
    x: Callable[[CellInfo, CheckpointFacts | None], float | None]
    unit: Callable[[ThreatModel, Sequence[float]], Unit]
    model_line: Callable[[RunView, int], str] = lambda view, i: view.models[i].line()
    attack_line: Callable[[RunView, int], str] = lambda view, j: view.attacks[j].line()
    absent: str = ""
    own_norm: bool = False
    log: bool = False
    natural: Literal["", "at 0", "line"] = ""


@dataclass(frozen=True)
class Point:
    """A cell with its place on the axis."""

    model: int
    attack: int
    x: float
    outcome: Outcome
    natural: bool = False


@dataclass(frozen=True)
class _Line:
    """Points of one model and attack over x, and what they are called."""

    model: str
    attack: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class CurvePanel:
    """A panel of the figure: its title, and pairs of a line's name and its points."""

    title: str
    lines: tuple[tuple[str, tuple[Point, ...]], ...]

    @property
    def xs(self) -> list[float]:
        """All positions of points, ascending."""
        return sorted({point.x for _, points in self.lines for point in points})


def find_points(view: RunView, axis: Axis) -> tuple[list[Point], dict[str, list[str]]]:
    """Returns the cells on the axis, and the names of the others by the reason why."""
    points: list[Point] = []
    left: dict[str, list[str]] = {}
    for i, model in enumerate(view.models):
        for j, attack in enumerate(view.attacks):
            outcome = view.outcome(i, j)
            natural = view.attack_kind(j) == "none"
            if attack.attack == CORRUPTION:
                continue
            if outcome.status == "left_out" or (natural and axis.natural != "line"):
                continue
            if axis.own_norm and attack.norm not in (None, view.suite.threat_model.norm):
                left.setdefault(OTHER_NORM, []).append(f"{model.label} / {attack.label}")
                continue
            x = None if outcome.info is None else axis.x(outcome.info, view.facts(i))
            if x is not None:
                points.append(Point(i, j, x, outcome))
            else:
                reason = axis.absent if outcome.info is not None else outcome.reason
                left.setdefault(reason, []).append(f"{model.label} / {attack.label}")
    return points, left


def find_panels(
    view: RunView, entry: ReportEntry, axis: Axis, points: Sequence[Point]
) -> list[CurvePanel]:
    """Divides points into the entry's panels, or into a panel for each line of attacks.

    Panels without a line are left out.
    """
    if entry.panels:
        chosen = [(one.title, _inside(view, one, points)) for one in entry.panels]
    else:
        by_attack: dict[str, list[Point]] = {}
        for point in points:
            by_attack.setdefault(axis.attack_line(view, point.attack), []).append(point)
        chosen = list(by_attack.items())
    panels = []
    for name, inside in chosen:
        lines = _named(_lines(view, axis, inside))
        parts = [lines[k : k + MAX_LINES] for k in range(0, len(lines), MAX_LINES)]
        for number, part in enumerate(parts, 1):
            count = f" ({number} of {len(parts)})" if len(parts) > 1 else ""
            panels.append(CurvePanel(name + count, tuple(part)))
    return panels


def _inside(view: RunView, panel: PanelEntry, points: Iterable[Point]) -> list[Point]:
    return [
        point
        for point in points
        if panel.has_model(view.models[point.model])
        and panel.has_attack(view.attacks[point.attack])
    ]


def _lines(view: RunView, axis: Axis, points: Sequence[Point]) -> list[_Line]:
    """Joins points to lines; where two cells would share an x, they are named by their labels."""
    lines = []
    for (model, attack), joined in _grouped(view, axis, points, False, False).items():
        groups = {(model, attack): joined}
        for by_label in ((True, False), (False, True), (True, True)):
            if all(_distinct(group) for group in groups.values()):
                break
            groups = _grouped(view, axis, joined, *by_label)
        for names, group in groups.items():
            unique = {point.x: point for point in reversed(group)}
            natural = _natural_points(view, group) if axis.natural == "at 0" else {}
            ordered = sorted({**natural, **unique}.items())
            lines.append(_Line(*names, tuple(point for _, point in ordered)))
    return lines


def _grouped(
    view: RunView, axis: Axis, points: Iterable[Point], model_label: bool, attack_label: bool
) -> dict[tuple[str, str], list[Point]]:
    groups: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        i, j = point.model, point.attack
        model = view.models[i].label if model_label else axis.model_line(view, i)
        attack = view.attacks[j].label if attack_label else axis.attack_line(view, j)
        groups.setdefault((model, attack), []).append(point)
    return groups


def _distinct(points: Sequence[Point]) -> bool:
    """Returns whether no two different cells have the same x."""
    cells = {(p.x, p.outcome.info.cell_id if p.outcome.info else "") for p in points}
    return len(cells) == len({point.x for point in points})


def _natural_points(view: RunView, points: Sequence[Point]) -> dict[float, Point]:
    """Returns the clean accuracy of a line's model as the point at 0, where the run has it."""
    models = {point.model for point in points}
    for j in range(len(view.attacks)) if len(models) == 1 else ():
        outcome = view.outcome(min(models), j)
        if view.attack_kind(j) == "none" and outcome.status == "ok":
            return {0.0: Point(min(models), j, 0.0, outcome, natural=True)}
    return {}


def _named(lines: Sequence[_Line]) -> list[tuple[str, tuple[Point, ...]]]:
    """Names lines by the parts that differ: model, attack, or both."""
    one_attack = len({line.attack for line in lines}) == 1
    one_model = len({line.model for line in lines}) == 1
    named = []
    for line in lines:
        parts = (line.model, line.attack)
        if one_attack:
            parts = (line.model, "")
        elif one_model:
            parts = ("", line.attack)
        named.append((", ".join(filter(None, parts)) or line.attack, line.points))
    return named
