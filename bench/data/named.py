"""The data sets that rbench knows by name, and their files: IDX for MNIST, batches for CIFAR.

Files lie in torchvision's layout. Importing this never imports torch.
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Sequence
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import UserError, did_you_mean
from bench.core.registry import Plugin, Registry
from bench.data.folder import IMAGENET_CLASSES, load_imagenet
from bench.data.images import Dataset, Images
from bench.data.path_forms import PATH_FORMS, is_path_form, path_dataset
from bench.data.roots import SYSTEM_FOLDER, bundled, data_root, fetch_remedy, missing
from bench.untrusted.pickles import read_array_pickle

_GZIP_MAGIC = b"\x1f\x8b"
_MAX_DIMENSIONS = 8
MAX_BYTES = 2**28
"""Of an unpacked IDX file; MNIST's largest has 2**26."""
_MNIST_STEMS = {"test": "t10k", "train": "train"}
_MNIST_SIZE = 28
_CIFAR_SHAPE = (3, 32, 32)
_TOO_LARGE = 2**31
"""Stands for larger labels, which may not fit an array."""

_DIGITS = tuple("0123456789")

_CLOTHES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"

_CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab
crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo
keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse
mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy
porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper
snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television
tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""


def get_dataset(name: str, root: Path | None = None) -> Dataset:
    """Returns a data set by its name or path form (``npz:PATH``, ``folder:PATH``).

    The files of a named data set are not touched; those of a path form are opened.

    Args:
        name: A name in ``DATASETS`` or a path form.
        root: Data root, where a path form's relative path is looked for last.

    Raises:
        UserError: For an unknown name, with the closest known one; or a path form whose files are
            missing or of another format.
    """
    if is_path_form(name):
        return path_dataset(name, data_root(root))
    if name in DATASETS:
        return DATASETS.get(name)
    meant = _ALSO_CALLED.get(re.sub(r"[^a-z0-9]", "", name.lower()))
    hint = f"; did you mean '{meant}'?" if meant else did_you_mean(name, DATASETS)
    own = " or ".join(f"{form}:PATH" for form in PATH_FORMS)
    raise UserError(f"unknown data set '{name}'{hint} (own data: {own})")


def load_mnist(split: str, root: Path) -> Images:
    """Loads MNIST from ``ROOT/MNIST/raw`` or ``ROOT/mnist``, plain or gzipped.

    Raises:
        UserError: When the files are missing, damaged or do not belong together.
    """
    folders = [root / "MNIST" / "raw", root / "mnist"]
    return _load_mnist(split, folders, "mnist", fetch_remedy("mnist", "MNIST/raw"))


def load_fashion_mnist(split: str, root: Path) -> Images:
    """Loads Fashion-MNIST from the root, the package (test split only), or Debian's folder.

    In the root it is looked for in ``FashionMNIST/raw`` and ``fashion-mnist``.

    Raises:
        UserError: When the files are missing, damaged or do not belong together.
    """
    name = "fashion-mnist"
    folders = [
        root / "FashionMNIST" / "raw",
        root / name,
        bundled(name),
        SYSTEM_FOLDER / name,
    ]
    remedy = fetch_remedy(name, "FashionMNIST/raw")
    return _load_mnist(split, folders, name, f"{remedy}, or install Debian's dataset-fashion-mnist")


def _load_mnist(split: str, folders: Sequence[Traversable], name: str, remedy: str) -> Images:
    stem = _MNIST_STEMS[split]
    for folder in folders:
        images = _plain_or_gzipped(folder, f"{stem}-images-idx3-ubyte")
        if images is None:
            continue
        labels = _plain_or_gzipped(folder, f"{stem}-labels-idx1-ubyte")
        if labels is None:
            raise UserError(
                f"{images}: there is no {stem}-labels-idx1-ubyte beside it, plain or .gz; {remedy}"
            )
        return _read_pair(images, labels)
    raise missing(name, split, folders, remedy)


def _plain_or_gzipped(folder: Traversable, name: str) -> Traversable | None:
    for candidate in (folder.joinpath(name), folder.joinpath(f"{name}.gz")):
        if candidate.is_file():
            return candidate
    return None


