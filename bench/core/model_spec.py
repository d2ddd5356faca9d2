"""Architecture, norm and input of a classifier, as data."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from pydantic import Field, field_validator, model_validator

from bench.core.errors import UserError, closest
from bench.core.norm_spec import NormSpec
from bench.core.registry import only_plugin, plugins
from bench.core.spec import Spec

ARCHITECTURES: Mapping[str, str] = {
    "resnet20": "CIFAR's ResNet of 20 layers (He et al. 2016, section 4.2); 0.3 M parameters",
    "resnet38": "CIFAR's ResNet of 38 layers, which the RobustNorm paper uses; 0.6 M",
    "resnet50": "CIFAR's ResNet of 50 layers, which the RobustNorm paper uses; 0.8 M",
    "resnet18": "ImageNet's ResNet-18, with a 3x3 stem for small images; 11.2 M",
    "resnet34": "ImageNet's ResNet-34, with a 3x3 stem for small images",
    "resnet50-bottleneck": "ImageNet's ResNet-50, which the RNA paper uses; 23.5 M",
    "preact-resnet18": "ResNet-18 with norms before convolutions, as in Rice et al. 2020",
    "preact-resnet18-kuangliu": "the same without the last norm and ReLU, as in pytorch-cifar",
    "preact-resnet18-wong": "the same with shortcuts from a block's input, as in Wong et al. 2020",
    "vgg11": "VGG, configuration A (Simonyan & Zisserman 2015), one linear layer; 9.2 M",
    "vgg16": "VGG, configuration D, one linear layer; 14.7 M",
    "wrn32": "WideResNet-34-10 (Zagoruyko & Komodakis 2016), the RNA paper's 32; 46.2 M",
}
"""What each architecture is, by name; parameters are those with BatchNorm, for ten classes.
``FAMILIES`` are named by a rule.

