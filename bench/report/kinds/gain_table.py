"""Relative gain of batch over population statistics, as in the RobustNorm paper's Table 4."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

from bench.core.result import alarms_of, cluster_of
from bench.metrics import percent, points, relative_gain, robust_accuracy
from bench.published import load_table
from bench.report.cells import CellMaker
from bench.report.papers.match import Paper
from bench.report.run_view import Outcome, RunView
from bench.report.table import Cell, Column, Footnotes, Report, Section, Table, TableRow
from bench.report.text import attack_section, head, model_section, protocol_text, title
from bench.suite.entry import ReportEntry

_LABELS = ("data set", "model", "training")
GAIN_UNIT = "100 * (B - P) / P"
_ORDER = {"natural": 0, "adversarial": 1}
NO_PAIR = (
    "Nothing to show: the suite has no checkpoint that is attacked alike under population and "
    "under batch statistics."
)


def build(view: RunView, entry: ReportEntry) -> Report:
    """Builds a row for each checkpoint under both statistics, naturally trained ones first.

    Raises:
        UserError: When the published table is unknown.
    """
    footnotes = Footnotes()
    maker = CellMaker(footnotes, view.common_n())
    table = load_table(entry.published) if entry.published else None
    paper = Paper(table if table and table.unit == GAIN_UNIT else None, entry.where)
    attacks = [j for j in range(len(view.attacks)) if view.attack_kind(j) != "none"]
    rows: list[TableRow] = []
    for p, b in _pairs(view):
        labels = _row_labels(view, p, b)
        cells = tuple(_cell(view, p, b, j, maker, paper) for j in attacks)
        is_new = not rows or rows[-1].labels[0] != labels[0]
        rows.append(TableRow(labels, cells, starts_group=is_new))
    caption = "Relative gain in percent of batch (B) over population (P) statistics"
    columns = tuple(Column(view.attacks[j].label) for j in attacks)
    return Report(
        title=title(view),
        head=(*head(view), *((NO_PAIR,) if not rows else ())),
        tables=(Table(caption, _LABELS, columns, tuple(rows)),),
        footnotes=footnotes.listed(),
        sections=(model_section(view), attack_section(view), _reading(view, paper)),
    )


def _pairs(view: RunView) -> list[tuple[int, int]]:
    """Returns the models P and B of each checkpoint that is attacked alike under both."""
    population: dict[Hashable, int] = {}
    batch: list[tuple[Hashable, int]] = []
    for i, model in enumerate(view.models):
        key = (model.checkpoint, model.protocol, model.gradient_model, model.loss)
        stats = view.stats(i)
        if model.surrogate is not None:
            continue
        if stats == "population":
            population.setdefault(key, i)
        elif stats == "batch":
            batch.append((key, i))
    pairs = [(population[key], i) for key, i in batch if key in population]
    sets = list(dict.fromkeys(_trained(view, b)[0] for _, b in pairs))
    return sorted(
        pairs,
        key=lambda pair: (
            sets.index(_trained(view, pair[1])[0]),
            _ORDER.get(_trained(view, pair[1])[1], len(_ORDER)),
        ),
    )


def _trained(view: RunView, model: int) -> tuple[str, str]:
    """Returns the data set and the kind of a model's training, as far as the run notes it."""
    facts = view.facts(model)
    return (view.suite.data.name, "") if facts is None else (facts.dataset, facts.training)


def _row_labels(view: RunView, p: int, b: int) -> tuple[str, str, str]:
    """Returns data set, model and training; names B where its checkpoint has several pairs."""
    dataset, training = _trained(view, b)
    checkpoint = view.models[b].checkpoint
    several = sum(view.models[i].checkpoint == checkpoint for _, i in _pairs(view)) > 1
    name = f"{checkpoint} ({view.models[b].label})" if several else checkpoint
    return dataset, name, training or "not known"


def _cell(view: RunView, p: int, b: int, attack: int, maker: CellMaker, paper: Paper) -> Cell:
    """Returns the relative gain of B over P under an attack."""
    first, second = view.outcome(b, attack), view.outcome(p, attack)
    column = view.attacks[attack].published
    gain = paper.value(view.models[b].published, column)
    if gain is None:
        gain = paper.value(view.models[p].published, column)
    published = None if gain is None else gain / 100
    shown = () if gain is None else (f"(paper {gain:+g})",)
    if first.status == "ok" and second.status == "ok":
        return _gain_cell((first, second), maker, published, shown)
    reason = "a gain needs a complete P and a complete B"
    mark = maker.footnotes.mark(reason)
    return Cell(("—", *shown), (mark,), published=published, status="incomplete", reason=reason)


def _gain_cell(
    pair: tuple[Outcome, Outcome],
    maker: CellMaker,
    published: float | None,
    shown: tuple[str, ...],
) -> Cell:
    """Returns the cell of two complete outcomes, B and P."""
    infos = [outcome.info for outcome in pair if outcome.info is not None]
    b_rows, p_rows = (outcome.rows for outcome in pair)
    gain = relative_gain(b_rows, p_rows, cluster_of(infos))
    b, p = robust_accuracy(b_rows).value, robust_accuracy(p_rows).value
    alarms = alarms_of(infos)
    undefined = "" if gain else "not defined: P is 0"
    marks = (*maker.alarm_marks(alarms), *maker.adaptive_marks(*(outcome.info for outcome in pair)))
    if gain is None or gain.interval is None:
        marks += (maker.footnotes.mark(gain.method if gain else undefined),)
    lines = gain.shown(_signed) if gain else ("undefined",)
    lines += (f"P {percent(p)}, B {percent(b)}", *maker.n_line(len(b_rows)), *shown)
    cell = Cell(
        lines,
        marks,
        n=len(b_rows),
        published=published,
        protocol=protocol_text(infos[0].spec),
        alarms=alarms,
        reason=undefined,
        extra={"method": gain.method if gain else undefined, "p_accuracy": p, "b_accuracy": b},
    )
    return replace(cell, value=gain.value, low=gain.low, high=gain.high) if gain else cell


def _signed(gain: float) -> str:
    """Formats a gain in percent; huge ends of intervals, from few batches, as powers of ten."""
    return points(gain) if gain < 100 else f"{100 * gain:+.0e}"


def _reading(view: RunView, paper: Paper) -> Section:
    items = [
        ("P, B", "accuracy under population and under batch statistics, of the same weights"),
        (
            "gain",
            "100 * (B - P) / P on the same images, with its 95 % interval: of the logarithm of B / "
            "P, paired by image (delta method, Bonett and Price 2006; Student's between batches "
            "where images share them). +100 means that B is twice P. Where P is 0 there is no gain",
        ),
    ]
    if note := paper.note(view):
        items.append(("paper", note))
    return Section("How to read this", tuple(items))
