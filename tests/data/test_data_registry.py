"""The registry's metadata and the package's manners."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files

import pytest

from bench.core.errors import UserError
from bench.data.named import DATASETS, get_dataset


def test_names_and_metadata_agree() -> None:
    assert list(DATASETS) == ["cifar10", "cifar100", "fashion-mnist", "imagenet", "mnist"]
    for name in DATASETS:
        dataset = DATASETS.get(name)
        assert dataset.name == name
        assert len(dataset.mean) == len(dataset.std) == dataset.channels
        assert len(set(dataset.class_names)) in (0, dataset.classes)


def test_class_names_are_torchvisions() -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    assert list(get_dataset("fashion-mnist").class_names) == datasets.FashionMNIST.classes
    # CIFAR's labels are the positions in its sorted names (batches.meta).
    for name in ("cifar10", "cifar100"):
        names = get_dataset(name).class_names
        assert list(names) == sorted(names)


def test_unknown_name_gets_the_nearest_and_the_path_forms() -> None:
    with pytest.raises(UserError, match=r"did you mean 'fashion-mnist'.*npz:PATH") as error:
        get_dataset("fashion_mnist")
    assert "folder:PATH" in str(error.value)


@pytest.mark.process
def test_importing_and_listing_never_imports_torch() -> None:
    code = (
        "import sys; from bench.data.named import DATASETS; [DATASETS.get(n) for n in DATASETS]; "
        "sys.exit('torch' in sys.modules or 'torchvision' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_bundled_files_carry_their_licence() -> None:
    folder = files("bench.data").joinpath("bundled", "fashion-mnist")
    licence = folder.joinpath("LICENSE").read_text(encoding="utf-8")
    assert "Zalando SE" in licence and "MIT" in licence
