"""Builds the classifier of a specification, for images in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from bench.core.model_spec import (
    MODEL_GROUP,
    ClassifierSpec,
    ModelSpec,
    height_width,
    residual_depth,
    wide_shape,
)
from bench.core.registry import Plugin, Registry
from bench.models.resnet import BasicBlock, Bottleneck, ResNet
from bench.models.vgg import VGG
from bench.models.wide_resnet import PreActResNet, WideResNet
from bench.norms import NormFactory, norm_factory, weights_seeded
from bench.norms.plain import fixup_init

NetworkMaker = Callable[[ModelSpec, NormFactory], nn.Module]
"""Makes a network that maps normalized images to logits."""


def _adopt(plugin: Plugin, found: object) -> NetworkMaker:
    """Wraps a plugin's function, so that any failure becomes a one-line error."""
    if not callable(found):
        raise ValueError(f"expected a function of a spec and a norm, found {found!r:.60}")

    def make(spec: ModelSpec, norm: NormFactory) -> nn.Module:
        return plugin.call("arch", found, nn.Module, spec, norm)

    make.__doc__ = found.__doc__  # for listings
    return make


PLUGIN_MODELS: Registry[NetworkMaker] = Registry("arch", MODEL_GROUP, _adopt)


class Classifier(nn.Module):
    """A network with its input normalization.

    Args:
        spec: Describes the network, with ``mean`` and ``std``.
        net: Maps normalized images to logits.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: ClassifierSpec, net: nn.Module) -> None:
        super().__init__()
        self.spec, self.net = spec, net
        shape = (1, spec.channels, 1, 1)
        self.register_buffer("mean", torch.tensor(spec.mean).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(shape), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images (b, c, h, w) with pixels in [0, 1] to logits (b, classes)."""
        return torch.as_tensor(self.net((x - self.mean) / self.std))


def build_model(spec: ModelSpec, seed: int = 0) -> Classifier:
    """Builds a classifier in train mode, its weights initialized from the seed."""
    with weights_seeded(seed):
        net = _network(spec, norm_factory(spec.norm))
        if spec.norm.name == "fixup":
            fixup_init(net)
    return Classifier(spec, net)


def _network(spec: ModelSpec, norm: NormFactory) -> nn.Module:
    fixup = spec.norm.name == "fixup"
    projection = spec.shortcut == "conv"
    large = min(height_width(spec.size)) >= 96
    io = (spec.channels, spec.classes)

    def cifar(n: int) -> Callable[[], nn.Module]:
        return lambda: ResNet([n] * 3, [16, 32, 64], norm, *io, fixup, projection, large)

    def imagenet(
        blocks: list[int], block: type[BasicBlock] | type[Bottleneck]
    ) -> Callable[[], nn.Module]:
        widths = [64, 128, 256, 512]
        return lambda: ResNet(blocks, widths, norm, *io, fixup, True, large, block)

    def preact(final: bool, from_input: bool) -> Callable[[], nn.Module]:
        return lambda: PreActResNet([2] * 4, norm, *io, fixup, final, from_input, large)

    def wide(n: int, widen: int) -> Callable[[], nn.Module]:
        return lambda: WideResNet(n, widen, norm, *io, fixup)

    makers: dict[str, Callable[[], nn.Module]] = {
        "resnet18": imagenet([2, 2, 2, 2], BasicBlock),
        "resnet34": imagenet([3, 4, 6, 3], BasicBlock),
        "resnet50-bottleneck": imagenet([3, 4, 6, 3], Bottleneck),
        "preact-resnet18": preact(True, False),
        "preact-resnet18-kuangliu": preact(False, False),
        "preact-resnet18-wong": preact(False, True),
        "vgg11": lambda: VGG(11, norm, *io),
        "vgg16": lambda: VGG(16, norm, *io),
        "wrn32": wide(5, 10),
    }
    if spec.arch in makers:
        return makers[spec.arch]()
    if (n := residual_depth(spec.arch)) is not None:
        return cifar(n)()
    if (shape := wide_shape(spec.arch)) is not None:
        return wide(*shape)()
    return PLUGIN_MODELS.get(spec.arch)(spec, norm)
