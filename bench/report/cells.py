"""Table cells from the outcomes of evaluated cells, with shared footnotes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.core.result import (
    MINIMUM_NORM,
    MINIMUM_NORM_TEXT,
    CellInfo,
    Cluster,
    Row,
    adaptive_notes,
    alarms_of,
    cluster_of,
    notes_of,
)
from bench.metrics import (
    Contender,
    Estimate,
    attack_success_rate,
    label_accuracy,
    majority_accuracy,
    mean_accuracy,
    median_distance,
    robust_accuracy,
    targeted_success_rate,
    worst_of_draws_accuracy,
)
from bench.report.run_view import Outcome, RunView
from bench.report.table import ALARM, Cell, Column, Footnotes, Raw, Table, TableRow
from bench.report.text import protocol_text


@dataclass(frozen=True)
class CellMaker:
    """Makes the cells of a report.

    Attributes:
        footnotes: Collects the footnotes of all cells.
        common_n: Number of images, where it is the same for every cell and stated once above the
            table; ``None`` to state it in each cell.
    """

    footnotes: Footnotes
    common_n: int | None

    def accuracy(self, outcome: Outcome, published: float | None) -> Cell:
        """Returns the cell of a model's robust accuracy under an attack.

        Args:
            outcome: Outcome of the evaluated cell.
            published: The paper's number in percent, if any.
        """
        info = outcome.info
        if outcome.status != "ok" or info is None:
            return self.absent(outcome, published)
        estimate = robust_accuracy(outcome.rows, info.cluster)
        return Cell.of(
            estimate,
            self.lines(estimate, published),
            (*self.marks(estimate, info.alarms), *self.attack_marks(info)),
            published=None if published is None else published / 100,
            protocol=protocol_text(info.spec),
            alarms=info.alarms,
            extra=_details(outcome, info),
            contender=None if info.alarms else Contender(outcome.rows, info.cluster),
        )

    def absent(self, outcome: Outcome, published: float | None) -> Cell:
        """Returns the cell of an outcome without a number."""
        text = "—" if outcome.status in ("refused", "left_out", "absent") else "incomplete"
        reason = f"refused: {outcome.reason}" if outcome.status == "refused" else outcome.reason
        return Cell(
            lines=(text, *_paper(published)),
            marks=(self.footnotes.mark(reason),),
            published=None if published is None else published / 100,
            status=outcome.status,
            protocol="" if outcome.info is None else protocol_text(outcome.info.spec),
            alarms=() if outcome.info is None else outcome.info.alarms,
            reason=outcome.reason,
        )

    def lines(self, estimate: Estimate, published: float | None = None) -> tuple[str, ...]:
        """Formats an accuracy: percent, interval, n and the paper's number."""
        return (*estimate.shown(), *self.n_line(estimate.n), *_paper(published))

    def n_line(self, n: int) -> tuple[str, ...]:
        """Formats the number of images, unless it is stated above the table."""
        return (f"n={n}",) if self.common_n is None else ()

    def marks(self, estimate: Estimate, alarms: Sequence[str]) -> tuple[str, ...]:
        """Returns the marks of a number: for its alarms, and for a missing interval."""
        marks = self.alarm_marks(alarms)
        if estimate.interval is None:
            marks += (self.footnotes.mark(estimate.method),)
        return marks

    def attack_marks(self, info: CellInfo) -> tuple[str, ...]:
        """Returns the marks of an attack that is more, or less, than its name says.

        An adaptive one, and one that followed single draws of a stochastic model.
        """
        return tuple(self.footnotes.mark(text) for text in notes_of(info))

    def adaptive_marks(self, *infos: CellInfo | None) -> tuple[str, ...]:
        """Returns the marks of a number that rests on cells of adaptive attacks."""
        notes = adaptive_notes(info for info in infos if info is not None)
        return tuple(self.footnotes.mark(note) for note in notes)

    def alarm_marks(self, alarms: Sequence[str]) -> tuple[str, ...]:
        """Returns the marks of a number under alarms."""
        if not alarms:
            return ()
        meaning = "under an alarm, named beside it: doubt the number"
        letters = tuple(self.footnotes.mark(f"alarm: {alarm}") for alarm in alarms)
        return (self.footnotes.fixed(ALARM, meaning), *letters)


def attack_columns(view: RunView, footnotes: Footnotes) -> tuple[Column, ...]:
    """Returns a column for each attack but corruptions, with a mark on minimum-norm attacks."""
    columns = []
    for j in view.adversaries():
        attack = view.attacks[j]
        marks: tuple[str, ...] = ()
        if view.attack_kind(j) == "minimum-norm":
            meaning = f"{MINIMUM_NORM_TEXT}; its median distance is given below"
            marks = (footnotes.fixed(MINIMUM_NORM, meaning),)
        columns.append(Column(attack.label, marks))
    return tuple(columns)


def distance_table(view: RunView, maker: CellMaker) -> Table | None:
    """Returns the median distances of minimum-norm attacks; ``None`` without such attacks."""
    chosen = [j for j in range(len(view.attacks)) if view.attack_kind(j) == "minimum-norm"]
    if not chosen:
        return None
    rows = tuple(
        TableRow((model.label,), tuple(_distance_cell(view.outcome(i, j), maker) for j in chosen))
        for i, model in enumerate(view.models)
    )
    caption = (
        "Median distance (linf / l2, pixels in [0, 1]) of the images that each minimum-norm "
        "attack broke, within eps or not"
    )
    columns = tuple(Column(view.attacks[j].label) for j in chosen)
    return Table(caption, ("model",), columns, rows, in_csv=False)


