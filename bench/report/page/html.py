"""One page for a whole run: a single HTML file that needs neither network nor other files."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any

import jinja2
import yaml
from markupsafe import Markup, escape

from bench.core.errors import UserError
from bench.report.page.parts import PageReport, page_report
from bench.report.page.summary import (
    alarm_words,
    cell_lines,
    finding,
    gap_words,
    headline,
    protocol_words,
    unfinished,
)
from bench.report.papers.compare import build_comparison
from bench.report.run_view import RunView
from bench.report.table import Report, Section
from bench.untrusted.escape import one_line

HEADINGS = {
    "agreement": "Two attacks on the same images",
    "batch_size_curve": "Accuracy against the size of the batch",
    "eps_curve": "Accuracy against eps",
    "examples": "Example images",
    "gain_table": "What batch statistics gain",
    "gradient_similarity": "How alike the gradients are",
    "iteration_curve": "Accuracy against the attack's steps",
    "leaderboard": "Leaderboard",
    "loss_surface": "The loss around an image",
    "path_difference": "Attacks on one path, scored on another",
    "power_curve": "Accuracy against RobustNorm's power",
    "statistics_shift": "How attacks shift the statistics",
    "stats_table": "Population against batch statistics",
    "training_curve": "Training, epoch by epoch",
    "transfer_heatmap": "Transfer between models",
}
PROTOCOL = ("Models", "Attacks")
"""Sections that most reports of a run share; the page has them once."""

Part = tuple[str, str, Report]
"""A report on the page, with its id and its heading."""


def to_html(view: RunView, reports: Sequence[tuple[str, Report]]) -> str:
    """Returns the page of a run.

    All words that come from files are escaped, and the page's own policy lets no script but its
    own run and nothing be fetched.

    Args:
        view: Of the run.
        reports: Pairs of a name and a report, in the order of the page.
    """
    script, style = _asset("page.js"), _asset("page.css")
    sha = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bench.report"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=True,
        finalize=_plain,
    )
    title = view.suite.title or view.suite.suite
    shown, shared = _without_repeats(title, [*_headed(reports), *_comparisons(view)])
    return environment.get_template("page.html.j2").render(
        title=title,
        name=view.suite.suite,
        description=view.suite.description,
        headline=headline(view),
        finding=finding(reports),
        alarms=alarm_words(view),
        unfinished=unfinished(view),
        gaps=gap_words(view),
        protocol=protocol_words(view),
        reports=shown,
        shared=shared,
        cells=cell_lines(view),
        suite=_preformatted(_suite_yaml(view)),
        script=Markup(script),
        style=Markup(style),
        policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{sha}'; base-uri 'none'; form-action 'none'",
    )


def _asset(name: str) -> str:
    return resources.files("bench.report").joinpath("templates", name).read_text("utf-8")


def _plain(value: object) -> object:
    """Takes control characters out of a text before it is escaped."""
    return one_line(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _preformatted(text: str) -> Markup:
    return Markup("\n").join(escape(line) for line in text.splitlines())


def _suite_yaml(view: RunView) -> str:
    """Returns the suite as a file that gives the same cells, with its defaults written out."""
    content = _without_empty(view.suite.model_dump(mode="json"))
    text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
    return text


def _without_empty(value: Any) -> Any:
    """Leaves out what is empty, which is the default wherever a suite may be so."""
    if isinstance(value, dict):
        kept = {key: _without_empty(inner) for key, inner in value.items()}
        return {key: inner for key, inner in kept.items() if inner not in (None, "", [], {})}
    return [_without_empty(item) for item in value] if isinstance(value, list) else value


def _headed(reports: Sequence[tuple[str, Report]]) -> list[Part]:
    """Gives each report a heading by its kind; a second one of a kind is numbered."""
    parts = []
    for name, report in reports:
        kind, _, number = name.rpartition("-") if "-" in name else (name, "", "")
        heading = HEADINGS.get(kind, report.title) + (f" ({number})" if number else "")
        parts.append((name, heading, report))
    return parts


def _comparisons(view: RunView) -> list[Part]:
    """Returns a part for each published table that the suite names and that can be compared."""
    parts = []
    for table in dict.fromkeys(entry.published for entry in view.suite.reports if entry.published):
        try:
            report = build_comparison(view, table)
        except UserError:  # holds no accuracies, or nothing here stands for its rows
            continue
        name = f"published-{table.replace('/', '-')}"
        parts.append((name, f"Published ({table}) and measured", report))
    return parts


def _without_repeats(title: str, parts: Sequence[Part]) -> tuple[list[PageReport], list[Section]]:
    """Returns the reports for the page, and apart from them the sections that they share."""
    said: set[str] = set()
    shared: list[Section] = []
    shown = []
    for name, heading, report in parts:
        subtitle = "" if report.title.startswith(title) else report.title
        head = tuple(text for text in report.head if text not in said)
        said.update(head)
        own = tuple(section for section in report.sections if section.title not in PROTOCOL)
        shared += [section for section in report.sections if section.title in PROTOCOL]
        shown.append(page_report(name, heading, subtitle, head, own, report))
    return shown, _joined(shared)


def _joined(sections: Sequence[Section]) -> list[Section]:
    """Returns one section for each title, with each line once."""
    items: dict[str, dict[tuple[str, str], None]] = {}
    for section in sections:
        items.setdefault(section.title, {}).update(dict.fromkeys(section.items))
    return [Section(title, tuple(lines)) for title, lines in items.items()]
