"""The curves of a training: data that can be read back, and a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench.train.build import write_curves
from bench.train.recipe import Recipe


@pytest.mark.parametrize("n_epochs", [1, 12])
def test_curves_are_written_as_data_and_picture(
    make_recipe: Callable[..., Recipe], tmp_path: Path, n_epochs: int
) -> None:
    history = [
        {"epoch": i + 1, "loss": 1 / (i + 1), "accuracy": 0.5 + i / 100, "seconds": 2.0}
        | {"test_accuracy": 0.4 + i / 100}
        for i in range(n_epochs)
    ]
    write_curves(tmp_path, make_recipe(), history)
    table = pd.read_csv(tmp_path / "training.csv")
    assert table["epoch"].tolist() == list(range(1, n_epochs + 1))
    assert table["test_accuracy"].tolist() == pytest.approx([h["test_accuracy"] for h in history])
    with Image.open(tmp_path / "training.png") as picture:
        assert picture.width > 500
        assert len(np.unique(np.asarray(picture.convert("L")))) > 20, "an empty picture"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["training.csv", "training.png"]
