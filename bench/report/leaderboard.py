"""The leaderboard: models against attacks, and the worst case over the attacks."""

from __future__ import annotations

from bench.metrics import worst_case_accuracy
from bench.report.cells import CellMaker, attack_columns, distance_table, draws_table
from bench.report.paper import Paper
from bench.report.prose import attack_section, head, model_section, protocol_text, title
from bench.report.run_view import RunView
from bench.report.table import Cell, Column, Footnotes, Report, Section, Table, TableRow
from bench.suite import ReportEntry

WORST_CASE = "worst case"


def build(view: RunView, entry: ReportEntry) -> Report:
    """Builds the leaderboard of a run.

    Raises:
        UserError: When the published table cannot be used, or cells cannot be compared.
    """
    footnotes = Footnotes()
    maker = CellMaker(footnotes, view.common_n())
    paper = Paper.of(entry)
    columns = attack_columns(view, footnotes)
    attacked = [j for j in range(len(view.attacks)) if view.attack_kind(j) != "none"]
    if attacked:
        columns += (Column(WORST_CASE),)
    rows = []
    for i, model in enumerate(view.models):
        cells = [
            maker.accuracy(view.outcome(i, j), paper.value(model.published, attack.published))
            for j, attack in enumerate(view.attacks)
        ]
        if attacked:
            cells.append(_worst_case(view, i, attacked, maker))
        rows.append(TableRow((model.label,), tuple(cells)))
    tables = [Table("", ("model",), columns, tuple(rows))]
    if (draws := draws_table(view, maker)) is not None:
        tables.append(draws)
    if (distances := distance_table(view)) is not None:
        tables.append(distances)
    return Report(
        title=title(view),
        head=head(view),
        tables=tuple(tables),
        footnotes=footnotes.listed(),
        sections=(model_section(view), attack_section(view), _reading(view, paper)),
    )


def _worst_case(view: RunView, model: int, attacked: list[int], maker: CellMaker) -> Cell:
    """Returns the accuracy against the best of a model's complete attacks, image by image."""
    outcomes = [(view.attacks[j].label, view.outcome(model, j)) for j in attacked]
    done = [(o.rows, o.info) for _, o in outcomes if o.status == "ok" and o.info is not None]
    absent = [label for label, outcome in outcomes if outcome.status != "ok"]
    if not done:
        reason = "no attack on this model is complete"
        return Cell(
            ("incomplete",), (maker.footnotes.mark(reason),), status="incomplete", reason=reason
        )
    clustered = any(info.cluster == "batch" for _, info in done)
    estimate = worst_case_accuracy([rows for rows, _ in done], "batch" if clustered else "sample")
    alarms = tuple(dict.fromkeys(alarm for _, info in done for alarm in info.alarms))
    marks = maker.marks(estimate, alarms)
    reason = f"worst case without {', '.join(absent)}: an upper bound" if absent else ""
    if reason:
        marks += (maker.footnotes.mark(reason),)
    return Cell(
        lines=maker.lines(estimate),
        marks=marks,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        n=estimate.n,
        status="partial" if absent else "ok",
        protocol=" / ".join(dict.fromkeys(protocol_text(info.spec) for _, info in done)),
        alarms=alarms,
        reason=reason,
        extra={"method": estimate.method},
    )


def _reading(view: RunView, paper: Paper) -> Section:
    """Returns how to read the table."""
    items = [
        (
            WORST_CASE,
            "the share of images that are right under every complete attack of the row, decided "
            "image by image; never above the smallest number of the row",
        ),
        (
            "intervals",
            "Wilson's for independent images; where the images of a batch share statistics or a "
            "path, Wilson's with the effective number of images, from the variance between "
            "batches",
        ),
    ]
    if note := paper.note(view):
        items.append(("paper", note))
    return Section("How to read this", tuple(items))
