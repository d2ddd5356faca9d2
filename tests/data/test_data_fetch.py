"""Downloads, against a stand-in for the servers."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import struct
import sys
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from bench.core.errors import UserError
from bench.data.fetch import fetch
from bench.data.slice import load_split

datasets = pytest.importorskip("torchvision.datasets")


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder without a log."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A folder and the address at which a web server on this machine shows it."""
    folder = tmp_path / "server"
    folder.mkdir()
    monkeypatch.setenv("no_proxy", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield folder, f"http://127.0.0.1:{http.server_port}/"
        http.shutdown()
        thread.join()


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture
def mnist_server(server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a mirror of MNIST, with three images a split."""
    folder, address = server
    resources = []
    for stem in ("train", "t10k"):
        x = struct.pack(">HBB3I", 0, 8, 3, 3, 28, 28) + bytes(i % 256 for i in range(3 * 784))
        y = struct.pack(">HBBI", 0, 8, 1, 3) + bytes([4, 0, 9])
        for name, raw in ((f"{stem}-images-idx3-ubyte", x), (f"{stem}-labels-idx1-ubyte", y)):
            content = gzip.compress(raw)
            (folder / f"{name}.gz").write_bytes(content)
            resources.append((f"{name}.gz", md5(content)))
    monkeypatch.setattr(datasets.MNIST, "mirrors", [address])
    monkeypatch.setattr(datasets.MNIST, "resources", resources)
    return folder


def test_fetched_mnist_is_loaded_as_torchvision_reads_it(
    tmp_path: Path, mnist_server: Path
) -> None:
    root = tmp_path / "deep" / "root"
    assert fetch("mnist", root) == root
    for split in ("train", "test"):
        reference = datasets.MNIST(root, train=split == "train")
        images = load_split("mnist", split, root)
        np.testing.assert_array_equal(images.x[:, 0], reference.data.numpy())
        np.testing.assert_array_equal(images.y, reference.targets.numpy())


def test_fetch_goes_to_the_environments_root(
    tmp_path: Path, mnist_server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RBENCH_DATA", str(tmp_path / "env"))
    fetch("mnist")
    assert load_split("mnist", "test").y.tolist() == [4, 0, 9]


def test_fetched_cifar10_is_loaded_as_torchvision_reads_it(
    tmp_path: Path, server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    sums: dict[str, str] = {}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for file in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch", "batches.meta"]:
            batch = {
                "data": rng.integers(0, 256, (2, 3072), np.uint8),
                "labels": rng.integers(0, 10, 2).tolist(),
                "label_names": list("abcdefghij"),
            }
            content = pickle.dumps(batch)
            sums[file] = md5(content)
            info = tarfile.TarInfo(f"cifar-10-batches-py/{file}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    (server[0] / "cifar.tar.gz").write_bytes(buffer.getvalue())
    cls = datasets.CIFAR10
    monkeypatch.setattr(cls, "url", server[1] + "cifar.tar.gz")
    monkeypatch.setattr(cls, "tgz_md5", md5(buffer.getvalue()))
    monkeypatch.setattr(
        cls, "train_list", [[f"data_batch_{i}", sums[f"data_batch_{i}"]] for i in range(1, 6)]
    )
    monkeypatch.setattr(cls, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(cls, "meta", {**cls.meta, "md5": sums["batches.meta"]})
    fetch("cifar10", tmp_path / "root")
    for split in ("train", "test"):
        reference = cls(tmp_path / "root", train=split == "train")
        images = load_split("cifar10", split, tmp_path / "root")
        np.testing.assert_array_equal(images.x.transpose(0, 2, 3, 1), reference.data)
        assert images.y.tolist() == reference.targets


def test_unreachable_server_is_a_user_error(tmp_path: Path, mnist_server: Path) -> None:
    (mnist_server / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UserError, match=r"mnist: could not be downloaded.*t10k-labels"):
        fetch("mnist", tmp_path / "root")


def test_refused_connection_is_a_user_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(datasets.CIFAR100, "url", "http://127.0.0.1:9/cifar.tar.gz")
    with pytest.raises(UserError, match=r"cifar100: could not be downloaded.*check the network"):
        fetch("cifar100", tmp_path)


def test_altered_download_is_refused(tmp_path: Path, mnist_server: Path) -> None:
    (mnist_server / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"other"))
    with pytest.raises(UserError, match=r"could not be downloaded.*corrupted"):
        fetch("mnist", tmp_path / "root")


def test_root_that_cannot_be_written_is_a_user_error(tmp_path: Path, mnist_server: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="could not be downloaded into"):
        fetch("mnist", tmp_path / "file" / "root")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("imagenet", "cannot be downloaded freely.*ROOT/val/<wnid>"),
        ("npz:a.npz", "nothing to fetch"),
        ("cifar", "did you mean 'cifar10'"),
    ],
)
def test_what_cannot_be_fetched_says_so(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fetch(name, tmp_path)


def test_missing_torchvision_is_a_user_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    with pytest.raises(UserError, match="downloads need torchvision"):
        fetch("mnist", tmp_path)
