"""From a norm's specification to its layers, and norms in whole models."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.core.errors import UserError
from bench.core.norm_spec import PLUGIN_NORMS, NormSpec, uses_batch
from bench.norms.aggregation import Paths, RandomNormAggregation
from bench.norms.batch import BatchGroupNorm, BatchNorm, RobustNorm
from bench.norms.plain import FixupScale, GroupNorm, NoNorm, fixup_init, instance_norm, layer_norm

NormFactory = Callable[[int], nn.Module]
"""Makes the layer for a number of channels."""


def norm_factory(spec: NormSpec) -> NormFactory:
    """Returns a function that makes the normalization layers of one model.

    Call it once per model: the layers of an RNA model share the factory's ``Paths``.
    """
    if spec.name == "rna":
        paths = Paths(spec.scope, spec.per)
        return lambda c: RandomNormAggregation([_layer(s, c) for s in spec.pool], paths)
    return lambda c: _layer(spec, c)


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


def _groups(spec: NormSpec, channels: int) -> int:
    """Returns the number of groups of a layer; a group size of ``channels`` or more means one."""
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


def _plugin_layer(name: str, channels: int) -> nn.Module:
    """Makes a layer of another package; raises ``UserError`` if that package does not give one."""
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


@contextmanager
def weights_seeded(seed: int) -> Iterator[None]:
    """Draws initial weights on the CPU from ``seed``, then restores the global generator.

    ``torch.manual_seed`` would also seed every GPU's generator, and leave it seeded.
    """
    before = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(before)


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
    """Sets the inference statistics of every layer that has the choice; returns how many.

    Only the layers change: the ``spec`` of a classifier keeps saying what it was built with.

    Raises:
        UserError: When no layer has the choice, or ``stats`` is not one of a layer's choices; the
            model is then left as it was.
    """
    layers: list[Any] = [m for m in model.modules() if hasattr(m, "stats_choices")]
    if not layers:
        raise UserError(f"stats '{stats}' was asked for, but no layer has a choice of statistics")
    for layer in layers:
        if stats not in layer.stats_choices:
            raise UserError(f"stats '{stats}' is not one of {', '.join(layer.stats_choices)}")
    for layer in layers:
        layer.stats = stats
    return len(layers)


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """Returns the batch normalization layers of any network, of any dimension or subclass."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def use_batch_statistics(model: nn.Module) -> int:
    """Makes all batch normalization layers of any network use batch statistics in eval mode.

    Tracked statistics are kept. Layers of this project are switched; those of other libraries keep
    whatever else their ``forward`` does.

    Returns:
        The number of layers.
    """
    layers = batch_norms(model)
    for layer in layers:
        if not isinstance(getattr(layer, "stats", None), str):
            layer.__class__ = _on_batch(type(layer))  # type: ignore[arg-type]
        setattr(layer, "stats", "batch")  # noqa: B010 - mypy cannot see the attribute
    return len(layers)


@lru_cache(maxsize=64)
def _on_batch(kind: type[_BatchNorm]) -> type[_BatchNorm]:
    """Returns a subclass of a layer's class that ignores the tracked statistics in eval mode."""

    def forward(self: Any, x: Tensor) -> Any:
        if self.training or self.stats != "batch":
            return kind.forward(self, x)
        kept = self.running_mean, self.running_var
        # PyTorch's own rule, which subclasses follow: statistics that are not tracked are computed.
        self.running_mean = self.running_var = None
        try:
            return kind.forward(self, x)
        finally:
            self.running_mean, self.running_var = kept

    return type(f"{kind.__name__}OnBatch", (kind,), {"forward": forward})


def stats_in_force(model: nn.Module) -> tuple[str, ...]:
    """Returns the inference statistics that are set in this project's layers, sorted."""
    found = (getattr(module, "stats", None) for module in model.modules())
    return tuple(sorted({stats for stats in found if isinstance(stats, str)}))


def shares_statistics(model: nn.Module) -> bool:
    """Returns whether a layer of this project uses statistics of the batch, as currently set."""
    return any(uses_batch(stats) for stats in stats_in_force(model))
