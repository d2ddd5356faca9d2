"""Losses that attacks climb: per sample, larger for worse predictions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""``loss(logits, y, y_target) -> (b,)`` for logits (b, n_classes) and labels (b,). ``y_target``
(b,) is the class aimed at, or ``None`` for an untargeted loss."""


def cross_entropy(logits: Tensor, y: Tensor, y_target: Tensor | None = None) -> Tensor:
    """Returns the cross-entropy of y; with a target, minus that of the target."""
    if y_target is not None:
        return -F.cross_entropy(logits, y_target, reduction="none")
    return F.cross_entropy(logits, y, reduction="none")


def _others(logits: Tensor, y: Tensor) -> Tensor:
    """Returns the largest logit among the classes other than y (b, 1)."""
    return logits.scatter(1, y, -torch.inf).amax(1)


def margin(logits: Tensor, y: Tensor, y_target: Tensor | None = None) -> Tensor:
    """Returns the best other logit (or the target's) minus that of y: positive when y has lost.

    Source: Carlini & Wagner 2017, https://arxiv.org/abs/1608.04644, f6.
    """
    label = y[:, None]
    own = logits.gather(1, label)[:, 0]
    if y_target is None:
        return _others(logits, label) - own
    return logits.gather(1, y_target[:, None])[:, 0] - own


def dlr(logits: Tensor, y: Tensor, y_target: Tensor | None = None) -> Tensor:
    """Returns the difference-of-logits-ratio loss, which no rescaling of the logits changes.

    Source: Croce & Hein 2020, https://arxiv.org/abs/2003.01690, equations 6 and 7 (targeted).
    They need 3 and 4 classes: with fewer, the ratio can be constant, with a gradient of 0. Then
    the plain margin is returned.
    """
    n_ranked = 3 if y_target is None else 4
    if logits.shape[1] < n_ranked:
        return margin(logits, y, y_target)
    ranked = logits.topk(n_ranked, dim=1).values
    scale = ranked[:, 0] - ranked[:, 2:].mean(1)
    return margin(logits, y, y_target) / (scale + 1e-12)


LOSSES: dict[str, Loss] = {"ce": cross_entropy, "dlr": dlr, "margin": margin}
