"""Writes the tables of a run for a paper, each as a LaTeX file of its own."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from bench.core.errors import UserError, did_you_mean
from bench.core.paths import Folder
from bench.report.paper_latex import paper_tables
from bench.report.paper_table import WIDTHS, PaperStyle
from bench.report.papers.comparison import build_comparison, comparison_name
from bench.report.render import numbered
from bench.report.run_view import RunView
from bench.report.text import STATS_TEXT, setting
from bench.report.write import build_from
from bench.store.files import write_atomically

FACTS = ("training", "arch", "norm", "dataset", "stats", "protocol")
"""What rows may be grouped by."""


def paper_style(width: str | None, *, intervals: bool, floats: bool) -> PaperStyle:
    """Returns a style from words of the command line.

    Raises:
        UserError: For an unknown width.
    """
    for known in WIDTHS:
        if width in (known, None):
            return PaperStyle(known, intervals, floats)
    raise UserError(f"unknown width '{width}'{did_you_mean(width or '', WIDTHS)}")


def write_paper_tables(
    view: RunView,
    kinds: Collection[str] = (),
    style: PaperStyle | None = None,
    groups: Sequence[str] = (),
    compared: Collection[str] = (),
) -> list[Folder]:
    """Writes each table of a run's reports as ``REPORT-paper.tex``, further ones numbered.

    Args:
        view: The run.
        kinds: As for ``build_reports``.
        style: How the tables look.
        groups: As for ``row_groups``, in addition to those of ``style``.
        compared: Published tables to set beside the run; with no kinds, only these are written.

    Returns:
        The files written.

    Raises:
        UserError: As ``build_reports`` and ``row_groups`` do, and when no report has a table.
    """
    style = style or PaperStyle()
    style = replace(style, groups={**style.groups, **row_groups(view, groups)})
    reports = [(comparison_name(table), build_comparison(view, table)) for table in compared]
    if kinds or not compared:
        reports += build_from(view, kinds)
    files = [
        (f"{numbered(f'{name}-paper', i)}.tex", text)
        for name, report in reports
        for i, text in enumerate(
            paper_tables(report, f"{view.suite.suite}-{name}", style, setting(view))
        )
    ]
    if not files:
        raise UserError("no report of this run has a table: give the kind of one that has (--kind)")
    for name, text in files:
        write_atomically(view.folder / name, text.encode())
    return [view.folder / name for name, _ in files]


def row_groups(view: RunView, wanted: Sequence[str]) -> dict[str, str]:
    """Returns headings for groups of rows, by label of the model and by name of its checkpoint.

    Args:
        view: The run.
        wanted: Each one of ``FACTS``, or ``HEADING=LABEL`` with ``*`` and ``?`` in the label; a
            model's heading is that of the first that has one for it.

    Raises:
        UserError: For an unknown fact, or a label that no model has.
    """
    groups: dict[str, str] = {}
    for one in wanted:
        heading, equals, pattern = one.partition("=")
        if not equals and one not in FACTS:
            raise UserError(
                f"unknown group '{one}'{did_you_mean(one, FACTS)}; or write HEADING=LABEL, where "
                "LABEL may hold * and ?"
            )
        found: dict[str, str] = {}
        for i, model in enumerate(view.models):
            names = (model.label, model.checkpoint)
            if not equals:
                found |= dict.fromkeys(names, _fact(view, i, one))
            else:
                found |= {name: heading for name in names if fnmatchcase(name, pattern)}
        if not found:
            labels = ", ".join(f"'{model.label}'" for model in view.models)
            raise UserError(f"no model is labelled '{pattern}'; this run has {labels}")
        groups = {**found, **groups}
    return groups


def _fact(view: RunView, model: int, fact: str) -> str:
    """Returns the heading of a model by a fact about it."""
    facts = view.facts(model)
    if fact == "protocol":
        return view.models[model].protocol
    if fact == "stats":
        stats = view.stats(model)
        return STATS_TEXT.get(stats or "", "no batch statistics").capitalize()
    value = "" if facts is None else str(getattr(facts, fact))
    if fact == "training" and value in ("natural", "adversarial", "black-box"):
        return f"{value.capitalize()} training"
    return value or f"{fact} not known"
