"""The command line: all commands, the examples below their help, and ``main``.

A command's module declares its options and has a thin body. torch takes seconds to import, so
bodies import what they need when they run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from typer.models import CommandInfo

import bench
from bench.cli.baseline import baseline_app
from bench.cli.check import check
from bench.cli.export import export, query
from bench.cli.listing import list_
from bench.cli.options import EXIT_MISUSE, DataRoot, console, errors, say
from bench.cli.plan import plan
from bench.cli.probe import probe
from bench.cli.prune import prune
from bench.cli.published import published_app
from bench.cli.report import index, report
from bench.cli.run import run
from bench.cli.selftest import selftest
from bench.cli.train import train
from bench.cli.verify import repair, verify
from bench.cli.zoo import zoo_app
from bench.core.errors import UserError

EXAMPLES: dict[str, tuple[str, ...]] = {
    "run": (
        "rbench run quickstart",
        "rbench run suites/table1.yaml --out /tmp/table1 --workers 4",
        "rbench run mine --track mlflow --save-adv",
    ),
    "plan": ("rbench plan table1", "rbench plan table1 --no-time --json"),
    "verify": (
        "rbench verify reports/mine",
        "rbench verify --model fmnist-resnet20-bn --data fashion-mnist --x-adv adv.pt --threat "
        "linf:0.1",
    ),
    "repair": ("rbench repair reports/mine",),
    "prune": ("rbench prune reports/mine --dry-run", "rbench prune reports/mine"),
    "probe": ("rbench probe fmnist-resnet20-rna-at",),
    "selftest": ("rbench selftest --no-checkpoints", "rbench selftest --out selftest.md"),
    "report": (
        "rbench report reports/table1",
        "rbench report reports/table1 --kind leaderboard --format md,csv",
        "rbench report reports/table1 --style paper --group training",
        "rbench report reports/table1 --compare rna/table1",
        "rbench report reports/table1 --suite table1 --compare rna/table1",
    ),
    "check": (
        "rbench check reports/mine",
        "rbench check reports/mine --baseline main:suites/baselines/mine.jsonl --min-drop 1",
        "rbench check reports/mine --baseline reports/before --markdown check.md --junit check.xml",
    ),
    "baseline update": ("rbench baseline update reports/mine",),
    "index": ("rbench index reports",),
    "train": (
        "rbench train fmnist-natural",
        "rbench train fmnist-natural --only fmnist-resnet20-bn",
    ),
    "list": ("rbench list", "rbench list attacks", "rbench list checkpoints --json"),
    "init": ("rbench init", "rbench init my-project"),
    "query": (
        'rbench query reports/table1 "select model, attack, accuracy, low, high, n from cells"',
        'rbench query reports/table1 "select * from rows where robust < 1" --out broken.parquet',
    ),
    "export": (
        "rbench export reports/table1 --to parquet --out rows.parquet",
        "rbench export reports/table1 --to hf",
    ),
    "published import": ("rbench published import robustbench robustbench/model_info",),
    "published list": ("rbench published list", "rbench published list --json"),
    "published show": ("rbench published show rna/table1",),
    "data fetch": ("rbench data fetch cifar10 --data-root data",),
    "zoo import": (
        "rbench zoo import weights.pt --arch resnet18 --norm bn --dataset cifar10 --name mine",
    ),
    "zoo verify": ("rbench zoo verify --quick", "rbench zoo verify fmnist-resnet20-bn --json"),
    "zoo readme": ("rbench zoo readme --check",),
    "zoo show": ("rbench zoo show fmnist-resnet20-bn",),
}
"""Shown below a command's help."""

app = typer.Typer(
    help="Measure adversarial robustness with confidence intervals. Start: rbench run quickstart",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
data_app = typer.Typer(help="Download data sets.", no_args_is_help=True)


def main() -> None:
    """Runs the command line; expected failures print one message and exit with code 2."""
    try:
        app()
    except UserError as error:
        errors.print("error: ", style="bold red", end="")
        say(errors, str(error))
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


@data_app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="Name of a data set (rbench list datasets).")],
    data_root: DataRoot = None,
) -> None:
    """Download a data set through torchvision into the data root."""
    from bench.data.fetch import fetch as fetch_data

    say(console, f"{name} is in {fetch_data(name, data_root)}")


def init(
    folder: Annotated[
        Path, typer.Argument(help="Folder in which suites/mine.yaml is written.")
    ] = Path(),
) -> None:
    """Write a commented suite to start from; existing files are kept."""
    from bench.store.files import write_atomically
    from bench.suite.find import NAME, starter_suite

    path = folder / "suites" / f"{NAME}.yaml"
    if path.exists():
        raise UserError(f"{path}: is there already; change it, or choose another folder")
    write_atomically(path, starter_suite().encode())
    say(console, f"wrote {path}")
    steps = f"rbench plan {NAME}" if folder == Path() else f"cd {folder} && rbench plan {NAME}"
    say(console, f"next: {steps}")


def commands(app: typer.Typer, before: str = "") -> Iterator[tuple[str, CommandInfo]]:
    """Yields the name of each command, such as ``zoo import``, and typer's facts about it."""
    for command in app.registered_commands:
        name = command.name or getattr(command.callback, "__name__", "").replace("_", "-")
        yield f"{before}{name}", command
    for group in app.registered_groups:
        if group.typer_instance is not None:
            yield from commands(group.typer_instance, f"{before}{group.name} ")


def _add_examples() -> None:
    """Puts the examples below the help of each command."""
    for name, command in commands(app):
        if name in EXAMPLES:
            # An empty line between two keeps each on a line of its own.
            command.epilog = "\n\n".join(("Examples:", *EXAMPLES[name]))


app.add_typer(data_app, name="data")
app.add_typer(baseline_app, name="baseline")
app.add_typer(zoo_app, name="zoo")
app.add_typer(published_app, name="published")
_COMMANDS: tuple[Callable[..., None], ...] = (
    *(run, plan, check, verify, repair, prune, probe, selftest),
    *(report, index, train, list_, query, export, init),
)
for _command in _COMMANDS:
    app.command(name=_command.__name__.removesuffix("_"))(_command)
_add_examples()
