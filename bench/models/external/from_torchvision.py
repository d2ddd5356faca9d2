"""``torchvision:NAME?weights=DEFAULT``: torchvision's classifiers.

Mean, std and size come from the ``transforms()`` of the weights or, for random weights, of the
default weights, which are not downloaded.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torchvision import models

from bench.core.errors import UserError, did_you_mean
from bench.core.model_uri import ModelUri
from bench.core.paths import Where
from bench.models.external.library_model import RANDOM, Declared, LibraryModel, spread
from bench.norms import weights_seeded
from bench.untrusted.weights import calling_library

_SHAPE = ("size", "channels", "classes")


def open_torchvision(uri: ModelUri, where: Where) -> LibraryModel:
    """Returns a classifier of torchvision."""
    known = models.list_models(module=models)
    if uri.path not in known:
        hint = did_you_mean(uri.path, known)
        raise UserError(f"{uri.text}: torchvision has no classifier '{uri.path}'{hint}")
    members = models.get_model_weights(uri.path).__members__
    wanted = uri.query.get("weights", "none")
    if wanted.lower() == "none":
        return LibraryModel(uri, lambda: _untrained(uri, members["DEFAULT"]))
    if wanted not in members:
        hint = did_you_mean(wanted, [*members, "none"])
        raise UserError(f"{uri.text}: weights: '{wanted}' is not among those it has{hint}")
    refuse_shape(uri)
    return LibraryModel(uri, lambda: _trained(uri, members[wanted]))


def refuse_shape(uri: ModelUri) -> None:
    """Raises ``UserError`` if the query changes the shape of a trained network."""
    for key in _SHAPE:
        if key in uri.query:
            raise UserError(
                f"{uri.text}: {key} is for random weights; trained weights have a fixed shape"
            )


def _trained(uri: ModelUri, weights: Any) -> tuple[nn.Module, Declared]:
    with calling_library(uri.text):
        net = models.get_model(uri.path, weights=weights, progress=False)
    preset = weights.transforms()
    declared = Declared(
        arch=f"torchvision:{uri.path}",
        channels=3,
        size=preset.crop_size[0],
        classes=len(weights.meta["categories"]),
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        dataset="imagenet" if len(weights.meta["categories"]) == 1000 else "",
        training=f"torchvision's {weights.name}",
    )
    return net, declared


def _untrained(uri: ModelUri, usual: Any) -> tuple[nn.Module, Declared]:
    preset = usual.transforms()
    size = uri.whole("size") or preset.crop_size[0]
    channels = uri.whole("channels") or 3
    classes = uri.whole("classes") or len(usual.meta["categories"])
    own: dict[str, Any] = {"num_classes": classes}
    if uri.path.startswith("vit_"):  # its position embedding depends on the image size
        own["image_size"] = size
    with calling_library(uri.text), weights_seeded(0):
        net = models.get_model(uri.path, weights=None, **own)
        if channels != 3:
            _take_channels(net, channels)
    mean, std = (spread(tuple(values), channels) for values in (preset.mean, preset.std))
    arch = f"torchvision:{uri.path}"
    return net, Declared(arch, channels, size, classes, mean, std, training=RANDOM)


def _take_channels(net: nn.Module, channels: int) -> None:
    """Replaces the first convolution by a random one with another number of input channels."""
    for parent in net.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv2d):
                again = nn.Conv2d(
                    channels,
                    child.out_channels,
                    child.kernel_size,  # type: ignore[arg-type]
                    child.stride,  # type: ignore[arg-type]
                    child.padding,  # type: ignore[arg-type]
                    bias=child.bias is not None,
                )
                setattr(parent, name, again)
                return
