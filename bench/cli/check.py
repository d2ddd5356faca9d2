"""``rbench check``."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.cli.options import RunArgument, console, errors, say
from bench.core.errors import UserError

if TYPE_CHECKING:  # imported at every start
    from bench.check.compare import Check, Checked, Rules

SUMMARY = "GITHUB_STEP_SUMMARY"
"""The variable that names the file of a job's summary."""

STDOUT = "-"

MOST_LINES = 40
"""Cells that are described below the table."""


def check(
    run: RunArgument,
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            help="Baseline file, git REVISION:FILE, or run folder "
            "(default: suites/baselines/SUITE.jsonl).",
        ),
    ] = None,
    min_drop: Annotated[
        float,
        typer.Option(
            "--min-drop", help="Percentage points; a smaller drop is reported, but passes."
        ),
    ] = 0.0,
    alpha: Annotated[
        float,
        typer.Option("--alpha", help="Probability that the check fails although nothing changed."),
    ] = 0.01,
    accept_retrained: Annotated[
        bool,
        typer.Option(
            "--accept-retrained",
            help="Pass if a retrained model shows no significant change.",
        ),
    ] = False,
    markdown: Annotated[
        str | None,
        typer.Option("--markdown", help="Also write Markdown, for a pull request; - for stdout."),
    ] = None,
    junit: Annotated[
        str | None, typer.Option("--junit", help="Also write JUnit XML; - for stdout.")
    ] = None,
    json: Annotated[
        str | None, typer.Option("--json", help="Also write JSON; - for stdout.")
    ] = None,
    annotations: Annotated[
        bool | None,
        typer.Option(
            "--annotations/--no-annotations",
            help="Annotations and summary for GitHub (default: on, in GitHub jobs).",
            show_default=False,
        ),
    ] = None,
    budget: Annotated[str | None, typer.Option("--budget", hidden=True)] = None,
) -> None:
    """Compare a run with a baseline: has robustness changed?

    Exit codes: 0 no, 1 regression, 2 misuse, 3 some results could not be compared.
    """
    from bench.check.compare import Rules

    if budget is not None:
        raise UserError(
            "--budget: no longer there, for it overran its time; run a small suite, such as "
            "suites/smoke.yaml, with `rbench run`, then `rbench check` its run folder (docs/ci.md)"
        )
    given = {"--markdown": markdown, "--junit": junit, "--json": json}
    files = {option: file for option, file in given.items() if file is not None}
    _refuse_misuse(alpha, min_drop, files)
    rules = Rules(alpha=alpha, min_drop=min_drop / 100, accept_retrained=accept_retrained)
    people = errors if STDOUT in files.values() else console
    with no_commands(people):
        found = check_run(run, baseline, rules)
        show(people, found)
    _write_outputs(found, files)
    if annotations or (annotations is None and on_github()):
        _annotate(people, found)
    raise typer.Exit(found.exit_code)


def check_run(run: str, baseline: str | None, rules: Rules) -> Check:
    """Compares a run with a baseline.

    Args:
        run: A folder or a URL.
        baseline: As ``open_baseline`` takes it; ``None`` for the suite's own.
        rules: When the check fails.

    Raises:
        UserError: When the run or the baseline cannot be read.
    """
    from bench.check.compare import compare
    from bench.check.record import read_run
    from bench.check.source import default_file, open_baseline
    from bench.core.paths import folder_at

    recording = read_run(folder_at(run))
    if baseline is None:
        path = default_file(recording.suite)
        if not path.is_file():
            raise UserError(
                f"{path}: no baseline of suite '{recording.suite}' yet; make it from a run that is "
                f"known to be good with `rbench baseline update {run}`, or name another with "
                "--baseline"
            )
        baseline = str(path)
    return compare(recording, open_baseline(baseline), rules)


def _refuse_misuse(alpha: float, min_drop: float, files: Mapping[str, str]) -> None:
    if not 0 < alpha < 1:
        raise UserError(f"--alpha: expected a probability between 0 and 1, found {alpha:g}")
    if not 0 <= min_drop <= 100:
        raise UserError(f"--min-drop: expected points from 0 to 100, found {min_drop:g}")
    for file, n in Counter(files.values()).items():
        if n > 1:
            options = " and ".join(option for option, other in files.items() if other == file)
            place = "standard output" if file == STDOUT else file
            raise UserError(f"{options}: expected a file each, found {place} twice")


