"""Population against batch statistics, in the layout of the RobustNorm paper's Table 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bench.core.result import alarms_of, cluster_of
from bench.metrics import Difference, paired_difference, points
from bench.report.cells import CellMaker, attack_columns, distance_table
from bench.report.papers.match import Paper
from bench.report.run_view import RunView
from bench.report.table import Cell, Footnotes, Report, Section, Table, TableRow
from bench.report.text import attack_section, head, model_section, title
from bench.suite.entry import ReportEntry

LETTERS = {"population": "P", "batch": "B", "tracked-mean": "tracked mean", None: "none"}
DIFFERENCE = "B - P"


def build(view: RunView, entry: ReportEntry) -> Report:
    """Builds rows P and B for each checkpoint, and their paired difference.

    Raises:
        UserError: When the published table cannot be used, or cells cannot be compared.
    """
    footnotes = Footnotes()
    maker = CellMaker(footnotes, view.common_n())
    paper = Paper.of(entry)
    rows: list[TableRow] = []
    for checkpoint in dict.fromkeys(model.checkpoint for model in view.models):
        rows += _group(view, checkpoint, maker, paper)
    columns = attack_columns(view, footnotes)
    tables = [Table("", ("model", "stats"), columns, tuple(rows), higher_is_better=True)]
    if (distances := distance_table(view, maker)) is not None:
        tables.append(distances)
    return Report(
        title=title(view),
        head=head(view),
        tables=tuple(tables),
        footnotes=footnotes.listed(),
        sections=(model_section(view), attack_section(view), _reading(view, paper)),
    )


def _group(view: RunView, checkpoint: str, maker: CellMaker, paper: Paper) -> list[TableRow]:
    """Returns the rows of one checkpoint."""
    members = [i for i, model in enumerate(view.models) if model.checkpoint == checkpoint]
    stats = {i: view.stats(i) for i in members}
    order = {"population": 0, "batch": 1}
    members.sort(key=lambda i: order.get(stats[i] or "", 2))
    names = _names(view, members, stats)
    rows: list[TableRow] = []
    for i in members:
        published = view.models[i].published
        cells = tuple(
            maker.accuracy(view.outcome(i, j), paper.value(published, attack.published))
            for j, attack in enumerate(view.attacks)
        )
        rows.append(TableRow((checkpoint, names[i]), cells, starts_group=not rows))
    population = [i for i in members if stats[i] == "population"]
    batch = [i for i in members if stats[i] == "batch"]
    for b in batch if population else []:
        p = population[0]
        label = DIFFERENCE if len(batch) == 1 else f"{names[b]} - {names[p]}"
        attacks = range(len(view.attacks))
        cells = tuple(_difference_cell(view, p, b, j, maker, paper) for j in attacks)
        rows.append(TableRow((checkpoint, label), cells))
    return rows


def _names(view: RunView, members: Sequence[int], stats: dict[int, str | None]) -> dict[int, str]:
    """Returns P, B, ...; with the model's label where a checkpoint has several of a kind."""
    letters = {i: LETTERS.get(stats[i], str(stats[i])) for i in members}
    counts = Counter(letters.values())
    return {
        i: letter if counts[letter] == 1 else f"{letter} ({view.models[i].label})"
        for i, letter in letters.items()
    }


def _difference_cell(
    view: RunView, p: int, b: int, attack: int, maker: CellMaker, paper: Paper
) -> Cell:
    """Returns the paired difference of B and P under an attack."""
    first, second = view.outcome(b, attack), view.outcome(p, attack)
    column = view.attacks[attack].published
    paper_b = paper.value(view.models[b].published, column)
    paper_p = paper.value(view.models[p].published, column)
    published = None if paper_b is None or paper_p is None else round(paper_b - paper_p, 6)
    infos = [outcome.info for outcome in (first, second) if outcome.info is not None]
    if first.status != "ok" or second.status != "ok" or len(infos) != 2:
        reason = "a difference needs a complete P and a complete B"
        mark = maker.footnotes.mark(reason)
        return Cell(("—",), (mark,), status="incomplete", reason=reason)
    result = paired_difference(first.rows, second.rows, cluster_of(infos))
    alarms = alarms_of(infos)
    return Cell.of(
        result,
        _lines(result, published),
        (*maker.marks(result, alarms), *maker.adaptive_marks(first.info, second.info)),
        published=None if published is None else published / 100,
        protocol=infos[0].spec.protocol,
        alarms=alarms,
        extra={"p_value": result.p_value, "verdict": result.verdict},
    )


def _lines(result: Difference, published: float | None) -> tuple[str, ...]:
    lines = list(result.shown(points))
    if result.p_value is not None:
        lines.append("p<0.0001" if result.p_value < 1e-4 else f"p={result.p_value:.2g}")
    lines.append(result.verdict)
    if published is not None:
        lines.append(f"(paper {published:+g})")
    return tuple(lines)


def _reading(view: RunView, paper: Paper) -> Section:
    """Returns how to read the table."""
    items = [
        ("P, B", "population statistics, batch statistics, of the same weights"),
        (
            DIFFERENCE,
            "paired difference on the same images, in percentage points, with its 95 % interval "
            "(adjusted Wald; Student's for fractions of draws and, with the variance between "
            "batches, where they share statistics) and the exact p of the signs, McNemar's, and of "
            "Student's t between batches where that is larger; not corrected for the number of "
            "attacks",
        ),
        (
            "higher, lower",
            "B is significantly more, or less, robust than P under this attack: the interval "
            "excludes 0 and p < 0.05; otherwise no difference is shown",
        ),
    ]
    if note := paper.note(view):
        items.append(("paper", note))
    return Section("How to read this", tuple(items))
