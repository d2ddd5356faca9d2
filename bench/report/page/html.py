"""The page of a run: a single HTML file that needs neither a network nor other files."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

import jinja2
import yaml
from markupsafe import Markup, escape

from bench.core.errors import UserError
from bench.report.draw import inline_svg
from bench.report.figure import Figure, Heatmap, Panel, Tiles
from bench.report.page.summary import (
    alarm_words,
    cell_lines,
    chart_caption,
    finding,
    gap_words,
    headline,
    lead,
    not_asked,
    protocol_words,
    unfinished,
)
from bench.report.papers.comparison import build_comparison
from bench.report.render import describe, figure_stems
from bench.report.run_view import RunView
from bench.report.table import ALARM, Cell, Ranked, Report, Section, Table, star_note
from bench.report.text import provenances
from bench.suite.report_kinds import report_kind
from bench.untrusted.escape import one_line

PROTOCOL = ("Models", "Attacks")
"""Sections that most reports of a run share, and the page shows once."""


@dataclass(frozen=True)
class Part:
    """A report on the page.

    Attributes:
        id: Id of its section, and the prefix of the ids of its figures and footnotes.
        heading: Heading of its section.
        report: The report.
        subtitle: Shown below the heading; may be empty.
        head: Paragraphs of the report that no part above has.
        sections: Sections of the report, without those that all reports share.
    """

    id: str
    heading: str
    report: Report
    subtitle: str = ""
    head: tuple[str, ...] = ()
    sections: tuple[Section, ...] = ()

    @property
    def notes(self) -> dict[str, str]:
        """The id of each footnote, by its mark."""
        return {mark: f"{self.id}-note-{i}" for i, (mark, _) in enumerate(self.report.footnotes)}

    @property
    def figures(self) -> list[tuple[str, Figure]]:
        """The figures with their ids."""
        stems = figure_stems(f"figure-{self.id}", self.report)
        return list(zip(stems, self.report.figures, strict=True))

    @property
    def bars(self) -> list[Ranked]:
        """The models of the chart, the most robust one first."""
        return sorted(self.report.ranking, key=lambda model: -model.accuracy.value)

    @property
    def bars_caption(self) -> str:
        """The caption of the chart."""
        return chart_caption(self.report.ranking)

    @property
    def best_note(self) -> str:
        """The meaning of a star; empty without one."""
        return star_note(self.report.ranking)


def to_html(
    view: RunView, reports: Sequence[tuple[str, Report]], tables: Collection[str] = ()
) -> str:
    """Returns the page of a run.

    All texts are escaped, and the page's content security policy runs no script but its own and
    fetches nothing.

    Args:
        view: The run.
        reports: Pairs of a name and a report, in the order of the page.
        tables: Published tables to set beside the run, besides those that the suite names.
    """
    script, style = _asset("page.js"), _asset("page.css")
    sha = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    title = view.suite.title or view.suite.suite
    parts = [*_headed(reports), *_comparisons(view, tables)]
    description = " ".join(view.suite.description.split())
    parts, shared = _without_repeats(title, parts, (description, *provenances(view)))
    ranking = next((report.ranking for _, report in reports if report.ranking), ())
    template = _environment().get_template("page.html.j2")
    return template.render(
        title=title,
        name=view.suite.suite,
        lead=lead(description),
        headline=headline(view),
        finding=finding(ranking),
        alarms=alarm_words(view),
        unfinished=unfinished(view),
        gaps=gap_words(view),
        not_asked=not_asked(view),
        provenance=provenances(view),
        protocol=protocol_words(view),
        parts=parts,
        shared=shared,
        cells=cell_lines(view),
        suite=_preformatted(_suite_yaml(view)),
        script=Markup(script),
        style=Markup(style),
        policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{sha}'; base-uri 'none'; form-action 'none'",
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bench.report"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=True,
        finalize=_plain,
    )
    environment.filters.update(
        numeric=_numeric_columns,
        sort_key=_sort_key,
        classes=_css_classes,
        bar_style=_bar_style,
        svg=_svg,
        data_uri=_data_uri,
        description=lambda panel: describe([panel]),
    )
    environment.tests.update(
        heatmap=lambda panel: isinstance(panel, Heatmap),
        pictures=lambda panel: isinstance(panel, Tiles),
    )
    return environment


def _asset(name: str) -> str:
    return resources.files("bench.report").joinpath("templates", name).read_text("utf-8")


def _plain(value: object) -> object:
    """Removes control characters from a text before it is escaped."""
    return one_line(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _preformatted(text: str) -> Markup:
    return Markup("\n").join(escape(line) for line in text.splitlines())


def _suite_yaml(view: RunView) -> str:
    """Returns the suite as YAML, with every default written out."""
    content = _without_empty(view.suite.model_dump(mode="json"))
    text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
    return text


def _without_empty(value: Any) -> Any:
    """Leaves out empty values, which are defaults wherever a suite allows them."""
    if isinstance(value, dict):
        kept = {key: _without_empty(inner) for key, inner in value.items()}
        return {key: inner for key, inner in kept.items() if inner not in (None, "", [], {})}
    return [_without_empty(item) for item in value] if isinstance(value, list) else value


def _headed(reports: Sequence[tuple[str, Report]]) -> Iterator[Part]:
    """Gives each report the heading of its kind; a second one of a kind is numbered."""
    for name, report in reports:
        kind, _, number = name.rpartition("-")
        if not (kind and number.isdigit()):
            kind, number = name, ""
        heading = report_kind(kind).heading or report.title
        yield Part(name, heading + (f" ({number})" if number else ""), report)


def _comparisons(view: RunView, tables: Collection[str]) -> Iterator[Part]:
    """Yields a part for each published table, named by the suite or here, that can be compared."""
    named = (entry.published for entry in view.suite.reports if entry.published)
    for table in dict.fromkeys((*named, *tables)):
        try:
            report = build_comparison(view, table)
        except UserError:  # it holds no accuracies, or nothing in this run matches its rows
            continue
        name = f"published-{table.replace('/', '-')}"
        yield Part(name, f"Published ({table}) and measured", report)


def _without_repeats(
    title: str, parts: Sequence[Part], elsewhere: Sequence[str]
) -> tuple[list[Part], list[Section]]:
    """Returns the parts without texts of earlier ones, and the sections that they share.

    Args:
        title: Title of the page.
        parts: All parts.
        elsewhere: Texts that have another place on the page.
    """
    said = set(elsewhere)
    shared: list[Section] = []
    shown = []
    for part in parts:
        report = part.report
        subtitle = "" if report.title.startswith(title) else report.title
        head = tuple(text for text in report.head if text not in said)
        said.update(head)
        own = tuple(section for section in report.sections if section.title not in PROTOCOL)
        shared += [section for section in report.sections if section.title in PROTOCOL]
        shown.append(replace(part, subtitle=subtitle, head=head, sections=own))
    return shown, _joined(shared)


def _joined(sections: Sequence[Section]) -> list[Section]:
    """Merges sections of the same title, without repeated lines."""
    items: dict[str, dict[tuple[str, str], None]] = {}
    for section in sections:
        items.setdefault(section.title, {}).update(dict.fromkeys(section.items))
    return [Section(title, tuple(lines)) for title, lines in items.items()]


def _numeric_columns(table: Table) -> list[bool]:
    """Returns for each column whether it is sorted by numbers."""
    columns = range(len(table.columns))
    return [any(_sort_key(row.cells[j]) for row in table.rows) for j in columns]


def _sort_key(cell: Cell) -> str:
    """Returns the number that a cell is sorted by: its value, or the one that its text begins with.

    Empty for a cell without a number.
    """
    if cell.value is not None:
        return f"{cell.value:.6g}"
    words = cell.lines[0].split(maxsplit=1) if cell.lines else []
    start = words[0].rstrip("%,;") if words else ""
    try:
        return f"{float(start):.6g}"
    except ValueError:
        return ""


def _css_classes(cell: Cell) -> str:
    return " ".join([cell.status] * (cell.status != "ok") + ["alarm"] * (ALARM in cell.marks))


def _bar_style(model: Ranked) -> str:
    """Returns the lengths of a model's bars and whisker, in percent, as CSS variables."""
    accuracy, clean = model.accuracy, model.clean
    numbers = {"robust": accuracy.value, "clean": None if clean is None else clean.value}
    numbers |= {"low": accuracy.low, "high": accuracy.high}
    known = [(name, value) for name, value in numbers.items() if value is not None]
    return "; ".join(f"--{name}: {100 * value:.2f}%" for name, value in known)


def _svg(panel: Panel, stem: str, number: int) -> Markup:
    return Markup(inline_svg(panel, f"{stem}-{number}", describe([panel])))  # matplotlib escapes


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
