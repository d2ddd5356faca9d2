"""An archive that is fetched cannot write outside its folder, and nothing in it is run."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile_place import Place, Rbench

datasets = pytest.importorskip("torchvision.datasets")
utils = pytest.importorskip("torchvision.datasets.utils")

FOLDER = "cifar-10-batches-py"


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def member(name: str, content: bytes = b"evil", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, b"", type=kind, linkname=to)


def fetched(place: Place, patch: pytest.MonkeyPatch, members: list[Any], **pickled: bytes) -> Path:
    """Puts an archive where a download would, with the checksums that vouch for it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    root = place.root / "fetched"
    place.write("fetched/cifar-10-python.tar.gz", buffer.getvalue())
    patch.setattr(datasets.CIFAR10, "tgz_md5", md5(buffer.getvalue()))
    sums = {name: md5(content) for name, content in pickled.items()}
    for part in ("train_list", "test_list"):
        names = [name for name, _ in getattr(datasets.CIFAR10, part)]
        patch.setattr(datasets.CIFAR10, part, [[name, sums.get(name, "0")] for name in names])
    return root


def unfiltered(path: str, to: str, _: object) -> None:
    """What torchvision does where it leaves the choice to Python."""
    with tarfile.open(path) as archive:
        archive.extractall(to)


ESCAPES: dict[str, Callable[[Place], list[Any]]] = {
    "dots": lambda p: [member("../evil")],
    "many-dots": lambda p: [member(f"{FOLDER}/../../../../evil")],
    "absolute": lambda p: [member(f"{p.root}/evil")],
    "link-out": lambda p: [link("out", str(p.root)), member("out/evil")],
    "link-up": lambda p: [link(f"{FOLDER}/up", "../.."), member(f"{FOLDER}/up/evil")],
    "hard-link": lambda p: [link("evil", "../precious", tarfile.LNKTYPE), member("evil", b"lost")],
    "device": lambda p: [member("evil", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3)],
}


@pytest.mark.parametrize("extracts", ["torchvision", "unfiltered"])
@pytest.mark.parametrize("name", ESCAPES)
def test_no_member_leaves_the_folder(
    name: str, extracts: str, place: Place, rbench: Rbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    precious = place.write("precious", "do not lose this")
    root = fetched(place, monkeypatch, ESCAPES[name](place))
    if extracts == "unfiltered":
        monkeypatch.setitem(utils._ARCHIVE_EXTRACTORS, ".tar", unfiltered)
    code, _, err = rbench(["data", "fetch", "cifar10", "--data-root", str(root)])
    assert code == 2 and err.startswith("error: ") and "cifar10" in err
    assert precious.read_text() == "do not lose this"
    inside = str(root.resolve())
    for path in place.root.parent.rglob("evil"):
        assert str(path.resolve()).startswith(inside) and path.is_file()


@pytest.mark.parametrize("how", ["system", "eval"])
def test_what_was_fetched_is_not_unpickled(
    how: str, place: Place, rbench: Rbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = place.pickled(how)
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    members = [member(f"{FOLDER}/{name}", content) for name in names]
    root = fetched(place, monkeypatch, members, **dict.fromkeys(names, content))
    code, _, err = rbench(["data", "fetch", "cifar10", "--data-root", str(root)])
    assert code == 2 and "asks to call" in err
    assert not place.canary.exists()


def test_the_filter_is_gone_afterwards(
    place: Place, rbench: Rbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tarfile.TarFile.__dict__.get("extraction_filter")
    root = fetched(place, monkeypatch, [member("../evil")])
    assert rbench(["data", "fetch", "cifar10", "--data-root", str(root)])[0] == 2
    assert tarfile.TarFile.__dict__.get("extraction_filter") is before
