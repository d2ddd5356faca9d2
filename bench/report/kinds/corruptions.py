"""Accuracy under common corruptions: each over its severities, each severity, and the mean."""

from __future__ import annotations

from bench.data.corruptions import COMMON, EXTRA
from bench.report.cells import CellMaker, mean_corruption
from bench.report.run_view import RunView
from bench.report.table import Column, Footnotes, Report, Section, Table, TableRow
from bench.report.text import attack_section, head, model_section, title
from bench.suite.entry import ReportEntry

_LABELS = ("corruption", "severities")
_ORDER = (*COMMON, *EXTRA)


def build(view: RunView, entry: ReportEntry) -> Report:
    """Builds two tables: corruption by model, and severity by model."""
    footnotes = Footnotes()
    maker = CellMaker(footnotes, view.common_n())
    columns = tuple(Column(model.label) for model in view.models)
    every = view.corruptions()
    named: dict[str, list[int]] = {}
    for j in every:
        named.setdefault(_param(view, j, "name"), []).append(j)
    order = sorted(named, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))
    rows = _clean_rows(view, maker)
    rows += [
        _row(view, (name, _severities(view, named[name])), named[name], maker) for name in order
    ]
    mean = _row(view, (f"mean of {len(named)}", _severities(view, every)), every, maker)
    tables = [Table("", _LABELS, columns, (*rows, mean))]
    by_severity: dict[str, list[int]] = {}
    for j in every:
        by_severity.setdefault(_param(view, j, "severity"), []).append(j)
    if len(by_severity) > 1:
        lines = tuple(
            _row(view, (severity, str(len(some))), some, maker)
            for severity, some in sorted(by_severity.items())
        )
        caption = "Mean accuracy over the corruptions of each severity"
        tables.append(Table(caption, ("severity", "corruptions"), columns, lines))
    return Report(
        title=title(view),
        head=head(view, attacked=False),
        tables=tuple(tables),
        footnotes=footnotes.listed(),
        sections=(model_section(view), attack_section(view), _reading(view)),
        quantity="model",
    )


def _row(view: RunView, labels: tuple[str, str], attacks: list[int], maker: CellMaker) -> TableRow:
    cells = tuple(mean_corruption(view, i, attacks, maker) for i in range(len(view.models)))
    return TableRow(labels, cells)


def _clean_rows(view: RunView, maker: CellMaker) -> list[TableRow]:
    clean = [j for j in view.adversaries() if view.attack_kind(j) == "none"]
    return [
        TableRow(
            ("none", "clean images"),
            tuple(maker.accuracy(view.outcome(i, j), None) for i in range(len(view.models))),
        )
        for j in clean[:1]
    ]


def _param(view: RunView, attack: int, name: str) -> str:
    """Returns a corruption's name or severity: as stored, or else as the suite gives it."""
    info = view.info_of_attack(attack)
    params = view.attacks[attack].params if info is None else info.spec.attack_params
    return str(params.get(name, {"name": "gaussian_noise", "severity": 3}[name]))


def _severities(view: RunView, attacks: list[int]) -> str:
    found = sorted({int(_param(view, j, "severity")) for j in attacks})
    whole = found == list(range(found[0], found[-1] + 1)) and len(found) > 2
    return f"{found[0]} to {found[-1]}" if whole else ", ".join(map(str, found))


def _reading(view: RunView) -> Section:
    items = [
        (
            "accuracy",
            "the share of corrupted images that are classified correctly. No adversary chose them "
            "and no ball bounds them, so they have no eps, and the suite's threat model does not "
            "apply",
        ),
        (
            "mean",
            "over corruptions and severities, each counting alike: mean corruption accuracy, 1 "
            "less the mean error of Hendrycks and Dietterich 2019 without their division by "
            "AlexNet's",
        ),
        (
            "intervals",
            "of the mean over images: the corruptions of an image stand or fall together, so that "
            "each image with all of them counts once",
        ),
    ]
    if any(view.attacks[j].params.get("folder") for j in view.corruptions()):
        items.append(("source", "the published files, as they are"))
    else:
        items.append(
            (
                "source",
                "made from the clean images with CIFAR-10-C's constants; the published files draw "
                "other random numbers and other details",
            )
        )
    return Section("How to read this", tuple(items))
