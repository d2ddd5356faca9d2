"""The means and standard deviations by which people normalize images of each data set.

A file of weights rarely holds them, and several are in use for most data sets; the wrong ones cost
a network some or all of its accuracy, without an error.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.data.images import Dataset

Values = tuple[float, ...]


@dataclass(frozen=True)
class InputScale:
    """What a network subtracts from images in [0, 1], and divides by.

    Attributes:
        mean: One per channel.
        std: One per channel.
        known_from: Who uses it, in a few words.
    """

    mean: Values
    std: Values
    known_from: str

    def __str__(self) -> str:
        """Returns ``mean 0.286, std 0.353``."""
        return f"mean {_numbers(self.mean)}, std {_numbers(self.std)}"


def _numbers(values: Values) -> str:
    return "/".join(f"{value:g}" for value in values)


_CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
_IMAGENET = InputScale((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "ImageNet's, torchvision")

IN_USE: dict[str, tuple[InputScale, ...]] = {
    "mnist": (InputScale((0.1307,), (0.3081,), "MNIST's, PyTorch's example"),),
    "fashion-mnist": (
        InputScale((0.2860,), (0.3530,), "Fashion-MNIST's own"),
        InputScale((0.1307,), (0.3081,), "MNIST's, as in the RobustNorm paper"),
    ),
    "cifar10": (
        InputScale(_CIFAR10_MEAN, (0.2023, 0.1994, 0.2010), "kuangliu/pytorch-cifar"),
        InputScale(_CIFAR10_MEAN, (0.2470, 0.2435, 0.2616), "CIFAR-10's own"),
        InputScale(_IMAGENET.mean, _IMAGENET.std, "ImageNet's, akamaster/pytorch_resnet_cifar10"),
    ),
    "cifar100": (
        InputScale((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761), "CIFAR-100's own"),
        InputScale(_CIFAR10_MEAN, (0.2023, 0.1994, 0.2010), "CIFAR-10's, kuangliu/pytorch-cifar"),
        _IMAGENET,
    ),
    "imagenet": (_IMAGENET,),
}
"""Beside ``_plain``, which are in use for every data set."""


def _plain(channels: int) -> tuple[InputScale, ...]:
    """Returns the scales that do not depend on the data."""
    return (
        InputScale((0.0,) * channels, (1.0,) * channels, "none: images in [0, 1]"),
        InputScale((0.5,) * channels, (0.5,) * channels, "images in [-1, 1]"),
    )


def scales_in_use(
    dataset: Dataset, channels: int, mean: Values | None = None, std: Values | None = None
) -> tuple[InputScale, ...]:
    """Returns the scales in use for a data set, each once, the more usual first.

    Args:
        dataset: The data set.
        channels: Of the network; scales of another number of channels are left out.
        mean: The mean, where it is known; the standard deviations are then those in use.
        std: The standard deviation, where it is known, likewise.
    """
    own = InputScale(dataset.mean, dataset.std, f"usual for {dataset.name}")
    known = IN_USE.get(dataset.name, (own,) if any(dataset.mean) else (_IMAGENET,))
    found: dict[tuple[Values, Values], InputScale] = {}
    for scale in (*known, *_plain(channels)):
        if len(scale.mean) == channels:
            pair = (scale.mean if mean is None else mean, scale.std if std is None else std)
            found.setdefault(pair, InputScale(*pair, scale.known_from))
    return tuple(found.values())
