"""The nearest point of a hyperplane inside the box.

Source: Croce & Hein 2020, https://arxiv.org/abs/1907.02044, section 2.2 (problem 4).
"""

from __future__ import annotations

import torch
from torch import Tensor

TINY = 1e-30


def step_to_plane(x: Tensor, w: Tensor, gap: Tensor, pace: Tensor | None) -> Tensor:
    """Returns the smallest delta (n, d) with ``<w, delta> = -gap`` and x + delta in [0, 1].

    Every coordinate moves against the gap at its pace until it meets its wall, so what is asked
    for is the time at which the gap is closed: a piecewise linear equation, solved exactly by
    sorting the times at which walls are met. Where the box ends before the plane, the delta ends
    in the corner of the box nearest to it.

    Args:
        x: Points (n, d) in [0, 1].
        w: Normals (n, d).
        gap: ``<w, x> + b`` (n,).
        pace: Of each coordinate, (1, d) or (n, d), > 0: the norm minimized is
            ``max |delta| / pace``, which is linf for a pace of 1. ``None`` minimizes l2, for
            which the pace is ``|w|``.
    """
    toward = -gap.sign()[:, None] * w.sign()
    size = w.abs()
    scale = size.amax(1).clamp(min=TINY)  # or tiny gradients would vanish when squared
    size, gap = size / scale[:, None], gap.abs() / scale
    pace = size if pace is None else pace.expand_as(size)
    room = torch.where(toward > 0, 1 - x, x).clamp(min=0)
    wall = room / pace.clamp(min=TINY)
    order = wall.argsort(1)
    closed = (size * room).gather(1, order).cumsum(1)
    closed = torch.cat([torch.zeros_like(closed[:, :1]), closed[:, :-1]], 1)
    rate = (size * pace).gather(1, order).flip(1).cumsum(1).flip(1)
    reached = closed + wall.gather(1, order) * rate < gap[:, None]
    k = reached.sum(1, keepdim=True)
    last = k.clamp(max=x.shape[1] - 1)
    time = (gap[:, None] - closed.gather(1, last)) / rate.gather(1, last).clamp(min=TINY)
    move = torch.minimum(time.clamp(min=0, max=1 / TINY) * pace, room)
    return toward * torch.where(k == x.shape[1], room, move)
