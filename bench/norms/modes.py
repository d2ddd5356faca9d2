"""Train and eval mode as a user left it: kept where it is meant, and without moving statistics."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.dropout import _DropoutNd

_OF_TORCH = frozenset(vars(nn.Module()))
"""Attributes in which every module keeps its parts and hooks."""

_HOLDERS = (nn.Module, Mapping, list, tuple, set)


def reachable(model: nn.Module) -> dict[str, nn.Module]:
    """Returns every module of a model by name, also those in plain lists, mappings and attributes.

    PyTorch does not find the latter: ``eval()``, ``to()`` and the state dict pass them by.
    """
    found: dict[str, nn.Module] = {}
    seen: set[int] = set()
    left: deque[tuple[str, object]] = deque([("", model)])
    while left:
        name, value = left.popleft()
        if id(value) in seen:
            continue
        seen.add(id(value))
        inside: Iterable[tuple[str, object]] = ()
        if isinstance(value, nn.Module):
            found[name] = value
            plain = ((key, one) for key, one in vars(value).items() if key not in _OF_TORCH)
            own = itertools.chain(value.named_children(), plain)
            inside = ((f"{name}.{key}".lstrip("."), one) for key, one in own)
        elif isinstance(value, Mapping):
            inside = ((f"{name}[{key!r}]", one) for key, one in value.items())
        elif isinstance(value, list | tuple | set):
            inside = ((f"{name}[{i}]", one) for i, one in enumerate(value))
        left += (pair for pair in inside if isinstance(pair[1], _HOLDERS))
    return found


def unregistered(model: nn.Module) -> dict[str, nn.Module]:
    """Returns the reachable modules that PyTorch does not find."""
    known = {id(module) for module in model.modules()}
    return {name: m for name, m in reachable(model).items() if id(m) not in known}


@dataclass(frozen=True)
class Settled:
    """A model in the modes in which it is evaluated.

    Attributes:
        switched: Dropout and normalization layers that were in train mode like the model itself,
            and are in eval mode now.
        kept: Layers that are in train mode as they were, in a model that is in eval mode.
        undo: Puts every mode, buffer and class of a layer back.
    """

    switched: tuple[str, ...]
    kept: tuple[str, ...]
    undo: Callable[[], None]


def settle(model: nn.Module) -> Settled:
    """Puts a model into the modes in which it is evaluated.

    A model in train mode is put into eval mode. In a model that is in eval mode, layers in train
    mode are taken as meant, as those of Monte Carlo dropout are. Normalization layers that stay in
    train mode use batch statistics as before, and their running statistics do not move.
    """
    layers = reachable(model)
    modes = [(module, module.training) for module in layers.values()]
    buffers = [
        (module, name, buffer, buffer.detach().clone())
        for module in layers.values()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    switched: tuple[str, ...] = ()
    if model.training:
        acting = (_DropoutNd, _NormBase)
        switched = tuple(
            name for name, m in model.named_modules() if m.training and isinstance(m, acting)
        )
        model.eval()
    kept = tuple(name for name, module in layers.items() if module.training)
    held = [put_back for module in layers.values() for put_back in _hold_statistics(module)]

    def undo() -> None:
        for put_back in held:
            put_back()
        for module, training in modes:
            module.training = training
        for module, name, buffer, before in buffers:
            buffer.detach().copy_(before)
            if getattr(module, name, None) is not buffer:
                setattr(module, name, buffer)

    return Settled(switched, kept, undo)


def _hold_statistics(layer: nn.Module) -> Iterator[Callable[[], None]]:
    """Keeps passes in train mode from moving running statistics; yields what undoes that."""
    if not layer.training:
        return
    attributes: dict[str, Any] = {}
    if "batch" in getattr(layer, "stats_choices", ()):  # of this project
        attributes = {"stats": "batch", "training": False}
    elif isinstance(layer, _NormBase) and layer.running_mean is not None:
        attributes = {"__class__": _holding(type(layer))}  # type: ignore[arg-type]
        attributes |= {"stats": "batch"} if isinstance(layer, _BatchNorm) else {}
    for name, value in attributes.items():
        had, before = hasattr(layer, name), getattr(layer, name, None)
        setattr(layer, name, value)
        yield partial(setattr, layer, name, before) if had else partial(delattr, layer, name)


@lru_cache(maxsize=64)
def _holding(kind: type[_NormBase]) -> type[_NormBase]:
    """Returns a subclass of a layer's class that has no running statistics while a pass runs."""
    names = ("running_mean", "running_var", "num_batches_tracked")

    def forward(self: Any, x: Tensor) -> Any:
        kept = {name: getattr(self, name) for name in names}
        for name in names:
            setattr(self, name, None)
        try:
            return kind.forward(self, x)
        finally:
            for name, value in kept.items():
                setattr(self, name, value)

    return type(f"{kind.__name__}Holding", (kind,), {"forward": forward})
