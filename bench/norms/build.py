"""From a norm's specification to its layers, and norms in whole models."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.core.errors import UserError
from bench.core.norm_spec import PLUGIN_NORMS, NormSpec, keys_of_label, uses_batch
from bench.norms.aggregation import Paths, RandomNormAggregation
from bench.norms.batch import BatchGroupNorm, BatchNorm, RobustNorm
from bench.norms.plain import FixupScale, GroupNorm, NoNorm, fixup_init, instance_norm, layer_norm
from bench.untrusted.spec_file import check_spec

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


def replace_norms(model: nn.Module, spec: NormSpec | str | Mapping[str, Any], seed: int = 0) -> int:
    """Replaces every ``BatchNorm2d`` of a model in place; returns how many there were.

    The new layers are on the device, in the dtype and in the mode of the old ones. Batch
    normalization keeps what the old layer has learned: its scale and shift, its tracked statistics,
    eps and momentum; so does such a branch in the pool of ``rna``. Other norms start anew, of which
    a warning tells where that loses what was learned. A layer used in several places stays one
    layer. ``fixup`` also re-initializes the residual branches it finds, drawing from ``seed``.

    Args:
        model: Any network.
        spec: A norm: its specification; its name, as tables have it (``"in"``, ``"gn8"``,
            ``"gn[16]"`` for groups of 16 channels, ``"rna(bn+in)"``); or its keys, as recipes have
            them: ``{"name": "rna", "pool": ["bn", "in"], "per": "sample"}``.
        seed: Of what ``fixup`` draws.

    Raises:
        UserError: When the norm is not known or lacks a parameter, when the model has no
            ``BatchNorm2d``, or the norm does not fit one of them; the model is then left as it was.
    """
    spec = _as_spec(spec)
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
    lost = sum(_learned(old) for old in layers)
    anew = [one.label() for one in spec.pool or (spec,) if one.name != "bn"]
    for parent, name, old in places:
        setattr(parent, name, layers[old])
    if spec.name == "fixup":
        with weights_seeded(seed):
            fixup_init(model)
    if lost and anew:
        kept = " (bn keeps them)" * (len(anew) < len(spec.pool))
        warnings.warn(
            f"replace_norms: {', '.join(anew)} start anew in place of {lost} trained layers: their "
            f"scale, shift and statistics are not taken over{kept}; train the model before its "
            "numbers mean anything",
            stacklevel=2,
        )
    return len(layers)


def _as_spec(spec: NormSpec | str | Mapping[str, Any]) -> NormSpec:
    """Returns a norm's specification from its name or its keys."""
    if isinstance(spec, NormSpec):
        return spec
    keys = keys_of_label(spec) if isinstance(spec, str) else dict(spec)
    try:
        return check_spec(keys, NormSpec, "norm")
    except UserError as error:
        text = str(error).replace("the whole file: ", "")
        needs = "for example replace_norms(model, 'rna(bn+in)')"
        hint = f"; {needs}" * ("needs a pool" in text)
        raise UserError(text + hint) from None


def _learned(old: nn.BatchNorm2d) -> bool:
    """Returns whether a layer differs from a new one."""
    fresh = nn.BatchNorm2d(old.num_features)
    kinds = ("weight", "bias", "running_mean", "running_var")
    pairs = [(getattr(old, kind), getattr(fresh, kind)) for kind in kinds]
    return any(a is not None and not a.is_meta and not bool((a.cpu() == b).all()) for a, b in pairs)


def _inherit(new: nn.Module, old: nn.BatchNorm2d) -> None:
    """Gives what a layer has learned to the batch normalization in its place, if it is one."""
    branches = new.branches if isinstance(new, RandomNormAggregation) else [new]
    for branch in branches:
        if isinstance(branch, BatchNorm):
            branch.load_state_dict(old.state_dict(), strict=False)
            branch.eps, branch.momentum = old.eps, old.momentum


def _like(layer: nn.Module, old: nn.BatchNorm2d) -> nn.Module:
    """Moves a layer to the device, dtype and mode of another, of which it keeps what it can."""
    tensors = (old.weight, old.running_mean)  # either may be missing
    anchor = next((t for t in tensors if t is not None), torch.empty(0))
    layer = layer.to(anchor.device, anchor.dtype).train(old.training)
    _inherit(layer, old)
    return layer


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
