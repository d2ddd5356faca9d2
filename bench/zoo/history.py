"""What a training wrote down epoch by epoch, read back from beside its checkpoint."""

from __future__ import annotations

import csv
from pathlib import Path

from bench.core.errors import UserError, words_of
from bench.store import Epoch

HISTORY = "training.csv"


def read_history(folder: Path) -> tuple[Epoch, ...]:
    """Reads a checkpoint's ``training.csv``; nothing where there is none.

    Raises:
        UserError: When the file has no such columns or holds something else than numbers.
    """
    path = folder / HISTORY
    if not path.is_file():
        return ()
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            return tuple(
                Epoch(
                    epoch=int(line["epoch"]),
                    loss=float(line["loss"]),
                    accuracy=float(line["accuracy"]),
                    test_accuracy=float(line["test_accuracy"]) if "test_accuracy" in line else None,
                )
                for line in csv.DictReader(handle)
            )
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise UserError(
            f"{path}: expected the columns epoch, loss, accuracy and test_accuracy with a number "
            f"in each line, as a training writes them ({words_of(error, 80)}); "
            "remove the file, or train again"
        ) from None
