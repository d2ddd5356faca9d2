"""Two attacks compared on the same images, for example a rewrite and its reference."""

from __future__ import annotations

from bench.core.result import cluster_of
from bench.metrics import agreement, paired_difference, points
from bench.report.cells import CellMaker
from bench.report.run_view import Outcome, RunView
from bench.report.table import Cell, Column, Footnotes, Report, Section, Table, TableRow
from bench.report.text import attack_section, head, model_section, title
from bench.suite.entry import ReportEntry

DIFFERENCE, ALIKE = "first - second", "judged alike"
PASSES = ("passes, first", "passes, second")


def build(view: RunView, entry: ReportEntry) -> Report:
    """Builds a row for each model and pair of attacks: both accuracies and their agreement.

    Raises:
        UserError: When two cells of a pair hold different images.
    """
    footnotes = Footnotes()
    maker = CellMaker(footnotes, view.common_n())
    columns = tuple(
        Column(label) for label in ("robust, first", "robust, second", DIFFERENCE, ALIKE, *PASSES)
    )
    place = {attack.label: j for j, attack in enumerate(view.attacks)}
    rows = []
    for i, model in enumerate(view.models):
        meets = {attack.label: model.meets(attack) for attack in view.attacks}
        met = [pair for pair in entry.pairs if all(meets[label] for label in pair)]
        for position, (one, other) in enumerate(met):
            first, second = view.outcome(i, place[one]), view.outcome(i, place[other])
            cells = (
                maker.accuracy(first, None),
                maker.accuracy(second, None),
                *_compared(first, second, maker),
                _passes(first),
                _passes(second),
            )
            rows.append(TableRow((model.label, one, other), cells, starts_group=not position))
    return Report(
        title=title(view),
        head=head(view),
        tables=(Table("", ("model", "first", "second"), columns, tuple(rows)),),
        footnotes=footnotes.listed(),
        sections=(model_section(view), attack_section(view), _reading()),
    )


def _compared(first: Outcome, second: Outcome, maker: CellMaker) -> tuple[Cell, Cell]:
    """Returns the paired difference of two outcomes and the share of images they agree on."""
    if first.status != "ok" or second.status != "ok" or first.info is None or second.info is None:
        reason = "a comparison needs both cells complete"
        absent = Cell(("—",), (maker.footnotes.mark(reason),), status="incomplete", reason=reason)
        return absent, absent
    cluster = cluster_of((first.info, second.info))
    result = paired_difference(first.rows, second.rows, cluster)
    difference = Cell.of(
        result,
        result.shown(points),
        (*maker.marks(result, ()), *maker.adaptive_marks(first.info, second.info)),
        extra={"p_value": result.p_value, "verdict": result.verdict},
    )
    alike = agreement(first.rows, second.rows, cluster)
    marks = (*maker.marks(alike, ()), *maker.adaptive_marks(first.info, second.info))
    return difference, Cell.of(alike, maker.lines(alike), marks)


def _passes(outcome: Outcome) -> Cell:
    """Returns the mean number of forward and backward passes per image."""
    if outcome.status != "ok":
        return Cell(("—",), status=outcome.status)
    forwards, backwards = (
        sum(getattr(row, kind) for row in outcome.rows) / len(outcome.rows)
        for kind in ("forwards", "backwards")
    )
    extra = {"forwards": forwards, "backwards": backwards}
    return Cell((f"{forwards + backwards:,.0f}",), n=len(outcome.rows), extra=extra)


def _reading() -> Section:
    items = (
        (
            DIFFERENCE,
            "paired difference of robust accuracy on the same images, in percentage points, with "
            "its 95 % interval (adjusted Wald; Student's for fractions of draws, and between "
            "batches where images share them); below 0, the first attack is the stronger",
        ),
        (
            ALIKE,
            "share of images to which both give the same verdict; for stochastic models, 1 minus "
            "the mean distance of their shares of right draws",
        ),
        (
            "passes",
            "forward and backward passes of a single image, mean over the images; every draw of a "
            "stochastic model counts",
        ),
    )
    return Section("How to read this", items)
