"""Published and measured numbers side by side, and whether the two can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from bench.core.errors import UserError
from bench.metrics import Estimate, independent_difference, points, robust_accuracy, wilson
from bench.published import PublishedTable, Setting, load_table
from bench.report.cells import CellMaker, attack_columns
from bench.report.papers.match import ACCURACY, Match, Paper, not_linked, remarks, verdict
from bench.report.papers.mismatches import Mismatch
from bench.report.run_view import RunView
from bench.report.table import Cell, Column, Footnotes, Report, Section, Table, TableRow
from bench.report.text import attack_section, head, model_section, title

PAPER, HERE, DIFFERENCE = "paper", "here", "here - paper"


def build_comparison(view: RunView, table_id: str) -> Report:
    """Builds three rows for each model with a published row: paper, here, and their difference.

    Rows and columns are matched by ``published`` of the suite's models and attacks, and narrowed
    down by ``where`` of its reports that name the table.

    Args:
        view: The run.
        table_id: Id of the table, for example ``rna/table1``.

    Raises:
        UserError: When there is no such table, it holds no accuracies, or no cell of the run
            corresponds to a number of it.
    """
    table = load_table(table_id)
    found = _matches(view, table)
    footnotes = Footnotes()
    maker = CellMaker(footnotes, view.common_n())
    columns = _columns(view, found, footnotes)
    rows: list[TableRow] = []
    for place in dict.fromkeys((match.model, _name(match.row)) for match in found):
        of_row = {m.attack: m for m in found if (m.model, _name(m.row)) == place}
        rows += _rows(view.models[place[0]].label, [of_row.get(j) for j in columns], maker)
    return Report(
        title=f"{title(view)}: published ({table_id}) and measured",
        head=(_what(table, found), verdict(found), *remarks(view, found), *head(view)),
        tables=(Table("", ("model", "number"), tuple(columns.values()), tuple(rows)),),
        footnotes=footnotes.listed(),
        sections=(
            _why(view, found),
            _not_here(table, found),
            _how(table),
            _only(model_section(view), [view.models[match.model].label for match in found]),
            _only(attack_section(view), [match.attack_label for match in found]),
            _reading(),
        ),
    )


def comparison_name(table_id: str) -> str:
    """Returns the file name of a comparison, without its ending."""
    return f"compare-{table_id.replace('/', '-')}"


def _matches(view: RunView, table: PublishedTable) -> list[Match]:
    if table.unit != ACCURACY:
        raise UserError(
            f"published table {table.id} holds no accuracies but {table.unit}; choose another, or "
            "name it in a report of the suite that has the same unit (kind gain_table for gains)"
        )
    entries = [entry.where for entry in view.suite.reports if entry.published == table.id]
    wheres: list[Mapping[str, object]] = []
    for where in entries or [{}]:
        wheres += [where] * (where not in wheres)
    found = [match for where in wheres for match in Paper(table, where).matches(view)]
    if not found:
        raise not_linked(view, table, wheres[0])
    return sorted(found, key=lambda match: (match.model, match.attack))


def _columns(view: RunView, found: Sequence[Match], footnotes: Footnotes) -> dict[int, Column]:
    """Returns the columns of the matched attacks by position, with footnotes for these alone."""
    shown = {match.attack for match in found}
    every = attack_columns(view, Footnotes())
    if any(every[j].marks for j in shown):
        every = attack_columns(view, footnotes)
    return {j: every[j] for j in sorted(shown)}


def _rows(label: str, matches: Sequence[Match | None], maker: CellMaker) -> list[TableRow]:
    gap = Cell(("",), status="left_out", reason="the paper's table has no such column")
    three = [_three(match, maker) if match is not None else (gap, gap, gap) for match in matches]
    names = (PAPER, HERE, DIFFERENCE)
    return [
        TableRow((label, name), tuple(cells[i] for cells in three), starts_group=i == 0)
        for i, name in enumerate(names)
    ]


def _three(match: Match, maker: CellMaker) -> tuple[Cell, Cell, Cell]:
    """Returns a published number, the measured one, and their difference."""
    paper = published_estimate(match.published, match.setting)
    measured = maker.accuracy(match.outcome, None)
    if paper is None:
        absent = Cell(("—",), status="missing", reason="the paper gives no number")
        return absent, measured, absent
    lines = (f"{match.published:g}", *paper.shown()[1:])
    shown = Cell.of(paper, lines, protocol=match.setting.protocol)
    return replace(shown, n=paper.n or None), measured, _difference(match, paper, maker)


def published_estimate(percent: float | None, setting: Setting) -> Estimate | None:
    """Returns a published percentage as an accuracy.

    The papers do not state n. The interval is that of the whole test set with independent images,
    the narrowest possible.
    """
    if percent is None:
        return None
    value, n = percent / 100, setting.n_images
    if n is None:
        return Estimate(value, None, None, 0, "no interval: the paper says no n")
    low, high = wilson(value * n, n)
    return Estimate(value, low, high, n, "wilson, of the whole test set")


def _difference(match: Match, paper: Estimate, maker: CellMaker) -> Cell:
    info = match.outcome.info
    if match.outcome.status != "ok" or info is None:
        return Cell(("—",), status=match.outcome.status, reason=match.outcome.reason)
    result = independent_difference(robust_accuracy(match.outcome.rows, info.cluster), paper)
    marks = (*maker.alarm_marks(info.alarms), *maker.adaptive_marks(match.outcome.info))
    if match.mismatches:
        names = ", ".join(dict.fromkeys(one.what for one in match.mismatches))
        marks += (maker.footnotes.mark(f"not comparable: {names} differ, see below"),)
    return Cell.of(
        result,
        result.shown(points),
        marks,
        published=paper.value,
        alarms=info.alarms,
        extra={
            "comparable": "no" if match.mismatches else "yes",
            "differ": "; ".join(map(str, match.mismatches)),
        },
    )


def _what(table: PublishedTable, found: Iterable[Match]) -> str:
    sizes = sorted({match.setting.n_images for match in found} - {None}, key=lambda n: n or 0)
    n = " or ".join(f"{size:,}" for size in sizes)
    intervals = (
        f"The paper says no n; its intervals take all {n} test images as independent, the "
        "narrowest that they can be."
        if n
        else "The paper says no n, so its numbers have no interval."
    )
    return f"Published: {table.id}, “{table.title}”, in percent. {intervals}"


def _why(view: RunView, found: Sequence[Match]) -> Section:
    """Returns every difference between the experiments, and the numbers it concerns."""
    done = [match for match in found if match.outcome.status == "ok"]
    places: dict[Mismatch, list[Match]] = {}
    for match in done:
        for one in match.mismatches:
            places.setdefault(one, []).append(match)
    items: dict[str, list[str]] = {}
    for one, matches in places.items():
        said = f"{one.here} here, {one.there} there ({_where(view, matches, done)})"
        items.setdefault(one.what, []).append(said)
    if not items:
        text = "nothing that is known" if done else "nothing is measured here yet"
        return Section("What differs", (("difference", text),))
    return Section("What differs", tuple((what, "; ".join(said)) for what, said in items.items()))


def _where(view: RunView, some: Sequence[Match], every: Sequence[Match]) -> str:
    """Names some of the numbers by their rows and columns, as briefly as possible."""
    attacked = [m for m in every if m.outcome.info and m.outcome.info.attack_kind != "none"]
    models = list(dict.fromkeys(match.model for match in some))
    attacks = list(dict.fromkeys(match.attack for match in some))
    rows = ", ".join(view.models[i].label for i in models)
    columns = ", ".join(view.attacks[j].label for j in attacks)
    for pool, all_of_it in ((every, "every number"), (attacked, "every attack")):
        if len(some) == len(pool):
            return all_of_it
        if len(some) == sum(match.model in models for match in pool):
            return f"{rows}: {all_of_it}"
    if len(some) == sum(match.attack in attacks for match in every):
        return columns
    return f"{rows}: {columns}"


def _not_here(table: PublishedTable, found: Sequence[Match]) -> Section:
    """Returns the rows and columns of the table that the run lacks."""
    rows, columns = {_name(match.row) for match in found}, {match.column for match in found}
    absent = [_name(keys) for keys, _ in table.rows if _name(keys) not in rows]
    without = [column for column in table.columns if column not in columns]
    items = [("rows", "; ".join(absent))] * bool(absent)
    items += [("columns", ", ".join(without))] * bool(without)
    return Section("Published and not in this run", tuple(items or [("nothing", "all is here")]))


def _how(table: PublishedTable) -> Section:
    """Returns how the authors measured."""
    items = [("measured", table.measured), ("attacks", table.attacks), ("training", table.training)]
    return Section("The paper", tuple((name, text) for name, text in items if text))


def _only(section: Section, names: Iterable[str]) -> Section:
    wanted = set(names)
    return Section(section.title, tuple(item for item in section.items if item[0] in wanted))


def _reading() -> Section:
    return Section(
        "How to read this",
        (
            (
                DIFFERENCE,
                "in percentage points, with the 95 % interval for two independent samples "
                "(Newcombe's, from the two numbers' own); where the two are not comparable it "
                "says how far apart they are, and nothing of who is right",
            ),
        ),
    )


def _name(row: Mapping[str, object]) -> str:
    """Returns a published row's keys as text."""
    return ", ".join(f"{key} {value}" for key, value in row.items())
