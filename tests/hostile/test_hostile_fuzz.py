"""A few hundred mutated suites and cards; ``fuzz.py`` reads as many as are asked for.

And every other kind of file that is read, with bytes changed at random.
"""

from __future__ import annotations

import io
import os
import pickle
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from fuzz import card_files, fuzz, suite_files, suite_reader
from hostile_data import idx, png
from hostile_place import Place

from bench.core.errors import UserError
from bench.data.slice import load_split
from bench.report import write_reports
from bench.store.analysis_store import AnalysisStore
from bench.store.run_store import RunStore
from bench.untrusted.weights import read_safetensors
from bench.zoo import read_card
from bench.zoo.checkpoint import read_history
from bench.zoo.imported import read_foreign

COUNT = int(os.environ.get("RBENCH_FUZZ", "60"))


@pytest.mark.process
@pytest.mark.parametrize(
    ("reader", "files", "count"),
    [(suite_reader, suite_files, 150), (lambda: read_card, card_files, 300)],
    ids=["suite", "card"],
)
def test_a_mutated_file_is_read_or_refused(
    reader: Callable[[], Callable[[Path], object]],
    files: Callable[[], Sequence[Path]],
    count: int,
) -> None:
    counts, others = fuzz(reader(), files(), count, seed=1)
    assert not others
    assert counts["parsed"] + counts["refused"] == count
    assert min(counts["parsed"], counts["refused"]) > count // 20


def scrambled(raw: bytes, rng: random.Random) -> bytes:
    """Returns bytes with a few of them changed, cut out, or put in."""
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(raw) or 1)
        how = rng.randrange(6)
        if how < 3:
            raw = raw[:at] + bytes([rng.randrange(256)]) + raw[at + 1 :]
        elif how == 3:
            raw = raw[:at] + raw[at + rng.choice((1, 4, 100)) :]
        elif how == 4:
            raw = raw[:at] + rng.choice((b"\xff" * 8, b"\0" * 8, b"\x7f", raw[:40])) + raw[at:]
        else:
            raw = raw[: max(at, 1)]
    return raw


def batch(place: Place) -> Path:
    rng = np.random.default_rng(0)
    content = {"data": rng.integers(0, 256, (3, 3072), np.uint8), "labels": [0, 1, 2]}
    return place.write("cifar-10-batches-py/test_batch", pickle.dumps(content, 2))


def torch_file(place: Place) -> Path:
    target = io.BytesIO()
    torch.save({"state_dict": {"a.weight": torch.zeros(3, 3)}, "epoch": 3}, target)
    return place.write("a.pt", target.getvalue())


def images(place: Place) -> Path:
    place.write("mnist/t10k-labels-idx1-ubyte", idx([2], bytes(2)))
    return place.write("mnist/t10k-images-idx3-ubyte", idx([2, 28, 28], bytes(1568)))


def pictures(place: Place) -> Path:
    place.write("pictures/b/b.png", png())
    return place.write("pictures/a/a.png", png())


def history(place: Place) -> Path:
    text = "epoch,loss,accuracy,test_accuracy\n1,0.5,0.5,0.5\n2,0.4,0.6,0.6\n"
    return place.write("checkpoints/good/training.csv", text)


def vouched(folder: Path, place: Place) -> None:
    """Makes the hash of a stored table that of the changed one."""
    (table,) = folder.glob("*.parquet")
    place.table(folder, table.read_bytes())


READERS: dict[str, tuple[Callable[[Place], Path], Callable[[Place], object]]] = {
    "cifar": (batch, lambda p: load_split("cifar10", "test", p.root)),
    "torch": (torch_file, lambda p: read_foreign(p.root / "a.pt")),
    "idx": (images, lambda p: load_split("mnist", "test", p.root)),
    "npz": (lambda p: p.root / "data.npz", lambda p: load_split("npz:data.npz", "test", p.root)),
    "pictures": (pictures, lambda p: load_split("folder:pictures", "test", p.root)),
    "safetensors": (
        lambda p: p.checkpoint / "model.safetensors",
        lambda p: read_safetensors(p.checkpoint / "model.safetensors"),
    ),
    "history": (history, lambda p: read_history(p.checkpoint)),
    "run.json": (
        lambda p: p.store / "run.json",
        lambda p: write_reports(p.root / "run", (), ["md"]),
    ),
    "info.json": (
        lambda p: p.attacked_cell() / "info.json",
        lambda p: write_reports(p.root / "run", (), ["md"]),
    ),
    "rows": (
        lambda p: p.entry("cells") / "rows.parquet",
        lambda p: (
            vouched(p.entry("cells"), p),
            RunStore(p.root / "run").read_cell(p.entry("cells").name),
        ),
    ),
    "values": (
        lambda p: p.entry("analyses") / "values.parquet",
        lambda p: (
            vouched(p.entry("analyses"), p),
            AnalysisStore(p.root / "run").read(p.entry("analyses").name),
            write_reports(p.root / "run", ["examples"], ["md"]),
        ),
    ),
    "examples": (
        lambda p: p.example_file(),
        lambda p: RunStore(p.root / "run").examples.read(p.example_file().parent.name, 0),
    ),
}


@pytest.mark.parametrize("name", READERS)
def test_scrambled_bytes_are_read_or_refused(name: str, place: Place) -> None:
    make, read = READERS[name]
    path = make(place)
    if name == "examples":
        path = path.with_name("000000.parquet")
    raw, rng, refused = path.read_bytes(), random.Random(name), 0
    for _ in range(COUNT):
        path.write_bytes(scrambled(raw, rng))
        try:
            read(place)
        except UserError as error:
            refused += 1
            assert str(error).strip()
    assert refused > COUNT // 10
