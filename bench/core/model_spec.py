"""Architecture, norm and input of a classifier, as data."""

from __future__ import annotations

import math

from pydantic import Field, field_validator, model_validator

from bench.core.errors import UserError
from bench.core.norm_spec import NormSpec
from bench.core.registry import only_plugin, plugins
from bench.core.spec import Spec

ARCHITECTURES = (
    "resnet20",
    "resnet38",
    "resnet50",
    "resnet18",
    "resnet50-bottleneck",
    "vgg11",
    "vgg16",
    "wrn32",
)
"""``resnet50`` is the 6n+2 network for CIFAR-10 of the RobustNorm paper; ``resnet50-bottleneck`` is
ImageNet's ResNet-50, which the RNA paper uses."""

MODEL_GROUP = "rbench.models"
"""Entry points by which other packages add architectures."""

MAX_SIZE = 10_000

Size = int | tuple[int, int]
"""Height and width of images in pixels: one number for square images."""


def as_size(height: int, width: int) -> Size:
    """Returns the size of images of this height and width."""
    return height if height == width else (height, width)


def height_width(size: Size) -> tuple[int, int]:
    """Returns the height and the width of images."""
    return (size, size) if isinstance(size, int) else size


def size_text(size: Size) -> str:
    """Returns for example ``"28 x 28"``, height first."""
    return "{} x {}".format(*height_width(size))


class ClassifierSpec(Spec):
    """What an evaluation must know of any classifier of images in [0, 1].

    The upper limits keep a stranger's card from exhausting memory.

    Attributes:
        arch: One of ``ARCHITECTURES``, a plugin's, or the name in another library.
        norm: The normalization of every layer that has one.
        channels: Input channels.
        size: Input height and width in pixels, as one number where they are equal.
        classes: Number of classes.
        mean: Per-channel mean that the model subtracts from images in [0, 1].
        std: Per-channel standard deviation that it divides by, > 0.
    """

    arch: str
    norm: NormSpec
    channels: int = Field(ge=1, le=1_000)
    size: Size
    classes: int = Field(ge=2, le=100_000)
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @field_validator("size")
    @classmethod
    def _sizes(cls, size: Size) -> Size:
        height, width = height_width(size)
        if not 1 <= min(height, width) <= max(height, width) <= MAX_SIZE:
            raise ValueError(
                f"expected height and width from 1 to {MAX_SIZE}, found {size_text(size)}"
            )
        return as_size(height, width)

    @model_validator(mode="after")
    def _one_per_channel(self) -> ClassifierSpec:
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise ValueError(f"mean and std need {self.channels} values, one per channel")
        if not all(map(math.isfinite, self.mean + self.std)) or min(self.std) <= 0:
            raise ValueError("mean and std must be finite, and every std greater than 0")
        return self


class ModelSpec(ClassifierSpec):
    """A classifier that this project can build.

    Attributes:
        shortcut: ``pad`` (He et al.'s option A) or ``conv``, for the 6n+2 ResNets.
    """

    shortcut: str = "pad"

    @model_validator(mode="after")
    def _consistent(self) -> ModelSpec:
        if min(height_width(self.size)) < 8:
            raise ValueError(f"expected a size of at least 8, found {size_text(self.size)}")
        try:
            plugin = only_plugin("arch", MODEL_GROUP, self.arch, own=self.arch in ARCHITECTURES)
        except UserError as error:
            raise ValueError(str(error)) from None
        if self.arch not in ARCHITECTURES and plugin is None:
            known = ", ".join((*ARCHITECTURES, *plugins(MODEL_GROUP)))
            raise ValueError(f"unknown arch '{self.arch}'; known: {known}")
        if self.shortcut not in ("pad", "conv"):
            raise ValueError(f"shortcut must be pad or conv, found '{self.shortcut}'")
        if self.norm.name == "foreign" or self.norm.declares:
            raise ValueError("norm 'foreign' and declares are for networks of other libraries")
        return self
