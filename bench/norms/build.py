"""From a norm's specification to its layers, and into any model."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import torch
from torch import nn

from bench.core.errors import UserError
from bench.core.norm_spec import BATCH_STATISTICS, PLUGIN_NORMS, NormSpec
from bench.norms.aggregation import Paths, RandomNormAggregation, weights_seeded
from bench.norms.batch import BatchGroupNorm, BatchNorm, RobustNorm
from bench.norms.plain import FixupScale, GroupNorm, NoNorm, fixup_init, instance_norm, layer_norm

NormFactory = Callable[[int], nn.Module]
"""Makes the layer for a number of channels."""


def norm_factory(spec: NormSpec) -> NormFactory:
    """Returns what makes one model's normalization layers.

    Call it once per model: the layers of an RNA model share the factory's ``Paths``.
    """
    if spec.name == "rna":
        paths = Paths(spec.scope, spec.per)
        return lambda c: RandomNormAggregation([_layer(s, c) for s in spec.pool], paths)
    return lambda c: _layer(spec, c)


def _groups(spec: NormSpec, channels: int) -> int:
    """Returns the number of groups for a layer; a group size of at least c means one group."""
    if spec.groups is not None:
        groups = spec.groups
    else:
        assert spec.group_size is not None
        size = min(spec.group_size, channels)
        groups = channels // size if channels % size == 0 else 0
    if not groups or channels % groups:
        into = f"{groups} groups" if groups else f"groups of {spec.group_size}"
        raise UserError(
            f"norm '{spec.label()}': a layer of {channels} channels does not divide into {into}"
        )
    return groups


def _layer(spec: NormSpec, channels: int) -> nn.Module:
    stats = spec.inference_stats or ""
    makers: dict[str, Callable[[], nn.Module]] = {
        "none": lambda: NoNorm(channels),
        "fixup": FixupScale,
        "bn": lambda: BatchNorm(channels, stats),
        "bgn": lambda: BatchGroupNorm(channels, _groups(spec, channels), stats),
        "gn": lambda: GroupNorm(channels, _groups(spec, channels)),
        "in": lambda: instance_norm(channels),
        "ln": lambda: layer_norm(channels),
        "rn": lambda: RobustNorm(channels, spec.power, stats),
    }
    if spec.of_plugin:
        return _plugin_layer(spec.name, channels)
    if spec.name not in makers:
        raise UserError(f"norm '{spec.name}' cannot be built; known: {', '.join(makers)}")
    return makers[spec.name]()


def _plugin_layer(name: str, channels: int) -> nn.Module:
    """Makes a layer of another package.

    Raises:
        UserError: In one line, when that package does not give a layer.
    """
    plugin, norm = PLUGIN_NORMS.plugin(name), PLUGIN_NORMS.get(name)
    assert plugin is not None
    module, _, attribute = norm.make.partition(":")
    try:
        layer = getattr(importlib.import_module(module), attribute)(channels)
    except Exception as error:  # foreign code
        raise plugin.broken("norm", f"{type(error).__name__}: {error}") from error
    if not isinstance(layer, nn.Module):
        raise plugin.broken("norm", f"{norm.make} returned {type(layer).__name__}, not a Module")
    return layer


def replace_norms(model: nn.Module, spec: NormSpec, seed: int = 0) -> int:
    """Replaces every ``BatchNorm2d`` of a model in place; returns how many there were.

    The new layers start fresh on the device, in the dtype and in the mode of the old ones. A layer
    used in several places stays one layer. ``fixup`` also re-initializes the residual branches it
    finds, drawing from ``seed``.

    Raises:
        UserError: When the model has no ``BatchNorm2d``, or the norm does not fit one of them; the
            model is then left as it was.
    """
    make = norm_factory(spec)
    places = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent._modules.items()
        if isinstance(child, nn.BatchNorm2d)
    ]
    if not places:
        raise UserError("replace_norms found no BatchNorm2d layer in the model")
    layers: dict[nn.BatchNorm2d, nn.Module] = {}
    for _, _, old in places:
        if old not in layers:
            layers[old] = _like(make(old.num_features), old)
    for parent, name, old in places:
        setattr(parent, name, layers[old])
    if spec.name == "fixup":
        with weights_seeded(seed):
            fixup_init(model)
    return len(layers)


def _like(layer: nn.Module, old: nn.BatchNorm2d) -> nn.Module:
    """Moves a layer to the device, dtype and mode of another."""
    tensors = (old.weight, old.running_mean)  # either may be missing
    anchor = next((t for t in tensors if t is not None), torch.empty(0))
    return layer.to(anchor.device, anchor.dtype).train(old.training)


def set_stats(model: nn.Module, stats: str) -> int:
    """Chooses the inference statistics of every layer that has the choice; returns how many.

    Only the layers change: the ``spec`` of a classifier goes on saying what it was built with.

    Raises:
        UserError: When no layer has the choice, or ``stats`` is not one of a layer's choices; the
            model is then left as it was.
    """
    layers = [m for m in model.modules() if isinstance(m, BatchNorm | BatchGroupNorm | RobustNorm)]
    if not layers:
        raise UserError(f"stats '{stats}' was asked for, but no layer has a choice of statistics")
    for layer in layers:
        known = BATCH_STATISTICS["rn" if isinstance(layer, RobustNorm) else "bn"]
        if stats not in known:
            raise UserError(f"stats '{stats}' is not one of {', '.join(known)}")
    for layer in layers:
        layer.stats = stats
    return len(layers)
