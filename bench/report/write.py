"""Writes a run's reports from its store alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from pydantic import ValidationError

from bench.core.errors import UserError, did_you_mean, our_words
from bench.core.paths import Folder
from bench.core.registry import Plugin, Registry
from bench.report.papers.compare import build_comparison, comparison_name
from bench.report.render import figure_stems, to_csv, to_latex, to_markdown
from bench.report.run_view import RunView, damaged
from bench.report.table import Cell, Column, Report, Table, TableRow
from bench.store import write_atomically
from bench.suite import ReportEntry
from bench.suite.entry import ANALYSIS_KINDS, REPORT_GROUP, REPORT_KINDS

ReportBuilder = Callable[[RunView, ReportEntry], Report]


def _adopt(plugin: Plugin, found: object) -> ReportBuilder:
    """Returns a plugin's builder, under which a failure of foreign code is one line."""
    if not callable(found):
        raise ValueError(f"expected a function of a view and an entry, found {found!r:.60}")

    def build(view: RunView, entry: ReportEntry) -> Report:
        return plugin.call("report", found, Report, view, entry)

    return build


REPORTS: Registry[ReportBuilder] = Registry("report", REPORT_GROUP, _adopt)
_CURVES = {"batch_size_curve", "eps_curve", "iteration_curve", "power_curve"}
for _kind in REPORT_KINDS:
    _where = f"curve:build_{_kind}" if _kind in _CURVES else f"{_kind}:build"
    REPORTS.add_lazy(_kind, f"bench.report.kinds.{_where}")

_TEXTS: dict[str, Callable[[Report, str], str]] = {
    "md": to_markdown,
    "tex": to_latex,
    "csv": lambda report, _: to_csv(report),
}
_PICTURES = ("png", "svg", "pdf")
PAGE = "html"
FORMATS = (*_TEXTS, *_PICTURES, PAGE)
"""Endings of what is written: texts and pictures of each report, and a page of the whole run."""


def build_reports(run_folder: Folder, kinds: Collection[str] = ()) -> list[tuple[str, Report]]:
    """Builds reports of a run.

    Args:
        run_folder: Holds ``store/``.
        kinds: Only reports of these kinds, also where the suite does not list them; empty for
            every report that the suite lists.

    Returns:
        Pairs of a file name without its ending and a report; a second report of a kind gets a
        number: ``leaderboard-2``.

    Raises:
        UserError: When the store is missing, damaged or of another version, a published table
            does not fit, or a kind is unknown or cannot be had from this run.
    """
    return build_from(RunView(run_folder), kinds)


def build_from(view: RunView, kinds: Collection[str] = ()) -> list[tuple[str, Report]]:
    """Builds reports of a run that is read already, see ``build_reports``."""
    for kind in kinds:
        REPORTS.get(kind)
    built: list[tuple[str, Report]] = []
    counts: dict[str, int] = {}
    for entry in view.suite.reports:
        counts[entry.kind] = counts.get(entry.kind, 0) + 1
        name = entry.kind if counts[entry.kind] == 1 else f"{entry.kind}-{counts[entry.kind]}"
        if not kinds or entry.kind in kinds:
            built.append((name, _built(view, entry)))
    for kind in dict.fromkeys(kinds):
        if kind not in counts:
            built.append((kind, _built(view, _unlisted(kind))))
    return built


def _built(view: RunView, entry: ReportEntry) -> Report:
    if entry.kind not in REPORT_KINDS:
        return _of_plugin(view, entry)
    builder = REPORTS.get(entry.kind)
    if entry.kind not in ANALYSIS_KINDS:
        return builder(view, entry)
    try:
        return builder(view, entry)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        # The values are a table that anybody may have written.
        raise damaged(entry.kind, f"{type(error).__name__}: {error}") from error


def _of_plugin(view: RunView, entry: ReportEntry) -> Report:
    """Builds a plugin's report; one that fails says so, and takes no other down with it."""
    try:
        return REPORTS.get(entry.kind)(view, entry)
    except UserError as error:
        cell = Cell(("not made",), status="incomplete", reason=str(error))
        row = TableRow((entry.kind,), (cell,))
        table = Table("", ("report",), (Column("outcome"),), (row,))
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
    """Raises ``UserError`` for a format that there is not, with the nearest one."""
    for name in formats:
        if name not in FORMATS:
            raise UserError(f"unknown format '{name}'{did_you_mean(name, FORMATS)}")


def write_reports(
    run_folder: Folder, kinds: Collection[str] = (), formats: Sequence[str] = FORMATS
) -> list[Folder]:
    """Writes the reports of a run into its folder.

    The same store always gives the same bytes.

    Args:
        run_folder: Holds ``store/``.
        kinds: As for ``build_reports``; ``report.html`` is of the whole run whatever they are.
        formats: Some of ``FORMATS``.

    Returns:
        The files written, in the suite's order.

    Raises:
        UserError: As ``build_reports`` does, and for an unknown format.
    """
    check_formats(formats)
    view = RunView(run_folder)
    reports = build_from(view, kinds)
    files = [file for name, report in reports for file in _files(name, report, formats)]
    if PAGE in formats:
        from bench.report.page.html import to_html  # drawing takes a second to import

        listed = build_from(view) if kinds else reports
        whole = [*listed, *(pair for pair in reports if pair[0] not in dict(listed))]
        files.append(("report.html", to_html(view, whole).encode()))
    for name, content in files:
        write_atomically(run_folder / name, content)
    return [run_folder / name for name, _ in files]


def write_comparisons(
    run_folder: Folder, tables: Collection[str], formats: Sequence[str] = tuple(_TEXTS)
) -> list[Folder]:
    """Writes, for each published table, what was published beside what a run measured.

    Args:
        run_folder: Holds ``store/``.
        tables: For example ``rna/table1``.
        formats: Some of ``FORMATS``; pictures and the page do not apply, and are passed over.

    Returns:
        The files written.

    Raises:
        UserError: As ``build_comparison`` does, and for an unknown format.
    """
    check_formats(formats)
    view = RunView(run_folder)
    texts = [ending for ending in formats if ending in _TEXTS]
    reports = [(comparison_name(table), build_comparison(view, table)) for table in tables]
    files = [file for name, report in reports for file in _files(name, report, texts)]
    for name, content in files:
        write_atomically(run_folder / name, content)
    return [run_folder / name for name, _ in files]


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
