"""The index of a folder of runs: what was run, and what it shows of the papers' claims."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tabulate import tabulate

from bench.core.errors import UserError
from bench.metrics import Difference, points
from bench.report.papers.claims import NO_RUN, Claim, ClaimOutcome, Trial, claims, decide
from bench.report.render import TEMPLATES
from bench.report.run_view import RunView
from bench.store.files import write_atomically
from bench.untrusted import escape

INDEX = "README.md"

_MARK = "<!-- Written by `rbench index`"
"""The first words of an index, from its template."""

_EARLIER = " (of an earlier run, whose rows are not here)"

_RULE = (
    "One line for each claim, decided from the stored rows. Numbers are paired differences of "
    "robust accuracy on the same images, in percentage points, with 95 % intervals (clustered by "
    "batch where images share statistics or a path). A claim holds if every difference is "
    "significantly above 0, does not hold if one is significantly below 0, and is open otherwise, "
    "or if rows are missing. The verdicts cover these networks, data and attacks only."
)


@dataclass(frozen=True)
class _Runs:
    """The subfolders of a folder of runs.

    Attributes:
        views: Runs with a store, by folder name.
        unread: Reasons why a store cannot be read, by folder name.
        others: Folders with tables and without a store.
    """

    views: Mapping[str, RunView]
    unread: Mapping[str, str]
    others: tuple[Path, ...]


def write_index(reports: Path) -> Path:
    """Writes the index ``README.md`` of a folder of runs, and returns its path.

    The same stores and files always give the same bytes. The previous verdict on a claim is kept,
    and marked as such, where the rows of its run are not stored here.

    Raises:
        UserError: When there is no such folder, or its ``README.md`` is not an index.
    """
    if not reports.is_dir():
        raise UserError(f"{reports}: no such folder; expected one of runs, as rbench run makes it")
    path = reports / INDEX
    before = path.read_text(errors="replace") if path.is_file() else ""
    if before and not before.startswith(_MARK):
        raise UserError(
            f"{path}: was not written by rbench index, so it is left alone; move it away first"
        )
    write_atomically(path, index_text(reports, before).encode())
    return path


def index_text(reports: Path, before: str = "") -> str:
    """Returns the index as Markdown.

    Args:
        reports: The folder of runs.
        before: The previous index.
    """
    runs = _find_runs(reports)
    by_suite: dict[str, RunView] = {}
    for folder, view in runs.views.items():
        if view.suite.suite not in by_suite or folder == view.suite.suite:
            by_suite[view.suite.suite] = view
    outcomes = [
        (claim, decide(claim.paper, by_suite), decide(claim.strongest, by_suite))
        for claim in claims()
    ]
    return TEMPLATES.get_template("index.md.j2").render(
        rule=_RULE,
        claims=_claims_table(outcomes, _said_before(before)),
        details=[_details(claim) for claim in claims()],
        runs=_runs_table(reports, runs.views),
        others=", ".join(f"{_plain(path.name)} ({_links(path)})" for path in runs.others),
        unread=list(runs.unread.items()),
        e=escape.markdown,
    )


def _find_runs(reports: Path) -> _Runs:
    views: dict[str, RunView] = {}
    unread: dict[str, str] = {}
    others: list[Path] = []
    for folder in sorted(path for path in reports.iterdir() if path.is_dir()):
        if (folder / "store" / "run.json").is_file():
            try:
                views[folder.name] = RunView(folder)
            except UserError as error:
                # Without the path of the folder, which depends on the working directory.
                unread[folder.name] = str(error).replace(f"{reports}/", "")
        elif any(folder.glob("*.md")):
            others.append(folder)
    return _Runs(views, unread, tuple(others))


def _said_before(index: str) -> dict[str, list[str]]:
    """Returns the cells of the lines of an index's tables, by the first cell."""
    lines = [line for line in index.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {line[0]: line[1:] for line in cells}


def _claims_table(
    outcomes: Sequence[tuple[Claim, ClaimOutcome, ClaimOutcome]],
    before: Mapping[str, Sequence[str]],
) -> str:
    rows = []
    for claim, *decisions in outcomes:
        name = f"{_plain(claim.text)} ({_plain(claim.source)})"
        old = before.get(name, ("", ""))
        rows.append([name, *map(_kept_or_decided, decisions, old)])
    heading = ["claim", "under the paper's protocol", "under the strongest attack here"]
    return tabulate(rows, heading, "pipe", disable_numparse=True)


def _kept_or_decided(outcome: ClaimOutcome, before: str) -> str:
    """Returns the verdict, or the previous one where the run is not stored here."""
    if not outcome.missing.startswith(NO_RUN) or not before or NO_RUN in before:
        return _decided(outcome)
    return before if before.endswith(_EARLIER) else before + _EARLIER


def _decided(outcome: ClaimOutcome) -> str:
    """Formats a verdict with its numbers, or with what is missing."""
    said = [f"**{outcome.verdict}**"]
    if outcome.differences:
        numbers = "; ".join(_number(name, d) for name, d in outcome.differences.items())
        sizes = sorted({difference.n for difference in outcome.differences.values()})
        said.append(f": {numbers} (n = {', '.join(f'{n:,}' for n in sizes)})")
    if outcome.missing:
        said.append(f"; missing: {_plain(outcome.missing)}")
    if outcome.alarms:
        said.append("; under an alarm, see the run")
    return "".join(said)


def _number(name: str, difference: Difference) -> str:
    return " ".join((_plain(name), *difference.shown(points)))


def _details(claim: Claim) -> tuple[str, str]:
    parts = [("the paper's protocol", claim.paper), ("the strongest attack here", claim.strongest)]
    return claim.text, "; ".join(f"{what}: {_rule(trial)}" for what, trial in parts)


def _rule(trial: Trial) -> str:
    return f"{trial.under} (run {trial.suite})"


def _runs_table(reports: Path, views: Mapping[str, RunView]) -> str:
    rows = []
    for folder, view in views.items():
        infos = view.infos()
        alarms = sum(bool(info.alarms) for info in infos)
        rows.append(
            [
                _plain(folder),
                _plain(view.suite.title or view.suite.suite),
                _dates([info.date[:10] for info in infos]),
                _sizes(view),
                f"{len(infos)}" + (f", {alarms} under an alarm" if alarms else ""),
                _links(reports / folder),
            ]
        )
    heading = ["run", "what", "run on", "images", "cells", "files"]
    return tabulate(rows, heading, "pipe", disable_numparse=True)


def _dates(days: Sequence[str]) -> str:
    ends = dict.fromkeys((min(days), max(days))) if days else ["not run yet"]
    return _plain(" to ".join(ends))


def _sizes(view: RunView) -> str:
    sizes = sorted({len(o.rows) for _, _, o in view.outcomes() if o.status == "ok"})
    return " to ".join(f"{n:,}" for n in dict.fromkeys((sizes[0], sizes[-1]))) if sizes else "0"


def _links(folder: Path) -> str:
    """Returns links to the Markdown tables and the page of a run."""
    names = sorted(path.name for path in folder.glob("*.md"))
    names += [path.name for path in folder.glob("report.html")]
    return ", ".join(
        f"[{_plain(name.removesuffix('.md'))}]({quote(f'{folder.name}/{name}')})" for name in names
    )


def _plain(text: str) -> str:
    return escape.markdown(text)
