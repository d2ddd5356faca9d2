"""``rbench run``."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from bench.cli import options as completing
from bench.cli.options import (
    EXIT_INTERRUPTED,
    Checkpoints,
    DataRoot,
    Device,
    Exact,
    OutFolder,
    SkipMissing,
    SuiteArgument,
    TrustCode,
    Workers,
    console,
    say,
    warn,
)

Engine = Literal["local", "ray"]


def run(
    suite: SuiteArgument,
    out: OutFolder = None,
    data_root: DataRoot = None,
    checkpoints: Checkpoints = None,
    device: Device = "auto",
    workers: Workers = None,
    probe: Annotated[
        bool, typer.Option("--probe/--no-probe", help="Test each model before attacking it.")
    ] = True,
    exact: Exact = False,
    skip_missing: SkipMissing = False,
    time_limit: Annotated[
        float | None,
        typer.Option(
            "--time-limit", min=1, help="Seconds after which a chunk of images is abandoned."
        ),
    ] = None,
    save_adv: Annotated[
        bool, typer.Option("--save-adv", help="Store adversarial examples, for rbench verify.")
    ] = False,
    engine: Annotated[
        Engine, typer.Option("--engine", help="Run on this machine, or on Ray.")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            "--address", help="Address of a Ray cluster, such as auto (default: start Ray here)."
        ),
    ] = None,
    task_cpus: Annotated[
        float, typer.Option("--task-cpus", min=1, help="CPU cores per chunk on Ray.")
    ] = 1,
    task_gpus: Annotated[
        float,
        typer.Option("--task-gpus", min=0, help="GPUs per chunk on Ray, such as 0.5."),
    ] = 0,
    track: Annotated[
        list[str] | None,
        typer.Option(
            "--track",
            help="Log to mlflow or wandb, as configured there; repeatable.",
            autocompletion=completing.trackers,
        ),
    ] = None,
    trust_code: TrustCode = False,
) -> None:
    """Run a suite and write its tables; stored results are not computed again."""
    from bench.cli.live import RunPrinter
    from bench.export.tracking import Tracking
    from bench.run.pipeline import run_suite
    from bench.run.remote_files import RayCluster
    from bench.suite.watcher import Watchers

    printer = RunPrinter(console)
    try:
        done = run_suite(
            suite,
            out=out,
            workers=workers,
            device=device,
            data_root=data_root,
            checkpoints=checkpoints,
            skip_missing=skip_missing,
            save_adv=save_adv,
            exact=exact,
            probe=probe,
            time_limit=time_limit,
            trust_code=trust_code,
            cluster=RayCluster(address, task_cpus, task_gpus) if engine == "ray" else None,
            watcher=Watchers(printer, Tracking(track or (), lambda line: warn(console, line))),
        )
    except KeyboardInterrupt:
        _say_stopped("ended at once")
        raise typer.Exit(printer.stopped_by or EXIT_INTERRUPTED) from None
    if done.analyses.kept:
        say(console, f"{done.analyses.kept} analyses already stored")
    for path in done.reports:
        say(console, f"wrote {path}")
    if done.status == "stopped":
        cells, analyses = done.cells.open, done.analyses.open
        left = f"{cells} cells to finish" if cells else f"{analyses} analyses to run"
        _say_stopped(f"stopped with {left}")
    raise typer.Exit(done.exit_code)


def _say_stopped(how: str) -> None:
    warn(console, f"{how}: run the same command again to go on, nothing that is stored is lost")
