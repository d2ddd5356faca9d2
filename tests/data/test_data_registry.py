"""The registry's metadata and the package's manners."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from bench.core.errors import UserError
from bench.data.inputs import scales_in_use
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
    others = {"fmnist": "fashion-mnist", "FMNIST": "fashion-mnist", "C-10": "cifar10"}
    for name, meant in others.items():
        with pytest.raises(UserError, match=f"did you mean '{meant}'"):
            get_dataset(name)


@pytest.mark.parametrize("name", DATASETS)
def test_the_input_scales_in_use_begin_with_the_data_sets_own_and_fit_it(name: str) -> None:
    dataset = get_dataset(name)
    scales = scales_in_use(dataset, dataset.channels)
    pairs = [(scale.mean, scale.std) for scale in scales]
    assert (dataset.mean, dataset.std) in pairs and len(set(pairs)) == len(pairs) > 1
    for scale in scales:
        assert len(scale.mean) == len(scale.std) == dataset.channels and scale.known_from
    channels = 4 - dataset.channels
    assert {len(one.mean) for one in scales_in_use(dataset, channels)} == {channels}
    half = (0.5,) * dataset.channels
    assert {one.std for one in scales_in_use(dataset, dataset.channels, std=half)} == {half}


def test_fashion_mnists_own_scale_is_that_of_its_pixels() -> None:
    """On the test images, which come with rbench, it is within 0.002 of the training images'."""
    x = get_dataset("fashion-mnist").loader("test", Path()).take(np.arange(10_000)).x / 255
    own = scales_in_use(get_dataset("fashion-mnist"), 1)[0]
    assert own.mean[0] == pytest.approx(x.mean(), abs=2e-3)
    assert own.std[0] == pytest.approx(x.std(), abs=2e-3)


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
