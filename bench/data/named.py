"""The data sets that rbench knows by name; importing this never imports torch."""

from __future__ import annotations

from pathlib import Path

from bench.core.errors import UserError, did_you_mean
from bench.core.registry import Plugin, Registry
from bench.data import named as class_names
from bench.data.cifar import load_cifar10, load_cifar100
from bench.data.folder import IMAGENET_CLASSES, load_imagenet
from bench.data.images import Dataset
from bench.data.mnist import load_fashion_mnist, load_mnist
from bench.data.path_forms import PATH_FORMS, is_path_form, path_dataset
from bench.data.roots import data_root

MNIST = tuple("0123456789")

FASHION_MNIST = (
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
CIFAR10 = tuple(_CIFAR10.split())

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
CIFAR100 = tuple(_CIFAR100.split())


def _adopt(plugin: Plugin, found: object) -> Dataset:
    """Returns a plugin's data set."""
    if not isinstance(found, Dataset):
        raise ValueError(f"expected a bench.data.Dataset, found {type(found).__name__}")
    if found.name != plugin.name:
        raise ValueError(f"its Dataset is named '{found.name}', expected '{plugin.name}'")
    return found


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
        class_names=class_names.MNIST,
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
        class_names=class_names.FASHION_MNIST,
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
        class_names=class_names.CIFAR10,
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
        class_names=class_names.CIFAR100,
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


def get_dataset(name: str, root: Path | None = None) -> Dataset:
    """Returns a data set by its name or path form (``npz:PATH``, ``folder:PATH``).

    A named data set's files are not touched; a path form's are opened.

    Args:
        name: A name in ``DATASETS`` or a path form.
        root: Data root, where a path form's relative path is looked for last.

    Raises:
        UserError: For an unknown name, with the nearest known one, or a path form that does not
            hold what it promises.
    """
    if is_path_form(name):
        return path_dataset(name, data_root(root))
    if name in DATASETS:
        return DATASETS.get(name)
    hint = did_you_mean(name, DATASETS)
    raise UserError(f"unknown data set '{name}'{hint} (own data: {' or '.join(PATH_FORMS)})")
