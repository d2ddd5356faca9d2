"""Images of any number of channels and any size, and data with some of a model's classes only."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from bench import evaluate, run_suite
from bench.core.errors import UserError
from bench.core.model_spec import ClassifierSpec, as_size, size_text
from bench.data.named import get_dataset
from bench.data.npz import read_npz
from bench.models.external import library_model
from bench.norms import weights_seeded
from bench.run import job

N, CLASSES = 8, 6
ATTACKS: list[Any] = [
    "natural",
    {"attack": "pgd", "params": {"n_iter": 2}},
    {"attack": "square", "params": {"n_queries": 10}},
    {"attack": "deepfool", "params": {"n_iter": 2}},
]
MODULE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(channels, 4, 3), nn.Linear(4, 6)

    def forward(self, x):
        return self.fc(self.conv(x).relu().mean((2, 3)))
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    library_model._FACTS.clear()
    job.load_model.cache_clear()
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("shaped_")]:
        del sys.modules[name]


def run(here: Path, channels: int, size: str, data: str, classes: int = CLASSES) -> Any:
    name = f"shaped_{channels}_{abs(hash((str(here), size)))}"
    code = f"{MODULE}\n\ndef make():\n    return Net({channels})\n"
    (here / f"{name}.py").write_text(code)
    uri = f"python:{name}:make?size={size}&channels={channels}&classes={classes}"
    suite = {
        "suite": "shapes",
        "data": {"name": data},
        "threat_model": {"norm": "linf", "eps": 0.05},
        "batch_size": 4,
        "convergence_images": 0,
        "models": [{"checkpoint": uri, "label": "net"}],
        "attacks": ATTACKS,
    }
    return run_suite(suite, out="out", workers=1, device="cpu", trust_code=True)


def made(shape: tuple[int, ...], labels: int = 3) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    x = np.random.default_rng(0).random((N, *shape)).astype(np.float32)
    return x, np.arange(N) % labels


@pytest.mark.process
@pytest.mark.parametrize("last", [False, True], ids=["nchw", "nhwc"])
@pytest.mark.parametrize(
    ("channels", "height", "width"), [(1, 8, 8), (2, 8, 8), (4, 12, 9), (13, 16, 20), (3, 16, 10)]
)
def test_a_suite_takes_images_of_any_shape_and_some_of_the_classes(
    here: Path, channels: int, height: int, width: int, last: bool
) -> None:
    """The labels are three of the model's six classes."""
    x, y = made((channels, height, width))
    np.savez(here / "made.npz", x=x.transpose(0, 2, 3, 1) if last else x, y=y)
    size = f"{height}x{width}" if height != width else str(height)
    ended = run(here, channels, size, "npz:made.npz")
    table = ended.table()
    assert list(table["status"]) == ["ok"] * 4, list(table["reason"])
    stored = {
        cell.attack_label: ended.store.read_cell(cell.cell_id)[1] for cell in ended.plan.cells
    }
    (path,) = here.glob("shaped_*.py")
    with weights_seeded(0):  # as a suite makes it
        net = importlib.import_module(path.stem).make()
    expected = net(torch.from_numpy(x)).argmax(1).tolist()
    assert [row.clean_pred for row in stored["natural"]] == expected
    assert max(row.linf for row in stored["pgd"]) <= 0.05 + 1e-6


@pytest.mark.process
def test_images_written_anew_under_the_same_name_are_read_anew_by_the_probe(here: Path) -> None:
    for channels in (2, 4):
        x, y = made((channels, 8, 8))
        np.savez(here / "made.npz", x=x, y=y)
        ended = run(here, channels, "8", "npz:made.npz")
        assert list(ended.table()["status"]) == ["ok"] * 4
        assert not [text for texts in ended.alarms.values() for text in texts if "probe" in text]


def test_a_model_with_fewer_classes_than_the_data_is_refused(here: Path) -> None:
    x, y = made((2, 8, 8), labels=7)
    np.savez(here / "made.npz", x=x, y=y)
    with pytest.raises(UserError, match=r"6 classes, but data 'npz:made.npz' has .* 7 classes"):
        run(here, 2, "8", "npz:made.npz")


