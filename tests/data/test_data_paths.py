"""Data sets named by a path, and image folders."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from bench.core.cell import DataSpec
from bench.core.errors import UserError
from bench.data.named import get_dataset
from bench.data.slice import load_split, open_split, take_slice

RNG = np.random.default_rng(0)
NHWC = RNG.integers(0, 256, (6, 8, 8, 3), np.uint8)
Y = np.array([0, 1, 2, 0, 1, 2])


def save(path: Path, **arrays: Any) -> str:
    np.savez(path, **arrays)
    return f"npz:{path}"


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (NHWC, NHWC.transpose(0, 3, 1, 2)),
        (NHWC.transpose(0, 3, 1, 2), NHWC.transpose(0, 3, 1, 2)),
        (NHWC[..., 0], NHWC[..., 0][:, None]),
        (NHWC[..., :1], NHWC[..., 0][:, None]),
        (np.asfortranarray(NHWC[..., 0]), NHWC[..., 0][:, None]),
    ],
    ids=["nhwc", "nchw", "nhw", "nhw1", "fortran"],
)
def test_npz_layouts(tmp_path: Path, x: NDArray[np.uint8], expected: NDArray[np.uint8]) -> None:
    name = save(tmp_path / "a.npz", x=x, y=Y.astype(np.int32), index=np.arange(6))
    images = load_split(name, "test")
    np.testing.assert_array_equal(images.x, expected)
    assert images.x.dtype == np.uint8
    assert images.y.dtype == np.int64
    dataset = get_dataset(name)
    assert (dataset.classes, dataset.channels, dataset.size) == (3, expected.shape[1], 8)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "f8"])
def test_npz_floats_give_the_same_slice_as_bytes(tmp_path: Path, dtype: str) -> None:
    floats = (NHWC.astype(np.float32) / np.float32(255)).astype(dtype)
    slices = [
        take_slice(DataSpec(name=save(tmp_path / f"{i}.npz", x=x, y=Y), seed=1))
        for i, x in enumerate((NHWC, floats))
    ]
    assert slices[0].x.dtype == slices[1].x.dtype == np.float32
    assert slices[0].sha256 == slices[1].sha256


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": NHWC}, "expected keys x and y, found x"),
        ({"a": NHWC, "b": Y}, "found a, b"),
        ({"x": NHWC[0], "y": Y}, "found 6 labels in 'y' and 8 images"),
        ({"x": NHWC[0, 0], "y": Y}, r"found shape \(8, 3\)"),
        ({"x": NHWC[:, :3, :3], "y": Y}, "read in two ways"),
        ({"x": NHWC[:0], "y": Y[:0]}, "at least one image"),
        ({"x": NHWC.astype(np.int64), "y": Y}, "found int64"),
        ({"x": NHWC.astype(np.float32), "y": Y}, r"floats in \[0, 1\] in 'x', found 0 to 255"),
        ({"x": NHWC / 255 - 0.5, "y": Y}, r"floats in \[0, 1\]"),
        ({"x": np.full((6, 8, 8), np.nan), "y": Y}, r"floats in \[0, 1\]"),
        ({"x": NHWC, "y": Y[:5]}, "found 5 labels in 'y' and 6 images"),
        ({"x": NHWC, "y": Y[:, None]}, r"found int64 of shape \(6, 1\)"),
        ({"x": NHWC, "y": Y.astype(float)}, "found float64"),
        ({"x": NHWC, "y": Y - 1}, "labels from 0 in 'y', found -1"),
    ],
)
def test_npz_of_another_form_is_refused(
    tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    name = save(tmp_path / "bad.npz", **arrays)
    with pytest.raises(UserError, match=message) as error:
        load_split(name, "test")
    assert "bad.npz" in str(error.value)


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.target,)


def test_npz_never_unpickles(tmp_path: Path) -> None:
    target = tmp_path / "owned"
    name = save(tmp_path / "evil.npz", x=NHWC, y=np.array([Evil(target)] * 6, object))
    with pytest.raises(UserError, match=r"evil\.npz"):
        load_split(name, "test")
    (tmp_path / "plain.npz").write_bytes(pickle.dumps(Evil(target)))
    with pytest.raises(UserError, match=r"plain\.npz"):
        load_split(f"npz:{tmp_path / 'plain.npz'}", "test")
    assert not target.exists()


def test_truncated_or_foreign_files_are_user_errors(tmp_path: Path) -> None:
    save(tmp_path / "a.npz", x=NHWC, y=Y)
    content = (tmp_path / "a.npz").read_bytes()
    np.save(tmp_path / "single.npy", NHWC)
    (tmp_path / "cut.npz").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty.npz").write_bytes(b"")
    flipped = bytearray(content)
    flipped[400] ^= 255
    (tmp_path / "flipped.npz").write_bytes(flipped)
    for file in ("single.npy", "cut.npz", "empty.npz", "flipped.npz", "none.npz", "."):
        with pytest.raises(UserError, match=str(tmp_path)):
            load_split(f"npz:{tmp_path / file}", "test")


def test_path_without_split_is_a_test_split_only(tmp_path: Path) -> None:
    name = save(tmp_path / "a.npz", x=NHWC, y=Y)
    with pytest.raises(UserError, match=r"no split 'train'.*{split}"):
        load_split(name, "train")


def test_split_in_the_path_gives_both(tmp_path: Path) -> None:
    save(tmp_path / "a-test.npz", x=NHWC, y=Y)
    save(tmp_path / "a-train.npz", x=NHWC[:4], y=Y[:4])
    name = f"npz:{tmp_path}/a-{{split}}.npz"
    assert len(load_split(name, "test").y) == 6
    assert len(load_split(name, "train").y) == 4
    save(tmp_path / "a-train.npz", x=NHWC[..., 0], y=Y)
    with pytest.raises(UserError, match="like the test images"):
        load_split(name, "train")


def test_relative_path_from_working_directory_then_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    save(tmp_path / "a.npz", x=NHWC, y=Y)
    assert len(load_split("npz:a.npz", "test", tmp_path).y) == 6
    save(tmp_path / "cwd" / "a.npz", x=NHWC[:2], y=Y[:2])
    assert len(load_split("npz:a.npz", "test", tmp_path).y) == 2


@pytest.mark.parametrize("name", ["npz:", "folder:", "folder:x?size=0"])
def test_path_form_without_a_usable_path(name: str) -> None:
    with pytest.raises(UserError, match="expected a"):
        get_dataset(name)


def save_image(path: Path, array: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images in two classes, among files that are none."""
    root = tmp_path / "images"
    save_image(root / "zebra" / "a.png", NHWC[0])
    save_image(root / "Ant" / "b.PNG", NHWC[1])
    save_image(root / "Ant" / "a.bmp", NHWC[2])
    (root / "Ant" / "notes.txt").write_text("no image")
    (root / ".hidden").mkdir()
    return root


