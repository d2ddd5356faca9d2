"""``rbench report``."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from bench.core.paths import Folder
from bench.report.write import FORMATS, PAGE, write_comparisons, write_reports


def report_command(
    console: Console,
    run_folder: Folder,
    kinds: Sequence[str],
    formats: Sequence[str],
    compared: Sequence[str] = (),
) -> None:
    """Writes a run's reports from its store, and names the files.

    Args:
        console: Where the names are printed.
        run_folder: Of the run.
        kinds: Only reports of these kinds; empty for all.
        formats: Endings, each text perhaps several with commas; empty for all. The page is of the
            whole run, so it is left out where kinds are given and it is not asked for.
        compared: Published tables to set beside the run, in place of its reports unless kinds
            are given too.
    """
    wanted = [name.strip() for text in formats for name in text.split(",") if name.strip()]
    if not wanted:
        wanted = [name for name in FORMATS if name != PAGE or not kinds]
    paths = write_comparisons(run_folder, compared, wanted) if compared else []
    if kinds or not compared:
        paths += write_reports(run_folder, kinds, wanted)
    for path in paths:
        console.print(str(path), highlight=False, markup=False, soft_wrap=True)