def test_sizes_are_compared_side_by_side(here: Path) -> None:
    x, y = made((2, 8, 12))
    np.savez(here / "made.npz", x=x, y=y)
    with pytest.raises(UserError, match=r"size 12 x 8, .* has .* size 8 x 12"):
        run(here, 2, "12x8", "npz:made.npz")
    with pytest.raises(UserError, match="a whole number, or HEIGHTxWIDTH, found '8,12'"):
        run(here, 2, "8,12", "npz:made.npz")


def test_a_folder_of_images_that_are_not_square(here: Path) -> None:
    for label in range(CLASSES):
        (here / "images" / f"c{label}").mkdir(parents=True)
        pixels = np.full((10, 14, 3), 40 * label, np.uint8)
        Image.fromarray(pixels).save(here / "images" / f"c{label}" / "one.png")
    found = get_dataset("folder:images")
    assert (found.size, found.channels, found.part) == ((10, 14), 3, False)
    assert found.loader("test", here).take(np.arange(2)).x.shape == (2, 3, 10, 14)


@pytest.mark.parametrize(
    ("shape", "read"),
    [
        ((2, 28, 28), (1, 28, 28)),
        ((2, 24, 40), (1, 24, 40)),
        ((2, 3, 32, 32), (3, 32, 32)),
        ((2, 32, 32, 3), (3, 32, 32)),
        ((2, 3, 3, 1), (1, 3, 3)),
        ((2, 13, 8, 8), (13, 8, 8)),
        ((2, 8, 8, 13), (13, 8, 8)),
        ((2, 24, 40, 2), (2, 24, 40)),
        ((2, 2, 24, 40), (2, 24, 40)),
        ((2, 20, 30, 13), (13, 20, 30)),
        ((2, 4, 4, 13), (13, 4, 4)),
    ],
)
def test_where_the_channels_of_a_file_are(
    tmp_path: Path, shape: tuple[int, ...], read: tuple[int, ...]
) -> None:
    path = tmp_path / "made.npz"
    np.savez(path, x=np.zeros(shape, np.uint8), y=np.zeros(2, np.int64))
    assert read_npz(path).x.shape[1:] == read


@pytest.mark.parametrize("shape", [(2, 3, 3, 3), (2, 9, 30, 9)])
def test_what_can_be_read_in_two_ways_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "made.npz"
    np.savez(path, x=np.zeros(shape, np.uint8), y=np.zeros(2, np.int64))
    with pytest.raises(UserError, match="read in two ways"):
        read_npz(path)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(
    ("channels", "height", "width"), [(2, 8, 8), (4, 8, 12), (13, 12, 8), (1, 6, 30)]
)
def test_evaluate_takes_images_of_any_shape(
    channels: int, height: int, width: int, norm: str
) -> None:
    x, y = made((channels, height, width))
    net = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net.append(nn.Linear(4, CLASSES))
    attacks = ["natural", "pgd", ("square", {"n_queries": 10}), "deepfool", "cw"]
    attacks += [("apgd_t", {"n_iter": 2}), ("fab_t", {"n_iter": 2}), ("auto", {"n_passes": 50})]
    result = evaluate(net, x, y, f"{norm}:0.1", attacks, sentinel=False)  # type: ignore[arg-type]
    assert {label: c.info.error for label, c in result.cells.items() if not c.info.complete} == {}


def test_a_size_is_one_number_where_images_are_square() -> None:
    """So that identities and cards of square images stay as they were."""
    fields = {"arch": "x", "norm": "foreign", "channels": 1, "classes": 2, "mean": [0], "std": [1]}
    square, oblong = (
        ClassifierSpec.model_validate({**fields, "size": size}) for size in ([8, 8], [8, 12])
    )
    assert square.size == 8 and square.model_dump(mode="json")["size"] == 8
    assert oblong.size == (8, 12) and size_text(oblong.size) == "8 x 12" and as_size(3, 3) == 3
    for wrong in (0, [8, 0], 10_001, [8], "8x8"):
        with pytest.raises(ValueError, match="size"):
            ClassifierSpec.model_validate({**fields, "size": wrong})