def _read_pair(images: Traversable, labels: Traversable) -> Images:
    x, y = read_idx(images), read_idx(labels)
    if x.ndim != 3 or x.shape[1:] != (_MNIST_SIZE, _MNIST_SIZE):
        raise UserError(f"{images}: expected images of shape (n, 28, 28), found {x.shape}")
    if y.shape != x.shape[:1]:
        raise UserError(f"{labels}: expected {len(x)} labels, found an array of shape {y.shape}")
    return Images(x[:, None], y.astype(np.int64))


def read_idx(path: Traversable) -> NDArray[np.uint8]:
    """Reads an IDX file of unsigned bytes into an array of its own shape.

    Gzip is recognized by the first bytes, not by the name.

    Raises:
        UserError: When the file is missing, truncated, or not an IDX file of unsigned bytes.
    """
    try:
        raw = _unpacked(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected an IDX file") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}: damaged gzip file ({error}); fetch it again") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if len(raw) > MAX_BYTES:
        raise UserError(f"{path}: expected an IDX file of at most {MAX_BYTES} bytes, found more")
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":
        found = f"starts with {raw[:4].hex()}" if raw else "is empty"
        raise UserError(f"{path}: expected an IDX file of unsigned bytes, found one that {found}")
    if raw[3] > _MAX_DIMENSIONS:
        raise UserError(
            f"{path}: expected at most {_MAX_DIMENSIONS} dimensions in an IDX file, found {raw[3]}"
        )
    start = 4 + 4 * raw[3]
    if len(raw) < start:
        raise UserError(f"{path}: truncated IDX file (its header is cut off); fetch it again")
    shape = tuple(np.frombuffer(raw, ">u4", raw[3], 4).tolist())
    expected, found_bytes = math.prod(shape), len(raw) - start
    if found_bytes != expected:
        raise UserError(
            f"{path}: truncated or damaged IDX file: expected {expected} bytes of data, "
            f"found {found_bytes}; fetch it again"
        )
    try:
        return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)
    except ValueError:  # empty, with dimensions that are too large together
        raise UserError(f"{path}: damaged IDX file: its shape is {shape}") from None


def _unpacked(path: Traversable) -> bytes:
    """Returns the unpacked bytes, at most one more than allowed."""
    with path.open("rb") as handle:
        packed = handle.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        handle.seek(0)
        if not packed:
            return handle.read(MAX_BYTES + 1)
        with gzip.GzipFile(fileobj=handle) as unpacked:
            return unpacked.read(MAX_BYTES + 1)


def load_cifar10(split: str, root: Path) -> Images:
    """Loads CIFAR-10 from ``ROOT/cifar-10-batches-py``, batch by batch.

    Raises:
        UserError: When a file is missing, damaged, or not a CIFAR batch.
    """
    files = {"test": ["test_batch"], "train": [f"data_batch_{i}" for i in range(1, 6)]}
    return _load_cifar("cifar10", split, root / "cifar-10-batches-py", files[split], "labels", 10)


def load_cifar100(split: str, root: Path) -> Images:
    """Loads CIFAR-100 with its 100 fine labels from ``ROOT/cifar-100-python``.

    Raises:
        UserError: When a file is missing, damaged, or not a CIFAR batch.
    """
    return _load_cifar("cifar100", split, root / "cifar-100-python", [split], "fine_labels", 100)


def _load_cifar(
    name: str, split: str, folder: Path, files: list[str], label_key: str, classes: int
) -> Images:
    if not any((folder / file).is_file() for file in files):
        raise missing(name, split, [folder], fetch_remedy(name, folder.name))
    batches = [_read_cifar_batch(folder / file, label_key, classes) for file in files]
    return Images(np.concatenate([b.x for b in batches]), np.concatenate([b.y for b in batches]))


