"""The trainer's speed table as data and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from tools.speed.training import TrainingSpeed


def training_table(speeds: Sequence[TrainingSpeed], processor: str, host: str) -> pd.DataFrame:
    """Returns one row per recipe, with the fields of ``TrainingSpeed``.

    Args:
        speeds: The measurements.
        processor: The kind of processor; see ``tools.speed.host``.
        host: The machine, in words.
    """
    digits = {"plain": 1, "ours": 1, "ratio": 3, "low": 3, "high": 3}
    table = pd.DataFrame([asdict(speed) for speed in speeds]).round(digits)
    return table.assign(processor=processor, host=host)


def with_other_processors(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Returns a table with the rows of an earlier file for other kinds of processor below it."""
    if not path.is_file():
        return table
    before = pd.read_csv(path, keep_default_na=False)
    return pd.concat([table, before[~before["processor"].isin(table["processor"])]])


def training_markdown(table: pd.DataFrame, n_steps: int, rounds: int) -> str:
    """Returns the table as Markdown, by kind of processor, with settings and machine."""
    parts = [
        "# How fast the trainer is",
        "Both loops train the same network on the same images and batch size, in turns, in one "
        "process; medians. The plain loop is fp32 without compilation, with a DataLoader of two "
        "workers and torchvision's transforms; rbench's holds the data set in memory, augments "
        "whole batches, folds norms into convolutions in the attack's passes, and runs in the "
        "precision and layout that it finds fastest by timing some steps, which are not counted.",
    ]
    for processor, rows in table.groupby("processor", sort=False):
        parts += [f"## {processor}", _shown(rows), f"Machine: {rows['host'].iloc[0]}."]
    command = f"python -m tools.speed training --steps {n_steps} --rounds {rounds}"
    parts.append(f"Command of the first table: `{command}`.")
    return "\n\n".join(parts) + "\n"


def _shown(table: pd.DataFrame) -> str:
    shown = pd.DataFrame(
        {
            "recipe": table["recipe"],
            "training": table["kind"],
            "norm": table["norm"],
            "plain loop, images/s": table["plain"].map("{:.0f}".format),
            "rbench, images/s": table["ours"].map("{:.0f}".format),
            "layout": table["layout"],
            "times faster (least to most)": [
                f"{row.ratio:.2f} ({row.low:.2f} to {row.high:.2f})" for row in table.itertuples()
            ],
        }
    )
    return shown.to_markdown(index=False)
