"""The commands. Each parses, calls and prints; the work is done in the rooms below.

torch takes seconds to import, so commands import what they need when they run.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

import bench
from bench.cli import options as completing
from bench.cli.check_app import baseline_app, check
from bench.cli.examples import add_examples
from bench.cli.exporting import export
from bench.cli.listing import LISTINGS, list_command
from bench.cli.options import (
    EXIT_MISUSE,
    AsJson,
    Checkpoints,
    DataRoot,
    Device,
    TrustCode,
    console,
    errors,
)
from bench.cli.publishing import published_app
from bench.cli.querying import query
from bench.cli.run_app import plan, run
from bench.cli.starting import init
from bench.cli.zoo_app import zoo_app
from bench.core.errors import UserError

app = typer.Typer(
    help="Adversarial robustness, with its uncertainty: rbench run suites/table1.yaml",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
data_app = typer.Typer(
    help="Data sets: where they are, and how to fetch one.", no_args_is_help=True
)
app.add_typer(data_app, name="data")
app.add_typer(baseline_app, name="baseline")
app.add_typer(zoo_app, name="zoo")
app.add_typer(published_app, name="published")


def main() -> None:
    """Runs the command line; expected failures print one message and exit with code 2."""
    try:
        app()
    except UserError as error:
        errors.print("error: ", style="bold red", end="")
        errors.print(str(error), markup=False, highlight=False, soft_wrap=True)
        sys.exit(EXIT_MISUSE)


def _version(value: bool) -> None:
    if value:
        console.print(f"rbench {bench.__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


app.command()(run)
app.command()(plan)
app.command()(check)


@app.command()
def verify(
    run_folder: Annotated[str, typer.Argument(help="A run folder, or its URL.")],
    data_root: DataRoot = None,
    checkpoints: Checkpoints = None,
    device: Device = "auto",
    trust_code: TrustCode = False,
) -> None:
    """Check every stored adversarial example of a run anew, without its attack."""
    from bench.cli.verifying import verify_command
    from bench.core.paths import folder_at

    folder = folder_at(run_folder)
    places = (data_root, checkpoints, device)
    raise typer.Exit(verify_command(console, folder, *places, trust_code=trust_code))


@app.command()
def repair(
    run_folder: Annotated[str, typer.Argument(help="A run folder, or its URL.")],
) -> None:
    """Look through a run's store, name what is damaged, and write a lost run.json again."""
    from bench.cli.repairing import repair_command
    from bench.core.paths import folder_at

    raise typer.Exit(repair_command(console, folder_at(run_folder)))


@app.command()
def probe(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="A checkpoint's name or folder, or a URI: rbench list schemes.",
            autocompletion=completing.checkpoints,
        ),
    ],
    data: Annotated[
        str | None, typer.Option("--data", help="Images to look with (default: its data set's).")
    ] = None,
    data_root: DataRoot = None,
    checkpoints: Checkpoints = None,
    device: Device = "auto",
    trust_code: TrustCode = False,
) -> None:
    """Look at what a checkpoint does: stochastic, batch-dependent, gradients, modes."""
    from bench.cli.probing import probe_command

    places = (checkpoints, data_root, device)
    code = probe_command(console, checkpoint, *places, data=data, trust_code=trust_code)
    raise typer.Exit(code)


@app.command()
def selftest(
    case: Annotated[str | None, typer.Option("--case", help="Run this planted case only.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Markdown file that is written too.")
    ] = None,
    no_checkpoints: Annotated[
        bool, typer.Option("--no-checkpoints", help="Leave the checkpoints out.")
    ] = False,
    no_libraries: Annotated[
        bool, typer.Option("--no-libraries", help="Leave pyautoattack and torchattacks out.")
    ] = False,
    checkpoints: Checkpoints = None,
    data_root: DataRoot = None,
) -> None:
    """Plant every known trap and show that it is noticed (about two minutes)."""
    from bench.cli.selftest import selftest_command

    code = selftest_command(
        console,
        case,
        out,
        checkpoints,
        data_root,
        with_checkpoints=not no_checkpoints,
        with_libraries=not no_libraries,
    )
    raise typer.Exit(code)


@app.command()
def report(
    run_folder: Annotated[str, typer.Argument(help="A run folder, or its URL.")],
    kind: Annotated[
        list[str] | None,
        typer.Option(
            "--kind",
            help="Only this kind of report, in the suite or not; repeatable.",
            autocompletion=completing.kinds,
        ),
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="Some of md,tex,csv,png,svg,pdf,html (default: all)."),
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            "--compare",
            help="Set this published table, such as rna/table1, beside the run; repeatable.",
            autocompletion=completing.tables,
        ),
    ] = None,
) -> None:
    """Write a run's reports again from its store: tables, figures, and one page of them all."""
    from bench.cli.reporting import report_command
    from bench.core.paths import folder_at

    report_command(console, folder_at(run_folder), kind or [], formats or [], compare or [])


@app.command()
def index(
    reports: Annotated[Path, typer.Argument(help="A folder of run folders.")] = Path("reports"),
) -> None:
    """Write the index of all runs: what each is, and which of the papers' claims hold."""
    from bench.report.papers.index import write_index

    console.print(f"wrote {write_index(reports)}", highlight=False, soft_wrap=True)


@app.command()
def train(
    recipe: Annotated[
        str, typer.Argument(help="A recipe's name, or a file of recipes in checkpoints/recipes.")
    ],
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Of a file, this recipe; repeatable.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of checkpoints (default: checkpoints).")
    ] = None,
    data_root: DataRoot = None,
    device: Device = "auto",
    compile_model: Annotated[
        bool | None,
        typer.Option(
            "--compile/--no-compile",
            help="Use torch.compile, or not (default: on a GPU, and where it is faster).",
            show_default=False,
        ),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Train in float32, even where bfloat16 is faster.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Train again what has a checkpoint.")
    ] = False,
) -> None:
    """Train recipes to checkpoints; a killed training goes on where it was.

    On several GPUs: torchrun --nproc-per-node 4 -m bench train NAME
    """
    from bench.cli.training import train_command
    from bench.train.compute import Compute

    compute = Compute(device, compile_model, exact)
    train_command(console, recipe, only or [], out, data_root, compute, force)


@app.command(name="list")
def list_(
    what: Annotated[
        str,
        typer.Argument(help=f"One of {', '.join(LISTINGS)}.", autocompletion=completing.listings),
    ],
    checkpoints: Checkpoints = None,
    as_json: AsJson = False,
) -> None:
    """List what a suite may name."""
    list_command(console, what, checkpoints, as_json)


@data_app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="A data set, see: rbench list datasets.")],
    data_root: DataRoot = None,
) -> None:
    """Download a data set through torchvision into the data root."""
    from bench.data import fetch as fetch_data

    where = fetch_data(name, data_root)
    console.print(f"{name} is in {where}", highlight=False, soft_wrap=True)


app.command()(query)
app.command()(export)
app.command()(init)
add_examples(app)
