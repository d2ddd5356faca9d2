"""What a checkpoint's network is, as data."""

from __future__ import annotations

import math

from pydantic import Field, model_validator

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
"""``resnet50`` is the RobustNorm paper's 6n+2 network for CIFAR-10; ImageNet's ResNet-50, the RNA
paper's, is ``resnet50-bottleneck``."""

MODEL_GROUP = "rbench.models"
"""Entry points by which other packages add architectures."""


class ClassifierSpec(Spec):
    """What an evaluation must know of a classifier of images in [0, 1], whoever made it.

    Attributes:
        arch: One of ``ARCHITECTURES``, or a plugin's; of other networks their library's name.
        norm: The normalization of every layer that has one.
        channels: Input channels.
        size: Input height and width in pixels, such as 28, 32 or 224.
        classes: Number of classes, 2 to 100,000: the upper limits keep a card from asking for all
            memory.
        mean: Per-channel mean that the model subtracts from images in [0, 1].
        std: Per-channel standard deviation that it divides by, > 0.
    """

    arch: str
    norm: NormSpec
    channels: int = Field(ge=1, le=1_000)
    size: int = Field(ge=8, le=10_000)
    classes: int = Field(ge=2, le=100_000)
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @model_validator(mode="after")
    def _one_per_channel(self) -> ClassifierSpec:
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise ValueError(f"mean and std need {self.channels} values, one per channel")
        if not all(map(math.isfinite, self.mean + self.std)) or min(self.std) <= 0:
            raise ValueError("mean and std must be finite, and every std greater than 0")
        return self


class ModelSpec(ClassifierSpec):
    """Architecture, norm and input of a classifier that this project can build.

    Attributes:
        arch: One of ``ARCHITECTURES``.
        shortcut: ``pad`` (He et al.'s option A) or ``conv``, for the 6n+2 ResNets.
    """

    shortcut: str = "pad"

    @model_validator(mode="after")
    def _consistent(self) -> ModelSpec:
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
            raise ValueError("norm 'foreign' and declares are of networks from other libraries")
        return self