``resnet50`` is the 6n+2 network for CIFAR-10 of the RobustNorm paper; ``resnet50-bottleneck`` is
ImageNet's ResNet-50, which the RNA paper uses. ``preact-resnet18`` is He et al.'s, with a norm and
ReLU before the classifier (Rice et al. 2020); kuangliu/pytorch-cifar's has neither; Wong et al.'s
(2020) moreover takes a shortcut's convolution from the block's input rather than its activation.
"""

FAMILY_SUMMARIES = {
    "resnet<6n+2>": "CIFAR's ResNets of 6n + 2 layers (He et al. 2016, section 4.2)",
    "wrn-<6n+4>-<k>": "WideResNets of 6n + 4 layers, k times as wide",
}
"""What each of ``FAMILIES`` is."""

FAMILIES = {"resnet<6n+2>": "resnet56", "wrn-<6n+4>-<k>": "wrn-28-10"}
"""Architectures by rule, each with an example: CIFAR's ResNets of 6n+2 layers (He et al. 2016,
section 4.2), and WideResNets of 6n+4 layers that are k times as wide (Zagoruyko & Komodakis 2016).
"""

ARCH_TWINS = {
    "preact-resnet18-kuangliu": "preact-resnet18-wong",
    "preact-resnet18-wong": "preact-resnet18-kuangliu",
}
"""Networks whose weights have the same names and shapes, though they compute different things."""

_MAX_DEPTH, _MAX_WRN_DEPTH, _MAX_WIDEN = 1202, 106, 20
_RESNET = re.compile(r"resnet(\d{1,4})")
_WRN = re.compile(r"(?:wrn|wide-?resnet)(\d{1,3})x?(\d{1,2})")
_WORDS = re.compile(r"[-_ ]+")


def canonical_arch(name: str) -> str:
    """Returns rbench's spelling of an architecture: ``ResNet-56`` is ``resnet56``.

    Case, and what joins letters and digits, do not matter; other names stay as they are.
    """
    found = _WORDS.sub("-", name.strip().lower())
    known = {one.replace("-", ""): one for one in ARCHITECTURES}
    plain = found.replace("-", "")
    if plain in known:
        return known[plain]
    if _RESNET.fullmatch(plain):
        return plain
    # Joined digits are ambiguous, so two numbers must be told apart.
    wide = _WRN.fullmatch(re.sub(r"(?<=\d)-(?=\d)", "x", found).replace("-", ""))
    if wide and re.search(r"\d[-x]\d", found):
        return f"wrn-{int(wide[1])}-{int(wide[2])}"
    return name


def residual_depth(arch: str) -> int | None:
    """Returns n, blocks a stage, of a CIFAR ResNet of 6n+2 layers; ``None`` for any other name."""
    match = _RESNET.fullmatch(arch)
    depth = int(match[1]) if match else 0
    return (depth - 2) // 6 if 8 <= depth <= _MAX_DEPTH and depth % 6 == 2 else None


def wide_shape(arch: str) -> tuple[int, int] | None:
    """Returns n, blocks a stage, and k of a WideResNet ``wrn-D-K``; ``None`` for any other name."""
    match = re.fullmatch(r"wrn-([1-9]\d{0,2})-([1-9]\d?)", arch)
    depth, widen = (int(match[1]), int(match[2])) if match else (0, 0)
    fits = 10 <= depth <= _MAX_WRN_DEPTH and depth % 6 == 4 and widen <= _MAX_WIDEN
    return ((depth - 4) // 6, widen) if fits else None


def _unknown_arch(name: str) -> str:
    """Returns the message for a name that no architecture has."""
    if _RESNET.fullmatch(name):
        return (
            f"unknown arch '{name}': CIFAR's ResNets have 6n + 2 layers, 8 to {_MAX_DEPTH} "
            "(resnet20, resnet32, resnet44, resnet56, resnet110); ImageNet's are resnet18, "
            "resnet34 and resnet50-bottleneck"
        )
    if name.startswith("wrn-"):
        return (
            f"unknown arch '{name}': expected wrn-D-K with D = 6n + 4 layers, 10 to "
            f"{_MAX_WRN_DEPTH}, and K, 1 to {_MAX_WIDEN} times the width (wrn-28-10, wrn-34-10)"
        )
    known = (*ARCHITECTURES, *plugins(MODEL_GROUP))
    near = closest(name, known)
    hint = f"; did you mean '{near}'?" if near else ""
    return f"unknown arch '{name}'{hint}; known: {', '.join((*known, *FAMILIES))}"


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
        arch: One of ``ARCHITECTURES`` or ``FAMILIES``, a plugin's, or the name in another library.
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

    @field_validator("size", mode="before")
    @classmethod
    def _one_or_two(cls, size: object) -> object:
        sides = size if isinstance(size, list | tuple) and len(size) == 2 else (size,)
        if not all(isinstance(side, int) and not isinstance(side, bool) for side in sides):
            raise ValueError(f"expected a whole number, or height and width, found {size!r}")
        return tuple(sides) if len(sides) == 2 else size

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

    @field_validator("arch")
    @classmethod
    def _spelling(cls, arch: str) -> str:
        return arch if arch in plugins(MODEL_GROUP) else canonical_arch(arch)

    @model_validator(mode="after")
    def _consistent(self) -> ModelSpec:
        if min(height_width(self.size)) < 8:
            raise ValueError(f"expected a size of at least 8, found {size_text(self.size)}")
        by_rule = residual_depth(self.arch) is not None or wide_shape(self.arch) is not None
        own = by_rule or self.arch in ARCHITECTURES
        try:
            plugin = only_plugin("arch", MODEL_GROUP, self.arch, own=own)
        except UserError as error:
            raise ValueError(str(error)) from None
        if not own and plugin is None:
            raise ValueError(_unknown_arch(self.arch))
        if self.shortcut not in ("pad", "conv"):
            raise ValueError(f"shortcut must be pad or conv, found '{self.shortcut}'")
        if self.norm.name == "foreign" or self.norm.declares:
            raise ValueError("norm 'foreign' and declares are for networks of other libraries")
        return self
