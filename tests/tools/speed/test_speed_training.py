"""Turns, ratios and the trainer's speed table (not how fast anything is)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from bench.data.roots import SYSTEM_FOLDER
from tools.speed.__main__ import speed_app
from tools.speed.timing import Timing, ratio, take_turns

TRAIN = SYSTEM_FOLDER / "fashion-mnist" / "train-images-idx3-ubyte.gz"


def test_contenders_take_turns_in_changing_order() -> None:
    ran: list[str] = []
    contenders = {name: (lambda name=name: ran.append(name)) for name in "ab"}
    times = take_turns(contenders, 3)
    assert ran == ["a", "b", "b", "a", "a", "b"]
    assert [len(times[name].seconds) for name in "ab"] == [3, 3]


def test_the_ratio_is_taken_round_by_round() -> None:
    # The machine was three times slower in the second round.
    slow, fast = Timing((2.0, 6.0, 2.2)), Timing((1.0, 3.0, 1.0))
    assert ratio(slow, fast) == pytest.approx((2.0, 2.0, 2.2))
    assert Timing((3.0, 1.0, 2.0)).median == 2.0


@pytest.mark.slow
@pytest.mark.skipif(not TRAIN.is_file(), reason="needs Fashion-MNIST's training images")
def test_the_training_table_is_written(tmp_path: Path) -> None:
    """Below it stand rows of other kinds of processor, which another machine has measured."""
    numbers = dict.fromkeys(("plain", "ours", "ratio", "low", "high"), 1.0)
    names = {"recipe": "another", "kind": "natural", "norm": "bn", "layout": "float32"}
    earlier = {**names, **numbers, "processor": "Z80", "host": "there"}
    pd.DataFrame([earlier]).to_csv(tmp_path / "training.csv", index=False)
    command = ["training", "--recipe", "fmnist-resnet20-rna-at", "--steps", "1"]
    done = CliRunner().invoke(speed_app, [*command, "--rounds", "1", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    text = (tmp_path / "training.md").read_text()
    assert "| fmnist-resnet20-rna-at | black-box" in text
    assert text.index("black-box") < text.index("## Z80") < text.index("| another")
    values, other = pd.read_csv(tmp_path / "training.csv").to_dict("records")
    assert values["ours"] / values["plain"] == pytest.approx(values["ratio"], rel=0.01)
    assert other["host"] == "there"