def targeted_table(view: RunView, maker: CellMaker) -> Table | None:
    """Returns success and accuracy under targeted attacks; ``None`` without such attacks."""
    chosen = [j for j, attack in enumerate(view.attacks) if attack.y_target is not None]
    if not chosen:
        return None
    scores = (("brought to the target", targeted_success_rate), ("still right", label_accuracy))
    rows = tuple(
        TableRow(
            (model.label, name),
            tuple(_draws_cell(view.outcome(i, j), score, maker) for j in chosen),
            starts_group=not position,
        )
        for i, model in enumerate(view.models)
        for position, (name, score) in enumerate(scores)
    )
    caption = (
        "Targeted attacks: share of images that are brought to their target class, and share that "
        "are still classified as their label; the rest are of another wrong class"
    )
    columns = tuple(Column(view.attacks[j].label) for j in chosen)
    return Table(caption, ("model", "score"), columns, rows, in_csv=False)


def draws_table(view: RunView, maker: CellMaker) -> Table | None:
    """Returns majority votes and worst draws of stochastic models; ``None`` without such models."""
    rows: list[TableRow] = []
    shown = view.adversaries()
    for i, model in enumerate(view.models):
        n_draws = view.n_draws(i)
        if n_draws < 2:
            continue
        scores = (("majority vote", majority_accuracy), ("worst draw", worst_of_draws_accuracy))
        for position, (name, score) in enumerate(scores):
            cells = tuple(_draws_cell(view.outcome(i, j), score, maker) for j in shown)
            label = name if position == 0 else f"{name} of {n_draws}"
            rows.append(TableRow((model.label, label), cells, starts_group=not position))
    if not rows:
        return None
    caption = (
        "Stochastic models: accuracy of the majority vote of the draws, and share of images that "
        "are right on every draw; above, the mean over draws"
    )
    columns = tuple(Column(view.attacks[j].label) for j in shown)
    return Table(caption, ("model", "score"), columns, tuple(rows), in_csv=False)


def mean_corruption(view: RunView, model: int, attacks: Sequence[int], maker: CellMaker) -> Cell:
    """Returns a model's mean accuracy over corruptions; without a number if one is not complete."""
    outcomes = [view.outcome(model, j) for j in attacks]
    infos = [outcome.info for outcome in outcomes if outcome.info is not None]
    lacking = [j for j, o in zip(attacks, outcomes, strict=True) if o.status != "ok"]
    if lacking:
        first = view.outcome(model, lacking[0])
        if first.status in ("left_out", "absent"):
            return maker.absent(first, None)
        labels = ", ".join(view.attacks[j].label for j in lacking[:3]) + ", ..." * (
            len(lacking) > 3
        )
        reason = f"mean corruption accuracy lacks {len(lacking)} of {len(attacks)}: {labels}"
        return Cell(
            ("incomplete",), (maker.footnotes.mark(reason),), status="incomplete", reason=reason
        )
    cluster, alarms = cluster_of(infos), alarms_of(infos)
    found = mean_accuracy([outcome.rows for outcome in outcomes], cluster)
    marks, protocol = maker.marks(found, alarms), protocol_text(infos[0].spec)
    return Cell.of(found, maker.lines(found), marks, protocol=protocol, alarms=alarms)


def _draws_cell(
    outcome: Outcome, score: Callable[[Sequence[Row], Cluster], Estimate], maker: CellMaker
) -> Cell:
    if outcome.status != "ok" or outcome.info is None:
        return Cell(("—",), status=outcome.status)
    estimate = score(outcome.rows, outcome.info.cluster)
    return Cell.of(estimate, maker.lines(estimate), maker.adaptive_marks(outcome.info))


def _distance_cell(outcome: Outcome, maker: CellMaker) -> Cell:
    if outcome.status != "ok":
        return Cell(("—",), status=outcome.status)
    linf, l2 = median_distance(outcome.rows, "linf"), median_distance(outcome.rows, "l2")
    if linf is None or l2 is None:
        return Cell(("none broken",))
    lines = (f"{linf.value:.3f} / {l2.value:.2f}", f"n={linf.n}")
    return Cell(lines, maker.adaptive_marks(outcome.info))


def _details(outcome: Outcome, info: CellInfo) -> dict[str, Raw]:
    """Returns the additional CSV columns of a cell."""
    details: dict[str, Raw] = {"median_linf": None, "median_l2": None, "n_broken": None}
    details["attack_success_rate"] = None
    if info.spec.y_target is not None:
        details["targeted_success_rate"] = targeted_success_rate(outcome.rows, info.cluster).value
    details["majority_accuracy"] = details["worst_of_draws_accuracy"] = None
    cluster = info.cluster
    if info.spec.n_draws > 1:
        details["majority_accuracy"] = majority_accuracy(outcome.rows, cluster).value
        details["worst_of_draws_accuracy"] = worst_of_draws_accuracy(outcome.rows, cluster).value
    if info.attack_kind == "none":
        return details
    success = attack_success_rate(outcome.rows, cluster)
    details["attack_success_rate"] = None if success is None else success.value
    if info.attack_kind == "minimum-norm":
        linf, l2 = median_distance(outcome.rows, "linf"), median_distance(outcome.rows, "l2")
        if linf is not None and l2 is not None:
            details.update(median_linf=linf.value, median_l2=l2.value, n_broken=linf.n)
    return details


def _paper(published: float | None) -> tuple[str, ...]:
    return () if published is None else (f"(paper {published:g})",)