def test_folder_classes_are_sorted_sub_folders(folder: Path) -> None:
    dataset = get_dataset(f"folder:{folder}")
    assert dataset.class_names == ("Ant", "zebra")
    assert (dataset.classes, dataset.channels, dataset.size) == (2, 3, 8)
    images = load_split(f"folder:{folder}", "test")
    np.testing.assert_array_equal(images.x, NHWC[[2, 1, 0]].transpose(0, 3, 1, 2))
    assert images.y.tolist() == [0, 0, 1]


def test_gray_folder_has_one_channel(tmp_path: Path) -> None:
    save_image(tmp_path / "a" / "0.png", NHWC[0, ..., 0])
    name = f"folder:{tmp_path}"
    np.testing.assert_array_equal(load_split(name, "test").x[0, 0], NHWC[0, ..., 0])
    save_image(tmp_path / "a" / "1.png", NHWC[0])
    with pytest.raises(UserError, match=r"1\.png: expected a gray image"):
        load_split(name, "test")


def test_unequal_sizes_need_a_size(folder: Path) -> None:
    save_image(folder / "zebra" / "wide.png", np.tile(NHWC[0], (1, 2, 1)))
    with pytest.raises(UserError, match=r"wide\.png: expected 8x8 pixels.*found 16x8.*\?size=N"):
        load_split(f"folder:{folder}", "test")
    x = load_split(f"folder:{folder}?size=8", "test").x
    np.testing.assert_array_equal(x[3], np.tile(NHWC[0], (1, 2, 1))[:, 4:12].transpose(2, 0, 1))


