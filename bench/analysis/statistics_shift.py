"""How far the statistics of a batch lie from the tracked ones, on clean and on attacked images.

Source: RobustNorm, https://arxiv.org/abs/2006.11007, section 4.1 and figure 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import pandas as pd
import torch
from torch import Tensor, nn

from bench.analysis.declared import STATISTICS_SHIFT
from bench.analysis.scene import Scene
from bench.norms.batch import BatchGroupNorm, RobustNorm


@dataclass(frozen=True)
class Statistics:
    """Mean and spread of each channel (c,): a variance, or a range."""

    mean: Tensor
    spread: Tensor


def tracks(module: nn.Module) -> bool:
    """Says whether a layer tracks statistics over the batch."""
    if isinstance(module, nn.BatchNorm2d):
        return module.running_mean is not None
    return isinstance(module, BatchGroupNorm | RobustNorm)


def tracked(layer: nn.Module) -> Statistics:
    """Returns a layer's population statistics."""
    spread = layer.running_range if isinstance(layer, RobustNorm) else layer.running_var
    assert isinstance(layer.running_mean, Tensor) and isinstance(spread, Tensor)
    return Statistics(layer.running_mean, spread)


def of_batch(layer: nn.Module, x: Tensor) -> Statistics:
    """Returns the statistics of a layer's input (b, c, h, w), as training would track them.

    The variance is the unbiased one: that is what a layer's running variance estimates.
    """
    if isinstance(layer, RobustNorm):
        extent = x.amax((0, 2, 3)) - x.amin((0, 2, 3))
        return Statistics(x.mean((0, 2, 3)), extent)
    groups = layer.groups if isinstance(layer, BatchGroupNorm) else x.shape[1]
    rows = x.reshape(len(x), groups, -1).transpose(0, 1).reshape(groups, -1)
    return Statistics(rows.mean(1), rows.var(1))


def scales(layer: nn.Module) -> Statistics:
    """Returns what differences of mean and spread are divided by to have no unit."""
    spread = tracked(layer).spread
    if isinstance(layer, RobustNorm):
        return Statistics(spread + layer.eps, spread + layer.eps)
    eps = layer.eps
    assert isinstance(eps, float)
    return Statistics((spread + eps).sqrt(), spread + eps)


@contextmanager
def watched(model: nn.Module, seen: dict[str, Statistics]) -> Iterator[None]:
    """Notes the statistics of every tracking layer's input, in forward order, by its name."""

    def note(name: str, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[name] = of_batch(layer, inputs[0].detach())

    layers = [(name, module) for name, module in model.named_modules() if tracks(module)]
    hooks = [layer.register_forward_pre_hook(partial(note, name)) for name, layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def shift_rows(model: nn.Module, x: Tensor) -> Iterator[dict[str, object]]:
    """Yields a row for each layer, channel and statistic of one batch (b, c, h, w).

    Args:
        model: In eval mode, with the statistics in force under which it is to run.
        x: Images.
    """
    seen: dict[str, Statistics] = {}
    with torch.no_grad(), watched(model, seen):
        model(x)
    modules = dict(model.named_modules())
    for number, (name, batch) in enumerate(seen.items()):
        layer = modules[name]
        population, scale = tracked(layer), scales(layer)
        spread = "range" if isinstance(layer, RobustNorm) else "var"
        for statistic, of, part in (("mean", "mean", "mean"), (spread, "spread", "spread")):
            expected = getattr(population, of).double()
            difference = getattr(batch, part).double() - expected
            relative = difference / getattr(scale, of).double()
            values = (expected.tolist(), difference.tolist(), relative.tolist())
            for channel, (p, d, r) in enumerate(zip(*values, strict=True)):
                yield {
                    "layer": number,
                    "name": name,
                    "channel": channel,
                    "statistic": statistic,
                    "population": p,
                    "difference": d,
                    "relative": r,
                }


def run(scene: Scene) -> pd.DataFrame:
    """Compares every batch of every subject, clean and attacked."""
    rows = []
    for i, target in enumerate(scene.targets):
        for batch in scene.batches(i):
            shown = {"clean": batch.x, "attacked": scene.attacked(i, batch)}
            for images, x in shown.items():
                place = {"model": i, "batch": batch.number, "n": len(x), "images": images}
                rows += [place | row for row in shift_rows(target.model, x)]
    return pd.DataFrame(rows, columns=list(STATISTICS_SHIFT.columns))
