"""The commands ``rbench run`` and ``rbench plan``, which take the same suites."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from bench.cli import options as completing
from bench.cli.options import AsJson, Checkpoints, DataRoot, Device, TrustCode, console

SuiteArgument = Annotated[
    str,
    typer.Argument(
        help="A suite file, or the name of one in suites/.", autocompletion=completing.suites
    ),
]
RunFolder = Annotated[
    str | None,
    typer.Option("--out", help="Run folder or its URL (default: reports/SUITE)."),
]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes (default: one per core; GPU: 1).")
]
Exact = Annotated[
    bool, typer.Option("--exact", help="Attack in float32 throughout, whatever the suite says.")
]
SkipMissing = Annotated[
    bool, typer.Option("--skip-missing", help="Leave out models whose checkpoint is not here.")
]
Engine = Literal["local", "ray"]


def run(
    suite: SuiteArgument,
    out: RunFolder = None,
    data_root: DataRoot = None,
    checkpoints: Checkpoints = None,
    device: Device = "auto",
    workers: Workers = None,
    probe: Annotated[
        bool, typer.Option("--probe/--no-probe", help="Look at each model first.")
    ] = True,
    exact: Exact = False,
    skip_missing: SkipMissing = False,
    time_limit: Annotated[
        float | None,
        typer.Option(
            "--time-limit", min=1, help="Seconds after which a chunk of images is given up."
        ),
    ] = None,
    save_adv: Annotated[
        bool, typer.Option("--save-adv", help="Store adversarial examples, for rbench verify.")
    ] = False,
    engine: Annotated[
        Engine, typer.Option("--engine", help="On this machine, or on what Ray manages.")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option("--address", help="Of a Ray cluster, such as auto (default: start Ray here)."),
    ] = None,
    task_cpus: Annotated[
        float, typer.Option("--task-cpus", min=1, help="Cores that a chunk takes on Ray.")
    ] = 1,
    task_gpus: Annotated[
        float,
        typer.Option("--task-gpus", min=0, help="GPUs that a chunk takes on Ray, or 0.5."),
    ] = 0,
    track: Annotated[
        list[str] | None,
        typer.Option(
            "--track",
            help="Log to mlflow or wandb, by their own settings; repeatable.",
            autocompletion=completing.trackers,
        ),
    ] = None,
    trust_code: TrustCode = False,
) -> None:
    """Run a suite and write its tables; what is stored already is not run again."""
    from bench.cli.ready import Wanted
    from bench.cli.running import run_command

    wanted = Wanted(
        suite=suite,
        out=out,
        data_root=data_root,
        checkpoints=checkpoints,
        device=device,
        workers=workers,
        exact=exact,
        skip_missing=skip_missing,
        probe=probe,
        time_limit=time_limit,
        save_adv=save_adv,
        engine=engine,
        address=address,
        task_cpus=task_cpus,
        task_gpus=task_gpus,
        track=tuple(track or ()),
        trust_code=trust_code,
    )
    raise typer.Exit(run_command(console, wanted))


def plan(
    suite: SuiteArgument,
    out: RunFolder = None,
    data_root: DataRoot = None,
    checkpoints: Checkpoints = None,
    exact: Exact = False,
    device: Device = "auto",
    workers: Workers = None,
    timed: Annotated[
        bool, typer.Option("--time/--no-time", help="Time a few passes, and predict from them.")
    ] = True,
    skip_missing: SkipMissing = False,
    as_json: AsJson = False,
    trust_code: TrustCode = False,
) -> None:
    """Check a suite and list its cells, without running any."""
    from bench.cli.planning import plan_command
    from bench.cli.ready import Wanted

    wanted = Wanted(
        suite=suite,
        out=out,
        data_root=data_root,
        checkpoints=checkpoints,
        device=device,
        workers=workers,
        exact=exact,
        skip_missing=skip_missing,
        trust_code=trust_code,
    )
    plan_command(console, wanted, timed=timed, as_json=as_json)
