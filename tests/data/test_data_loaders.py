"""Loaders in torchvision's layouts: MNIST, Fashion-MNIST, CIFAR, and where they are looked for."""

from __future__ import annotations

import gzip
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.core.cell import DataSpec
from bench.core.errors import UserError
from bench.data.images import to_unit_range
from bench.data.roots import data_root
from bench.data.slice import load_split, open_split, take_slice


@pytest.fixture(autouse=True)
def no_other_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides the machine's own data sets."""
    monkeypatch.setenv("RBENCH_DATA", str(tmp_path / "empty"))
    monkeypatch.setattr("bench.data.named.SYSTEM_FOLDER", tmp_path / "system")


def idx(array: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_pair(
    folder: Path, stem: str, x: NDArray[np.uint8], y: NDArray[np.uint8], gz: bool = False
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in ((f"{stem}-images-idx3-ubyte", x), (f"{stem}-labels-idx1-ubyte", y)):
        if gz:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
        else:
            (folder / name).write_bytes(idx(array))


def pixels(seed: int, *shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_bundled_fashion_mnist_test_split_needs_nothing_installed() -> None:
    images = load_split("fashion-mnist", "test")
    assert images.x.shape == (10000, 1, 28, 28)
    assert np.bincount(images.y).tolist() == [1000] * 10
    assert images.y[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]
    assert images.x.mean() / 255 == pytest.approx(0.2868, abs=1e-3)


def test_fashion_mnist_train_is_not_bundled_and_the_error_says_how_to_get_it() -> None:
    with pytest.raises(UserError, match="rbench data fetch fashion-mnist") as error:
        load_split("fashion-mnist", "train")
    assert "FashionMNIST/raw" in str(error.value)
    assert "dataset-fashion-mnist" in str(error.value)


def test_root_comes_before_the_bundled_files_and_system_after(tmp_path: Path) -> None:
    x, y = pixels(0, 5, 28, 28), np.arange(5, dtype=np.uint8)
    write_pair(tmp_path / "system" / "fashion-mnist", "train", x, y, gz=True)
    write_pair(tmp_path / "mine" / "FashionMNIST" / "raw", "t10k", x[::-1], y)
    np.testing.assert_array_equal(load_split("fashion-mnist", "train").x[:, 0], x)
    mine = load_split("fashion-mnist", "test", tmp_path / "mine")
    np.testing.assert_array_equal(mine.x[:, 0], x[::-1])
    assert len(load_split("fashion-mnist", "test").y) == 10000


def test_root_is_argument_then_environment_then_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RBENCH_DATA", "~/env")
    assert data_root(Path("~/arg")) == tmp_path / "arg"
    assert data_root() == tmp_path / "env"
    monkeypatch.setenv("RBENCH_DATA", "")
    monkeypatch.setenv("RBENCH_CACHE", str(tmp_path / "kept"))
    assert data_root() == tmp_path / "kept" / "data"
    monkeypatch.delenv("RBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert data_root() == tmp_path / "xdg" / "rbench" / "data"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert data_root() == tmp_path / ".cache" / "rbench" / "data"


def test_environment_root_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = pixels(1, 3, 28, 28), np.array([7, 2, 1], np.uint8)
    write_pair(tmp_path / "MNIST" / "raw", "train", x, y)
    monkeypatch.setenv("RBENCH_DATA", str(tmp_path))
    images = load_split("mnist", "train")
    assert images.y.tolist() == [7, 2, 1]
    np.testing.assert_array_equal(images.x, x[:, None])


def test_plain_and_gzipped_files_give_the_same_slice(tmp_path: Path) -> None:
    x, y = pixels(2, 20, 28, 28), np.arange(20, dtype=np.uint8) % 10
    write_pair(tmp_path / "a" / "MNIST" / "raw", "t10k", x, y)
    write_pair(tmp_path / "b" / "MNIST" / "raw", "t10k", x, y, gz=True)
    spec = DataSpec(name="mnist", limit=7, seed=3)
    a, b = (take_slice(spec, tmp_path / root) for root in "ab")
    assert a.sha256 == b.sha256
    np.testing.assert_array_equal(a.x, b.x)


@pytest.mark.parametrize(
    ("x_shape", "n_labels", "message"),
    [((4, 28, 28), 3, "expected 4 labels"), ((4, 32, 32), 4, r"expected images of shape \(n, 28")],
)
def test_files_that_do_not_fit_are_refused(
    tmp_path: Path, x_shape: tuple[int, ...], n_labels: int, message: str
) -> None:
    write_pair(
        tmp_path / "MNIST" / "raw", "t10k", pixels(0, *x_shape), np.zeros(n_labels, np.uint8)
    )
    with pytest.raises(UserError, match=message):
        load_split("mnist", "test", tmp_path)


def test_missing_label_file_is_named(tmp_path: Path) -> None:
    write_pair(tmp_path / "mnist", "t10k", pixels(0, 2, 28, 28), np.zeros(2, np.uint8))
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(UserError, match="no t10k-labels-idx1-ubyte beside it"):
        load_split("mnist", "test", tmp_path)


def write_cifar(folder: Path, file: str, content: dict[Any, Any], protocol: int = 4) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_bytes(pickle.dumps(content, protocol))


def test_cifar10_train_joins_its_batches_in_order(tmp_path: Path) -> None:
    data = pixels(4, 10, 3072)
    for i in range(5):
        batch = {"data": data[2 * i : 2 * i + 2], "labels": [i, i + 5]}
        write_cifar(tmp_path / "cifar-10-batches-py", f"data_batch_{i + 1}", batch)
    images = load_split("cifar10", "train", tmp_path)
    assert images.y.tolist() == [0, 5, 1, 6, 2, 7, 3, 8, 4, 9]
    # The first 1024 bytes of a row are red, by rows (the data set's homepage).
    assert images.x[3, 0, 2, 5] == data[3, 2 * 32 + 5]
    assert images.x[3, 2, 31, 31] == data[3, 3071]


def test_cifar100_takes_the_fine_labels(tmp_path: Path) -> None:
    batch = {"data": pixels(5, 2, 3072), "fine_labels": [99, 3], "coarse_labels": [1, 2]}
    write_cifar(tmp_path / "cifar-100-python", "test", batch)
    assert load_split("cifar100", "test", tmp_path).y.tolist() == [99, 3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"labels": [1]}, "expected 'data' as uint8"),
        ({"data": pixels(0, 1, 3071), "labels": [1]}, "expected 'data' as uint8"),
        ({"data": np.zeros((1, 3072), np.int64), "labels": [1]}, "found int64"),
        ({"data": pixels(0, 1, 3072)}, "list of integers under 'labels'"),
        ({"data": pixels(0, 1, 3072), "labels": [1.0]}, "list of integers under 'labels'"),
        ({"data": pixels(0, 2, 3072), "labels": [1]}, "expected 2 labels"),
        ({"data": pixels(0, 1, 3072), "labels": [10]}, r"labels in 0\.\.9, found 10\.\.10"),
        ({"data": pixels(0, 1, 3072), "labels": [-1]}, r"found -1\.\.-1"),
    ],
)
def test_cifar_file_of_another_form_is_refused(
    tmp_path: Path, content: dict[str, Any], message: str
) -> None:
    write_cifar(tmp_path / "cifar-10-batches-py", "test_batch", content)
    with pytest.raises(UserError, match=message) as error:
        load_split("cifar10", "test", tmp_path)
    assert "test_batch" in str(error.value)


def test_incomplete_cifar_names_the_file_that_is_missing(tmp_path: Path) -> None:
    batch = {"data": pixels(0, 1, 3072), "labels": [0]}
    for i in (1, 2, 4, 5):
        write_cifar(tmp_path / "cifar-10-batches-py", f"data_batch_{i}", batch)
    with pytest.raises(UserError, match="data_batch_3: no such file"):
        load_split("cifar10", "train", tmp_path)


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar100"])
def test_missing_data_set_says_where_was_looked_and_what_to_do(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"rbench data fetch {name}") as error:
        load_split(name, "test", tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in str(error.value)


def test_unknown_names_and_splits_are_user_errors() -> None:
    with pytest.raises(UserError, match="did you mean 'cifar100'"):
        load_split("cifar-100", "test")
    with pytest.raises(UserError, match="no split 'val'; there is: test, train"):
        load_split("mnist", "val")


def test_unit_range_divides_in_single_precision_like_torch() -> None:
    torch = pytest.importorskip("torch")
    every_byte = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    expected = torch.from_numpy(every_byte).float().div(255).numpy()
    np.testing.assert_array_equal(to_unit_range(every_byte), expected)


@pytest.mark.process
def test_real_mnist(shared_dir: Path) -> None:
    root = shared_dir / "data"
    if not (root / "mnist").is_dir():
        pytest.skip("needs MNIST in the extra data folder")
    test, train = (load_split("mnist", split, root) for split in ("test", "train"))
    assert test.y[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert np.bincount(test.y).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert train.x.shape == (60000, 1, 28, 28)
    assert train.x.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
    assert train.x.std() / 255 == pytest.approx(0.3081, abs=5e-5)


def test_real_cifar10_images_from_npz(shared_dir: Path) -> None:
    path = shared_dir / "data" / "cifar10_test_lossless_first1017.npz"
    if not path.is_file():
        pytest.skip("needs the CIFAR-10 test images in the extra data folder")
    split = open_split(f"npz:{path}", "test")
    assert split.y[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    piece = take_slice(DataSpec(name=f"npz:{path}", limit=1000, seed=0))
    assert piece.x.shape == (1000, 3, 32, 32)
    mean = piece.x.mean(axis=(0, 2, 3))
    np.testing.assert_allclose(mean, [0.4914, 0.4822, 0.4465], atol=0.02)
