"""The trainer's speed table as data and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd

from tools.speed.training import TrainingSpeed


def training_table(speeds: Sequence[TrainingSpeed]) -> pd.DataFrame:
    """Returns one row per recipe, with the fields of ``TrainingSpeed``."""
    digits = {"plain": 1, "ours": 1, "ratio": 3, "low": 3, "high": 3}
    return pd.DataFrame([asdict(speed) for speed in speeds]).round(digits)


def training_markdown(table: pd.DataFrame, host: str, n_steps: int, rounds: int) -> str:
    """Returns the table as Markdown, with settings and machine."""
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
    return "\n".join(
        [
            "# How fast the trainer is",
            "",
            "Both loops train the same network on the same images and batch size, in turns, in one "
            f"process: {rounds} rounds of {n_steps} steps each, medians. The plain loop is fp32 "
            "without compilation, with a DataLoader of two workers and torchvision's transforms; "
            "rbench's holds the data set in memory, augments whole batches, folds norms into "
            "convolutions in the attack's passes, and runs in the precision and layout that it "
            "finds fastest by timing some steps, which are not counted.",
            "",
            shown.to_markdown(index=False),
            "",
            f"Machine: {host}. "
            f"Command: `python -m tools.speed training --steps {n_steps} --rounds {rounds}`.",
            "",
        ]
    )