def _read_cifar_batch(path: Path, label_key: str, classes: int) -> Images:
    batch = read_array_pickle(path)
    x, labels = batch.get("data"), batch.get(label_key)
    n_pixels = int(np.prod(_CIFAR_SHAPE))
    if not isinstance(x, np.ndarray) or x.dtype != np.uint8 or x.shape[1:] != (n_pixels,):
        found = f"{x.dtype} {x.shape}" if isinstance(x, np.ndarray) else type(x).__name__
        raise UserError(f"{path}: expected 'data' as uint8 (n, {n_pixels}), found {found}")
    y = _cifar_labels(path, labels, label_key)
    if y.shape != (len(x),):
        raise UserError(f"{path}: expected {len(x)} labels in '{label_key}', found {y.shape}")
    if len(y) and not 0 <= y.min() <= y.max() < classes:
        raise UserError(f"{path}: expected labels in 0..{classes - 1}, found {y.min()}..{y.max()}")
    return Images(x.reshape(-1, *_CIFAR_SHAPE), y)


def _cifar_labels(path: Path, labels: object, label_key: str) -> NDArray[np.int64]:
    if isinstance(labels, list) and all(type(label) is int for label in labels):
        return np.array([min(max(label, -1), _TOO_LARGE) for label in labels], np.int64)
    if isinstance(labels, np.ndarray):
        return labels.astype(np.int64)
    raise UserError(f"{path}: expected a list of integers under '{label_key}'")


def _adopt(plugin: Plugin, found: object) -> Dataset:
    if not isinstance(found, Dataset):
        raise ValueError(f"expected a bench.data.Dataset, found {type(found).__name__}")
    if found.name != plugin.name:
        raise ValueError(f"its Dataset is named '{found.name}', expected '{plugin.name}'")
    return found


_ALSO_CALLED = {
    "fmnist": "fashion-mnist",
    "fashion": "fashion-mnist",
    "fashionmnist": "fashion-mnist",
    "c10": "cifar10",
    "cifar": "cifar10",
    "c100": "cifar100",
    "ilsvrc2012": "imagenet",
    "imagenet1k": "imagenet",
    "in1k": "imagenet",
}
"""What else people call the data sets, in small letters and digits."""

DATASETS: Registry[Dataset] = Registry("data set", "rbench.datasets", _adopt)

_BOTH = ("test", "train")
_MNIST_MEAN, _MNIST_STD = (0.1307,), (0.3081,)
"""The RobustNorm paper normalizes Fashion-MNIST with MNIST's values, so both carry them."""
_CIFAR_MEAN, _CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

for _dataset in (
    Dataset(
        name="mnist",
        classes=10,
        channels=1,
        size=28,
        mean=_MNIST_MEAN,
        std=_MNIST_STD,
        class_names=_DIGITS,
        splits=_BOTH,
        licence="CC BY-SA 3.0",
        homepage="http://yann.lecun.com/exdb/mnist/",
        loader=load_mnist,
    ),
    Dataset(
        name="fashion-mnist",
        classes=10,
        channels=1,
        size=28,
        mean=_MNIST_MEAN,
        std=_MNIST_STD,
        class_names=_CLOTHES,
        splits=_BOTH,
        licence="MIT, Zalando SE; the test split comes with rbench",
        homepage="https://github.com/zalandoresearch/fashion-mnist",
        loader=load_fashion_mnist,
    ),
    Dataset(
        name="cifar10",
        classes=10,
        channels=3,
        size=32,
        mean=_CIFAR_MEAN,
        std=_CIFAR_STD,
        class_names=tuple(_CIFAR10.split()),
        splits=_BOTH,
        licence="none stated",
        homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
        loader=load_cifar10,
    ),
    Dataset(
        name="cifar100",
        classes=100,
        channels=3,
        size=32,
        mean=_CIFAR_MEAN,
        std=_CIFAR_STD,
        class_names=tuple(_CIFAR100.split()),
        splits=_BOTH,
        licence="none stated",
        homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
        loader=load_cifar100,
    ),
    Dataset(
        name="imagenet",
        classes=IMAGENET_CLASSES,
        channels=3,
        size=224,
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        class_names=(),
        splits=_BOTH,
        licence="non-commercial research, on registration",
        homepage="https://www.image-net.org",
        loader=load_imagenet,
    ),
):
    DATASETS.add(_dataset.name, _dataset)
