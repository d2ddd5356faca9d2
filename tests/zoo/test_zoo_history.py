"""A training's record is read back as it was written, and a damaged one is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.core.errors import UserError
from bench.zoo.checkpoint import HISTORY, read_history

ROOT = Path(__file__).parents[2]


def test_record_of_a_shipped_checkpoint_is_read() -> None:
    epochs = read_history(ROOT / "checkpoints" / "fmnist-resnet20-rn")
    assert [one.epoch for one in epochs] == list(range(1, 11))
    assert epochs[0].loss > epochs[-1].loss and 0.8 < epochs[-1].accuracy < 1
    assert epochs[-1].test_accuracy is not None


def test_no_record_is_an_empty_one(tmp_path: Path) -> None:
    assert read_history(tmp_path) == ()


@pytest.mark.parametrize(
    "content",
    [
        "epoch,loss\n1,2.0\n",
        "epoch,loss,accuracy\n1,two,0.5\n",
        "epoch,loss,accuracy\n1,2.0\n",
        "epoch,loss,accuracy,test_accuracy\n1,2.0,55,0.5\n",
    ],
)
def test_damaged_records_are_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / HISTORY).write_text(content)
    with pytest.raises(UserError, match=r"training\.csv: expected the columns epoch, loss"):
        read_history(tmp_path)
