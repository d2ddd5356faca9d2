"""``timm:NAME?pretrained=true``: the models of timm (PyTorch Image Models).

Mean, std and size come from the model's ``pretrained_cfg``. timm's other sources, ``hf-hub:`` and
``local-dir:``, are refused: their configuration may set any argument.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from torch import nn

from bench.core.errors import UserError, did_you_mean
from bench.core.model_uri import ModelUri
from bench.core.paths import Where
from bench.models.external.from_torchvision import refuse_shape
from bench.models.external.library_model import RANDOM, Declared, LibraryModel, spread
from bench.models.external.scheme import missing_extra
from bench.norms import weights_seeded
from bench.untrusted.weights import calling_library


def open_timm(uri: ModelUri, where: Where) -> LibraryModel:
    """Returns a model of timm."""
    try:
        timm: Any = import_module("timm")
    except ImportError as error:
        raise missing_extra(uri.text, "timm", error) from None
    if not re.fullmatch(r"[A-Za-z0-9_.]+", uri.path) or not timm.is_model(uri.path):
        hint = did_you_mean(uri.path, timm.list_models())
        raise UserError(f"{uri.text}: timm has no model '{uri.path}'{hint}")
    if pretrained := bool(uri.flag("pretrained")):
        refuse_shape(uri)
    return LibraryModel(uri, lambda: _build(timm, uri, pretrained=pretrained))


def _build(timm: Any, uri: ModelUri, *, pretrained: bool) -> tuple[nn.Module, Declared]:
    size = uri.whole("size")
    asked = {"in_chans": uri.whole("channels"), "num_classes": uri.whole("classes")}
    own = {key: value for key, value in asked.items() if value is not None}
    with calling_library(uri.text), weights_seeded(0):
        usual = timm.get_pretrained_cfg(uri.path)
        if size is not None and getattr(usual, "fixed_input_size", False):
            own["img_size"] = size
        net: nn.Module = timm.create_model(uri.path, pretrained=pretrained, **own)
        config: Any = net.pretrained_cfg
        classes = int(net.num_classes)  # type: ignore[arg-type]
        native, height, width = config["input_size"]
        mean, std = tuple(config["mean"]), tuple(config["std"])
    if size is None and height != width:
        raise UserError(f"{uri.text}: takes images of {height} x {width}, expected square ones")
    channels = own.get("in_chans", native)
    declared = Declared(
        arch=f"timm:{uri.path}",
        channels=channels,
        size=size or height,
        classes=classes,
        mean=spread(mean, channels),
        std=spread(std, channels),
        dataset="imagenet" if pretrained and classes == 1000 else "",
        training=f"timm's {config.get('tag') or 'default'} weights" if pretrained else RANDOM,
    )
    return net, declared
