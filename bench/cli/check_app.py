"""The commands ``rbench check`` and ``rbench baseline``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import console, errors
from bench.core.errors import UserError

baseline_app = typer.Typer(
    help="Baselines: the numbers that rbench check holds a run against.", no_args_is_help=True
)


def check(
    run: Annotated[str, typer.Argument(help="A run folder, or its URL.")],
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            help="A baseline's file, REVISION:FILE of git, or a run folder "
            "(default: suites/baselines/SUITE.jsonl).",
        ),
    ] = None,
    min_drop: Annotated[
        float,
        typer.Option("--min-drop", help="Points; a smaller drop is shown, but does not fail."),
    ] = 0.0,
    alpha: Annotated[
        float,
        typer.Option("--alpha", help="Probability that a check without any change fails."),
    ] = 0.01,
    accept_retrained: Annotated[
        bool,
        typer.Option(
            "--accept-retrained",
            help="Two trainings between which no difference is shown do not leave it incomplete.",
        ),
    ] = False,
    markdown: Annotated[
        str | None,
        typer.Option("--markdown", help="Write this too, for a pull request; - for stdout."),
    ] = None,
    junit: Annotated[
        str | None, typer.Option("--junit", help="Write this too, as tests; - for stdout.")
    ] = None,
    json: Annotated[
        str | None, typer.Option("--json", help="Write this too, for programs; - for stdout.")
    ] = None,
    annotations: Annotated[
        bool | None,
        typer.Option(
            "--annotations/--no-annotations",
            help="Notes and a summary for GitHub (default: in its jobs).",
            show_default=False,
        ),
    ] = None,
    budget: Annotated[str | None, typer.Option("--budget", hidden=True)] = None,
) -> None:
    """Hold a run against a baseline, cell by cell: has robustness changed?

    Exit codes: 0 no, 1 it regressed, 2 misuse, 3 some cells could not be checked.
    """
    from bench.check.compare import Rules
    from bench.cli.checking import Outputs, check_command, on_github

    if budget is not None:
        raise UserError(
            "--budget: no longer there, for it overran its time; run a small suite, such as "
            "suites/smoke.yaml, with `rbench run`, then `rbench check` its run folder (docs/ci.md)"
        )
    rules = Rules(alpha=alpha, min_drop=min_drop / 100, accept_retrained=accept_retrained)
    github = on_github() if annotations is None else annotations
    outputs = Outputs(markdown=markdown, junit=junit, json=json, github=github)
    raise typer.Exit(check_command(console, errors, run, baseline, rules, outputs))


@baseline_app.command()
def update(
    run: Annotated[str, typer.Argument(help="A run folder, or its URL.")],
    to: Annotated[
        Path | None, typer.Option("--to", help="File (default: suites/baselines/SUITE.jsonl).")
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Also of a run that is incomplete, or has alarms."),
    ] = False,
) -> None:
    """Write a run's numbers as the baseline, and say what that changes."""
    from bench.cli.checking import update_command

    update_command(console, run, to, force)
