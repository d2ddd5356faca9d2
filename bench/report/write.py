"""Writes the reports of a run from its store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from pydantic import ValidationError

from bench.core.errors import UserError, did_you_mean, our_words
from bench.core.paths import Folder
from bench.core.registry import Plugin
from bench.report.kinds import BUILDERS
from bench.report.papers.comparison import build_comparison, comparison_name
from bench.report.render import figure_stems, to_csv, to_latex, to_markdown
from bench.report.run_view import RunView, damaged
from bench.report.table import Cell, Column, Report, Table, TableRow
from bench.store.files import write_atomically
from bench.suite.entry import ReportEntry
from bench.suite.report_kinds import report_kind

_TEXTS: dict[str, Callable[[Report, str], str]] = {
    "md": to_markdown,
    "tex": to_latex,
    "csv": lambda report, _: to_csv(report),
}
_PICTURES = ("png", "svg", "pdf")
PAGE = "html"
FORMATS = (*_TEXTS, *_PICTURES, PAGE)
"""File endings: texts and figures of each report, and a page for the whole run."""


def build_reports(run_folder: Folder, kinds: Collection[str] = ()) -> list[tuple[str, Report]]:
    """Builds reports of a run.

    Args:
        run_folder: The folder of the run, which holds ``store/``.
        kinds: Only these kinds, whether the suite lists them or not; empty for every report that
            the suite lists.

    Returns:
        Pairs of a file name without its ending and a report; a second report of a kind is
        numbered: ``leaderboard-2``.

    Raises:
        UserError: When the store is missing, damaged or of another version, a published table
            does not fit, or a kind is unknown or needs an entry in the suite.
    """
    return build_from(RunView(run_folder), kinds)


def build_from(view: RunView, kinds: Collection[str] = ()) -> list[tuple[str, Report]]:
    """Builds reports of a run that has been read; see ``build_reports``."""
    for kind in kinds:
        BUILDERS.get(kind)
    built: list[tuple[str, Report]] = []
    counts: dict[str, int] = {}
    for entry in view.suite.reports:
        counts[entry.kind] = counts.get(entry.kind, 0) + 1
        name = entry.kind if counts[entry.kind] == 1 else f"{entry.kind}-{counts[entry.kind]}"
        if not kinds or entry.kind in kinds:
            built.append((name, _built(view, entry)))
    for kind in dict.fromkeys(kinds):
        if kind not in counts:
            report = _built(view, _unlisted(kind))
            _refuse_empty(kind, report)
            built.append((kind, report))
    return built


def _refuse_empty(kind: str, report: Report) -> None:
    """Raises ``UserError`` for a report that the suite does not list and the run cannot fill."""
    if BUILDERS.plugin(kind) is None and not any(table.rows for table in report.tables):
        raise UserError(f"report '{kind}': {report.head[-1]}")


def _built(view: RunView, entry: ReportEntry) -> Report:
    plugin = BUILDERS.plugin(entry.kind)
    if plugin is not None:
        return _of_plugin(view, entry, plugin)
    try:
        return BUILDERS.get(entry.kind)(view, entry)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        if not report_kind(entry.kind).analysis:
            raise
        # The stored values of an analysis may have been written by anybody.
        raise damaged(entry.kind, f"{type(error).__name__}: {error}") from error


def _of_plugin(view: RunView, entry: ReportEntry, plugin: Plugin) -> Report:
    """Builds a plugin's report; a failure is reported in its place, and spares the others."""
    try:
        return plugin.call("report", BUILDERS.get(entry.kind), Report, view, entry)
    except UserError as error:
        cell = Cell(("not made",), status="incomplete", reason=str(error))
        table = Table("", ("report",), (Column("outcome"),), (TableRow((entry.kind,), (cell,)),))
        return Report(f"{entry.kind}: not made", (str(error),), (table,), (), ())


def _unlisted(kind: str) -> ReportEntry:
    try:
        return ReportEntry.model_validate({"kind": kind})
    except ValidationError as error:
        why = our_words(error.errors()[0])
        raise UserError(
            f"report '{kind}' is not in this run's suite, and cannot be made without an entry "
            f"there: {why}"
        ) from None


def check_formats(formats: Collection[str]) -> None:
    """Raises ``UserError`` for an unknown format, with the nearest known one."""
    for name in formats:
        if name not in FORMATS:
            raise UserError(f"unknown format '{name}'{did_you_mean(name, FORMATS)}")


def write_reports(
    run_folder: Folder, kinds: Collection[str] = (), formats: Sequence[str] = FORMATS
) -> list[Folder]:
    """Writes the reports of a run into its folder.

    The same store always gives the same bytes.

    Args:
        run_folder: The folder of the run, which holds ``store/``.
        kinds: As for ``build_reports``; ``report.html`` always shows the whole run.
        formats: Some of ``FORMATS``.

    Returns:
        The files written, in the suite's order.

    Raises:
        UserError: As ``build_reports`` does, and for an unknown format.
    """
    return write_view(RunView(run_folder), kinds, formats)


def write_comparisons(
    run_folder: Folder, tables: Collection[str], formats: Sequence[str] = tuple(_TEXTS)
) -> list[Folder]:
    """Writes a comparison of published and measured numbers for each published table.

    Args:
        run_folder: The folder of the run, which holds ``store/``.
        tables: Ids of published tables, for example ``rna/table1``.
        formats: Some of ``FORMATS``; a comparison has no figures, ``html`` is the page with it.

    Returns:
        The files written.

    Raises:
        UserError: As ``build_comparison`` does, and for an unknown format.
    """
    return write_view(RunView(run_folder), None, formats, tables)


def write_view(
    view: RunView,
    kinds: Collection[str] | None = (),
    formats: Sequence[str] = FORMATS,
    tables: Collection[str] = (),
) -> list[Folder]:
    """Writes the reports of a run that has been read into its folder.

    Args:
        view: The run.
        kinds: As for ``build_reports``; ``None`` for comparisons only.
        formats: Some of ``FORMATS``.
        tables: Published tables to set beside the run, on its page too.

    Returns:
        The files written, comparisons first.

    Raises:
        UserError: As ``build_reports`` and ``build_comparison`` do, and for an unknown format.
    """
    check_formats(formats)
    texts = [ending for ending in formats if ending in _TEXTS]
    compared = [(comparison_name(table), build_comparison(view, table)) for table in tables]
    reports = [] if kinds is None else build_from(view, kinds)
    files = [file for name, report in compared for file in _files(name, report, texts)]
    files += [file for name, report in reports for file in _files(name, report, formats)]
    if PAGE in formats:
        from bench.report.page.html import to_html  # matplotlib takes a second to import

        listed = build_from(view) if kinds is None or kinds else reports
        whole = [*listed, *(pair for pair in reports if pair[0] not in dict(listed))]
        files.append(("report.html", to_html(view, whole, tables).encode()))
    for name, content in files:
        write_atomically(view.folder / name, content)
    return [view.folder / name for name, _ in files]


def _files(name: str, report: Report, formats: Sequence[str]) -> list[tuple[str, bytes]]:
    """Returns the files of one report, texts first."""
    texts = [(ending, render) for ending, render in _TEXTS.items() if ending in formats]
    files = [(f"{name}.{ending}", render(report, name).encode()) for ending, render in texts]
    endings = [ending for ending in _PICTURES if ending in formats]
    if report.figures and endings:
        from bench.report.draw import draw

        for stem, figure in zip(figure_stems(name, report), report.figures, strict=True):
            drawn = draw(figure, endings)
            files += [(f"{stem}.{ending}", content) for ending, content in drawn.items()]
    return files
