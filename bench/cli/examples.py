"""Examples below the help of every command."""

from __future__ import annotations

from collections.abc import Iterator

import typer
from typer.models import CommandInfo

EXAMPLES: dict[str, tuple[str, ...]] = {
    "run": (
        "rbench run quickstart",
        "rbench run suites/table1.yaml --out /tmp/table1 --workers 4",
        "rbench run mine --track mlflow --save-adv",
    ),
    "plan": ("rbench plan table1", "rbench plan table1 --no-time --json"),
    "verify": ("rbench verify reports/mine",),
    "repair": ("rbench repair reports/mine",),
    "probe": ("rbench probe fmnist-resnet20-rna-at",),
    "selftest": ("rbench selftest --no-checkpoints", "rbench selftest --out selftest.md"),
    "report": (
        "rbench report reports/table1",
        "rbench report reports/table1 --kind leaderboard --format md,csv",
        "rbench report reports/rna_table1 --compare rna/table1",
    ),
    "check": (
        "rbench check reports/smoke",
        "rbench check reports/mine --baseline main:suites/baselines/mine.jsonl --min-drop 1",
        "rbench check reports/mine --baseline reports/before --markdown check.md --junit check.xml",
    ),
    "baseline update": ("rbench baseline update reports/mine",),
    "index": ("rbench index reports",),
    "train": (
        "rbench train fmnist-natural",
        "rbench train fmnist-natural --only fmnist-resnet20-bn",
    ),
    "list": ("rbench list attacks", "rbench list checkpoints --json"),
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
    "data fetch": ("rbench data fetch cifar10 --data-root data",),
    "zoo import": (
        "rbench zoo import weights.pt --arch resnet18 --norm bn --dataset cifar10 --name mine",
    ),
    "zoo verify": ("rbench zoo verify --quick", "rbench zoo verify fmnist-resnet20-bn --json"),
    "zoo readme": ("rbench zoo readme --check",),
    "zoo show": ("rbench zoo show fmnist-resnet20-bn",),
}
"""By the words of a command."""


def commands(app: typer.Typer, before: str = "") -> Iterator[tuple[str, CommandInfo]]:
    """Yields the words of each command and what is known of it, those of groups too."""
    for command in app.registered_commands:
        name = command.name or getattr(command.callback, "__name__", "").replace("_", "-")
        yield f"{before}{name}", command
    for group in app.registered_groups:
        if group.typer_instance is not None:
            yield from commands(group.typer_instance, f"{before}{group.name} ")


def add_examples(app: typer.Typer) -> None:
    """Puts the examples below the help of each command that has none of its own."""
    for name, command in commands(app):
        if name in EXAMPLES and not command.epilog:
            # An empty line between two keeps each on a line of its own.
            command.epilog = "\n\n".join(("Examples:", *EXAMPLES[name]))