def test_16_bit_and_broken_images_are_named(folder: Path) -> None:
    deep = folder / "zebra" / "deep.png"
    save_image(deep, np.full((8, 8), 40000, np.uint16))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"deep\.png: expected an 8-bit image"):
        load_split(f"folder:{folder}", "test")
    deep.write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(UserError, match=r"deep\.png: not a readable image"):
        load_split(f"folder:{folder}", "test")


def test_train_and_test_folders_must_have_the_same_classes(tmp_path: Path) -> None:
    save_image(tmp_path / "test" / "a" / "0.png", NHWC[0])
    save_image(tmp_path / "train" / "a" / "0.png", NHWC[1])
    name = f"folder:{tmp_path}/{{split}}"
    np.testing.assert_array_equal(load_split(name, "train").x[0], NHWC[1].transpose(2, 0, 1))
    save_image(tmp_path / "train" / "A" / "0.png", NHWC[1])
    with pytest.raises(UserError, match="same class folders"):
        load_split(name, "train")


def test_empty_or_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no images"):
        load_split(f"folder:{tmp_path}", "test")
    with pytest.raises(UserError, match="no such folder"):
        load_split(f"folder:{tmp_path}/none", "test")


@pytest.fixture
def imagenet(tmp_path: Path) -> Path:
    """1000 class folders, of which four hold an image and one a broken file."""
    for i in range(1000):
        (tmp_path / "val" / f"n{i:08d}").mkdir(parents=True)
    shapes = {1: (300, 400, 3), 2: (500, 257, 3), 998: (256, 256, 3), 999: (301, 333)}
    for i, shape in shapes.items():
        small = RNG.integers(0, 256, (9, 9, *shape[2:]), np.uint8)
        picture = Image.fromarray(small).resize((shape[1], shape[0]))
        picture.save(tmp_path / "val" / f"n{i:08d}" / "ILSVRC2012_val_1.JPEG")
    (tmp_path / "val" / "n00000500" / "broken.JPEG").write_bytes(b"broken")
    return tmp_path


def test_imagenet_pixels_are_those_of_torchvision(imagenet: Path) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    reference: Callable[[Image.Image], Image.Image] = transforms.Compose(
        [transforms.Resize(256), transforms.CenterCrop(224)]
    )
    split = open_split("imagenet", "test", imagenet)
    assert split.y.tolist() == [1, 2, 500, 998, 999]
    images = split.take(np.array([0, 1, 3, 4]))
    for x, y in zip(images.x, images.y, strict=True):
        path = imagenet / "val" / f"n{y:08d}" / "ILSVRC2012_val_1.JPEG"
        expected = np.asarray(reference(Image.open(path).convert("RGB")))
        np.testing.assert_array_equal(x, expected.transpose(2, 0, 1))


def test_imagenet_slice_opens_only_its_own_images(imagenet: Path) -> None:
    piece = take_slice(DataSpec(name="imagenet", limit=2), imagenet)
    assert piece.x.shape == (2, 3, 224, 224)
    with pytest.raises(UserError, match=r"broken\.JPEG: not a readable image"):
        take_slice(DataSpec(name="imagenet", limit=3), imagenet)


def test_imagenet_needs_all_class_folders_for_its_labels(imagenet: Path) -> None:
    (imagenet / "val" / "n00000000").rmdir()
    with pytest.raises(UserError, match="expected 1000 class folders, found 999"):
        open_split("imagenet", "test", imagenet)


def test_missing_imagenet_says_what_to_place_where(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ROOT/val/<wnid>") as error:
        open_split("imagenet", "test", tmp_path)
    assert str(tmp_path / "val") in str(error.value)
