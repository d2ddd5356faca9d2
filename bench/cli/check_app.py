"""The commands ``rbench check`` and ``rbench baseline``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from bench.cli.options import (
    EXIT_INTERRUPTED,
    Checkpoints,
    DataRoot,
    Device,
    TrustCode,
    console,
    errors,
)
from bench.cli.run_app import Workers
from bench.core.errors import UserError

if TYPE_CHECKING:
    from bench.check.verdict import Check

baseline_app = typer.Typer(
    help="Baselines: the numbers that rbench check holds a run against.", no_args_is_help=True
)


def check(
    run: Annotated[
        str, typer.Argument(help="A run folder, or its URL; with --budget a suite that is run.")
    ],
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
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            help="Run a suite for so long, such as 5m: what shows a drop from the baseline best.",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option("--out", help="With --budget: run folder (default: reports/SUITE_check)."),
    ] = None,
    workers: Workers = None,
    data_root: DataRoot = None,
    checkpoints: Checkpoints = None,
    device: Device = "auto",
    trust_code: TrustCode = False,
) -> None:
    """Hold a run against a baseline, cell by cell: has robustness changed?

    Exit codes: 0 no, 1 it regressed, 2 misuse, 3 some cells could not be checked.
    """
    from bench.check.compare import Rules
    from bench.cli.checking import Outputs, check_command, check_run
    from bench.cli.github import on_github

    if budget is None and (out is not None or workers is not None):
        raise UserError("--out and --workers are for what is run here, with --budget 5m")
    rules = Rules(alpha=alpha, min_drop=min_drop / 100, accept_retrained=accept_retrained)
    github = on_github() if annotations is None else annotations
    outputs = Outputs(markdown=markdown, junit=junit, json=json, github=github)

    def make(people: Console) -> Check:
        if budget is None:
            return check_run(run, baseline, rules)
        from bench.cli.budgeting import budget_command

        places = (data_root, checkpoints, device, workers)
        return budget_command(
            people, run, baseline, budget, out, *places, rules, trust_code=trust_code
        )

    try:
        raise typer.Exit(check_command(console, errors, make, rules, outputs))
    except KeyboardInterrupt:
        errors.print("ended at once: the same command goes on, nothing that is stored is lost")
        raise typer.Exit(EXIT_INTERRUPTED) from None


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
    from bench.cli.updating import update_command

    update_command(console, run, to, force)
