"""Attacks crafted on one model and scored on another, as in the RNA paper's Figure 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bench.core.model_uri import short_name
from bench.core.norm_spec import NormSpec
from bench.report.cells import CellMaker
from bench.report.figure import Figure, Heatmap
from bench.report.papers.match import Paper
from bench.report.run_view import RunView
from bench.report.table import Cell, Column, Footnotes, Report, Section, Table, TableRow
from bench.report.text import attack_section, data_text, head, model_section, title
from bench.suite.entry import ReportEntry
from bench.suite.spec import ModelEntry

_LABELS = ("panel", "surrogate")

Identity = tuple[str, str | None]
"""A checkpoint and its statistics in force."""


@dataclass(frozen=True)
class _Matrix:
    """A panel.

    Attributes:
        title: Title of the panel.
        surrogates: Models that the attack is crafted on, one for each row.
        targets: Models that are scored, one for each column.
        cells: Positions of model and attack in the suite, by surrogate and target.
    """

    title: str
    surrogates: tuple[Identity, ...]
    targets: tuple[Identity, ...]
    cells: dict[tuple[Identity, Identity], tuple[int, int]]


def build(view: RunView, entry: ReportEntry) -> Report:
    """Builds a heatmap and a table for each panel and attack; white-box cells are the diagonal.

    Raises:
        UserError: When the published table cannot be used.
    """
    footnotes = Footnotes()
    maker = CellMaker(footnotes, view.common_n())
    matrices = _matrices(view, entry)
    paper = Paper.of(entry)
    tables = tuple(_table(view, matrix, maker, paper) for matrix in matrices)
    panels = tuple(_heatmap(m, t) for m, t in zip(matrices, tables, strict=True))
    figures = (Figure("", _caption(view, tables), panels),) if panels else ()
    empty = "Nothing to show: no model of this suite is attacked under protocol transfer."
    return Report(
        title=title(view),
        head=(*head(view), *((empty,) if not panels else ())),
        tables=tables or (Table("Transfer between models", _LABELS, (), ()),),
        footnotes=footnotes.listed(),
        sections=(model_section(view), attack_section(view), _reading(view, paper)),
        figures=figures,
        quantity="target_model",
    )


def _matrices(view: RunView, entry: ReportEntry) -> list[_Matrix]:
    """Returns a matrix for each panel of the entry and each attack in it."""
    matrices = []
    for panel in entry.panels or (None,):
        chosen = [i for i, m in enumerate(view.models) if panel is None or panel.has_model(m)]
        attacks = [
            j
            for j, attack in enumerate(view.attacks)
            if view.attack_kind(j) != "none" and (panel is None or panel.has_attack(attack))
        ]
        for j in attacks:
            label = view.attacks[j].label
            parts = [panel.title] if panel else []
            parts += [label] if len(attacks) > 1 or not parts else []
            matrix = _matrix(view, ", ".join(parts), chosen, j)
            if matrix is not None:
                matrices.append(matrix)
    return matrices


def _matrix(view: RunView, name: str, models: Sequence[int], attack: int) -> _Matrix | None:
    """Arranges models by their surrogates; ``None`` where nothing is transferred.

    Of the white-box entries only those on the diagonal of the transferred ones are shown.
    """
    met = [i for i in models if view.models[i].meets(view.attacks[attack])]
    crossed = [i for i in met if view.models[i].surrogate is not None]
    alone = [i for i in met if view.models[i].protocol == "white_box"]
    cells: dict[tuple[Identity, Identity], tuple[int, int]] = {}
    for i in crossed:
        cells.setdefault(_place(view, view.models[i]), (i, attack))
    known = {identity for place in cells for identity in place}
    for i in alone:
        place = _place(view, view.models[i])
        if place[0] in known:
            cells.setdefault(place, (i, attack))
    if not crossed:
        return None
    surrogates = tuple(dict.fromkeys(surrogate for surrogate, _ in cells))
    targets = tuple(dict.fromkeys(target for _, target in cells))
    rows = [t for t in targets if t in surrogates] + [s for s in surrogates if s not in targets]
    return _Matrix(name, tuple(rows), targets, cells)


def _place(view: RunView, entry: ModelEntry) -> tuple[Identity, Identity]:
    """Returns the surrogate and the target of an entry."""
    target = (entry.checkpoint, _stats(view, entry.checkpoint, entry.stats))
    if entry.surrogate is None:
        return target, target
    source = entry.source_checkpoint
    return (source, _stats(view, source, entry.surrogate.stats)), target


def _stats(view: RunView, checkpoint: str, asked: str | None) -> str | None:
    """Returns the statistics that the suite asks for, or else those of the checkpoint."""
    facts = view.checkpoint_facts(checkpoint)
    if asked is not None or facts is None or not facts.norm_spec:
        return asked
    return NormSpec.model_validate(facts.norm_spec).inference_stats


def _names(view: RunView, matrix: _Matrix) -> dict[Identity, str]:
    """Returns short names, of ``each`` or of checkpoints; with statistics where those differ."""
    short: dict[str, str] = {}
    for entry in view.models:
        if "checkpoint" in entry.varied:
            short.setdefault(entry.checkpoint, entry.varied["checkpoint"])
        if "surrogate" in entry.varied and entry.surrogate and entry.surrogate.stats is None:
            short.setdefault(entry.source_checkpoint, entry.varied["surrogate"])
    identities = dict.fromkeys(identity for place in matrix.cells for identity in place)
    checkpoints = dict.fromkeys(checkpoint for checkpoint, _ in identities)
    of_name = Counter(short.get(checkpoint, short_name(checkpoint)) for checkpoint in checkpoints)
    of_checkpoint = Counter(checkpoint for checkpoint, _ in identities)
    names = {}
    for checkpoint, stats in identities:
        name = short.get(checkpoint, short_name(checkpoint))
        name = name if of_name[name] == 1 else checkpoint
        own = f" ({stats})" if of_checkpoint[checkpoint] > 1 else ""
        names[checkpoint, stats] = name + own
    return names


def _table(view: RunView, matrix: _Matrix, maker: CellMaker, paper: Paper) -> Table:
    names = _names(view, matrix)
    rows = []
    for surrogate in matrix.surrogates:
        cells = tuple(
            _cell(view, matrix.cells.get((surrogate, target)), maker, paper)
            for target in matrix.targets
        )
        rows.append(TableRow((matrix.title, names[surrogate]), cells))
    columns = tuple(Column(names[target]) for target in matrix.targets)
    caption = (
        f"{matrix.title}: robust accuracy in percent of each target model (column) under the "
        "attack crafted on each surrogate (row)"
    )
    return Table(caption, _LABELS, columns, tuple(rows))


def _cell(view: RunView, place: tuple[int, int] | None, maker: CellMaker, paper: Paper) -> Cell:
    if place is None:
        return Cell(("",), status="left_out", reason="the suite has no such pair")
    model, attack = place
    row, column = view.models[model].published, view.attacks[attack].published
    return maker.accuracy(view.outcome(model, attack), paper.value(row, column))


def _heatmap(matrix: _Matrix, table: Table) -> Heatmap:
    percent = [
        tuple(None if cell.value is None else 100 * cell.value for cell in row.cells)
        for row in table.rows
    ]
    return Heatmap(
        title=matrix.title,
        x_label="target model",
        y_label="surrogate",
        columns=tuple(column.label for column in table.columns),
        rows=tuple(row.labels[-1] for row in table.rows),
        values=tuple(percent),
        value_label="robust accuracy (%)",
        value_range=(0.0, 100.0),
    )


def _caption(view: RunView, tables: Sequence[Table]) -> str:
    cells = [cell for table in tables for row in table.rows for cell in row.cells]
    counts = [cell.n for cell in cells if cell.n is not None] or [0]
    n = " to ".join(str(count) for count in dict.fromkeys((min(counts), max(counts))))
    alarmed = " Numbers under an alarm are among them." if any(c.alarms for c in cells) else ""
    return (
        "Robust accuracy of each target model under attacks crafted on each surrogate, on "
        f"n = {n} images ({data_text(view.suite.data)}). Where both are the same model, the attack "
        f"is white-box.{alarmed}"
    )


def _reading(view: RunView, paper: Paper) -> Section:
    items = [
        (
            "rows, columns",
            "the surrogate that images are crafted on, and the target model that is scored on them",
        ),
        (
            "diagonal",
            "white_box: the target model itself is attacked, with its own gradients, averaged over "
            "draws where it is stochastic",
        ),
        (
            "low numbers",
            "the attack transfers; a number near the target's clean accuracy says that it does not",
        ),
    ]
    if note := paper.note(view):
        items.append(("paper", note))
    return Section("How to read this", tuple(items))
