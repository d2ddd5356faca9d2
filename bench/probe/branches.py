"""Finds branches that never run: a random path set outside ``forward`` looks deterministic."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from bench.norms import RandomNormAggregation
from bench.probe.subject import Subject, deviation, scale_of

PASSES = 20
"""Passes after which a branch counts as never run: one of two equally likely branches is missed
with a probability of one in a million."""

CHANGED = 1e-4
"""Change of the logits, relative to their scale, from which a branch counts as different."""

SWITCH = re.compile(r"path|choice|chosen|branch|route|switch|select|mode|active|which|current")
"""Names of attributes by which a module may choose among children outside a list."""

Trace = dict[str, tuple[Tensor, Tensor] | None]
"""The submodules that ran in one pass, with input and output where both are one tensor."""


def unused_branches(subject: Subject, x: Tensor) -> tuple[str, ...]:
    """Returns submodules that never run, but could replace a sibling and would change the logits.

    Layers that draw their branch inside ``forward`` are not reported: they run different branches
    from pass to pass, so that those that have not run yet say nothing.

    Args:
        subject: The model.
        x: A few images (b, c, h, w).
    """
    groups = list(_groups(subject.model))
    watched = {name: module for group in groups for name, module in group.items()}
    if not watched:
        return ()
    traces = [_trace(subject, watched, x) for _ in range(PASSES)]
    z = subject.run(x)
    found = []
    for group in groups:
        ran = [set(trace) & set(group) for trace in traces]
        if not ran[0] or any(names != ran[0] for names in ran):
            continue
        idle = {name: module for name, module in group.items() if name not in ran[0]}
        beside = {name: group[name] for name in sorted(ran[0])}
        found += [
            name
            for name, module in idle.items()
            if any(
                _fits(module, traces[-1][sibling]) and _matters(subject, x, z, place, module)
                for sibling, place in beside.items()
            )
        ]
    return tuple(found)


def _groups(model: nn.Module) -> Iterator[dict[str, nn.Module]]:
    """Yields groups of children, by full name, of which one could replace another."""
    drawn = {id(m.branches) for m in model.modules() if isinstance(m, RandomNormAggregation)}
    for name, module in model.named_modules():
        listed = isinstance(module, nn.ModuleList | nn.ModuleDict)
        if id(module) in drawn or not (listed or _has_switch(module)):
            continue
        children = {f"{name}.{key}".lstrip("."): child for key, child in module.named_children()}
        if len(children) > 1:
            yield children


def _has_switch(module: nn.Module) -> bool:
    """Returns whether an attribute of the module looks like the choice of a child."""
    return any(
        SWITCH.search(name) is not None
        and (isinstance(value, int | str) or (isinstance(value, Tensor) and value.numel() == 1))
        for name, value in {**vars(module), **dict(module.named_buffers(recurse=False))}.items()
        if not name.startswith("_")
    )


def _trace(subject: Subject, watched: Mapping[str, nn.Module], x: Tensor) -> Trace:
    trace: Trace = {}

    def watch(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def note(_: nn.Module, args: tuple[object, ...], output: object) -> None:
            one = len(args) == 1 and isinstance(args[0], Tensor) and isinstance(output, Tensor)
            trace[name] = (args[0], output) if one else None  # type: ignore[assignment]

        return module.register_forward_hook(note)

    handles = [watch(name, module) for name, module in watched.items()]
    try:
        subject.run(x)
    finally:
        for handle in handles:
            handle.remove()
    return trace


def _fits(module: nn.Module, seen: tuple[Tensor, Tensor] | None) -> bool:
    """Returns whether a module accepts its sibling's input and returns the same shape."""
    if seen is None:
        return False
    try:
        with torch.no_grad():
            answer = module(seen[0])
    except Exception:  # foreign code, perhaps not meant for this place
        return False
    return isinstance(answer, Tensor) and answer.shape == seen[1].shape


def _matters(subject: Subject, x: Tensor, z: Tensor, place: nn.Module, other: nn.Module) -> bool:
    """Returns whether the logits z (b, classes) change when ``other`` replaces a module."""

    def swap(_: nn.Module, args: tuple[object, ...], __: object) -> object:
        return other(*args)

    handle = place.register_forward_hook(swap)
    try:
        return deviation(subject.run(x), z, scale_of(z)) > CHANGED
    finally:
        handle.remove()