def _write_outputs(check: Check, files: Mapping[str, str]) -> None:
    """Writes a check in the formats that are asked for."""
    from bench.check.formats import to_json, to_junit
    from bench.check.markdown import to_markdown

    makers = {"--markdown": to_markdown, "--junit": to_junit, "--json": to_json}
    for option, file in files.items():
        _write(file, makers[option](check))


def _write(file: str, text: str) -> None:
    """Writes a file; a device such as /dev/stderr is written to, not replaced."""
    from bench.store.files import write_atomically

    if file == STDOUT:
        typer.echo(text, nl=False)
    elif os.path.lexists(file) and not os.path.isfile(file) and not os.path.isdir(file):
        try:
            Path(file).write_text(text, encoding="utf-8")
        except OSError as error:
            raise UserError(f"{file}: cannot be written ({error.strerror or error})") from None
    else:
        write_atomically(Path(file), text.encode())


def show(console: Console, check: Check) -> None:
    """Prints a check: a table of all cells, what is wrong, and the verdict last."""
    from bench.check.compare import EXIT_FINE, EXIT_REGRESSED
    from bench.check.text import headline, line, sensitivity
    from bench.untrusted.escape import one_line

    console.print(_table(check))
    described = [cell for cell in check.cells if cell.fails or cell.leaves_open]
    for cell in described[:MOST_LINES]:
        say(console, one_line(line(cell, check.tested)), _style(cell))
    if len(described) > MOST_LINES:
        say(console, f"and {len(described) - MOST_LINES} more; see --json", "yellow")
    for text in (sensitivity(check), *check.notes):
        if text:
            say(console, one_line(text))
    colour = {EXIT_FINE: "green", EXIT_REGRESSED: "red"}.get(check.exit_code, "yellow")
    say(console, one_line(headline(check)), f"bold {colour}")


def _style(cell: Checked) -> str:
    """Returns the colour of a cell's verdict."""
    if cell.fails:
        return "red"
    if cell.verdict in ("missing", "not comparable", "small drop"):
        return "yellow"
    return {"improved": "green", "same": "dim"}.get(cell.verdict, "")


def _table(check: Check) -> Table:
    """Returns all cells in the check's order; accuracies in percent."""
    from bench.check.text import p_value, percent, points
    from bench.untrusted.escape import one_line

    title = Text(one_line(f"{check.run} against {check.baseline}"))
    table = Table(title=title, title_justify="left")
    for name in ("model", "attack"):
        table.add_column(name, overflow="fold")
    for name in ("before", "now", "difference", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for cell in check.cells:
        texts = (
            one_line(cell.model),
            one_line(cell.attack),
            percent(cell.before),
            percent(cell.now),
            points(cell.difference),
            p_value(cell.adjusted),
            cell.verdict,
        )
        table.add_row(*map(Text, texts), style=_style(cell))
    return table


def on_github() -> bool:
    """Says whether this runs in a job of GitHub Actions."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


@contextmanager
def no_commands(console: Console) -> Iterator[None]:
    """Keeps GitHub from obeying what is printed inside the context.

    It takes any line that starts with two colons, or contains ``##[``, for a command, and labels
    and messages may hold that.
    """
    import secrets

    if not on_github():
        yield
        return
    token = secrets.token_hex(16)
    say(console, f"::stop-commands::{token}")
    try:
        yield
    finally:
        say(console, f"::{token}::")


def _annotate(console: Console, check: Check) -> None:
    """Prints GitHub's workflow commands, and appends to the summary of the job if there is one."""
    from bench.check.formats import to_annotations
    from bench.check.markdown import to_markdown

    for command in to_annotations(check):
        say(console, command)
    name = os.environ.get(SUMMARY, "")
    if not name:
        return
    try:
        with Path(name).open("a", encoding="utf-8") as handle:
            handle.write(to_markdown(check))
    except OSError as error:
        raise UserError(
            f"{name}: cannot be written ({error.strerror or error}); expected {SUMMARY} to name a "
            "file, or --no-annotations"
        ) from None
