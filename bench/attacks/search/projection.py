"""The nearest point of a hyperplane inside the box.

Source: Croce & Hein 2020, https://arxiv.org/abs/1907.02044, section 2.2 (problem 4).
"""

from __future__ import annotations

import torch
from torch import Tensor

TINY = 1e-30
ROUNDING = 1 + 1e-6


def step_to_plane(x: Tensor, w: Tensor, gap: Tensor, pace: Tensor | None) -> Tensor:
    """Returns the smallest delta (n, d) with ``<w, delta> = -gap`` and x + delta in [0, 1].

    Every coordinate moves against the gap at its pace until it meets its wall, so what is asked
    for is the time at which the gap is closed. What is closed by then is a concave, piecewise
    linear function of time, so Newton's steps from the left never overshoot, and arrive as soon as
    no further wall is met: after a handful of steps, where sorting the walls, as the paper does,
    takes several times longer. Where the box ends before the plane, the delta ends in the corner of
    the box nearest to it.

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
    paces, rooms = pace, room
    speed, wall = torch.where(room > 0, size * pace, 0), size * room
    time = gap / speed.sum(1).clamp(min=TINY)
    lanes, now = torch.arange(len(x), device=x.device), time
    for _ in range(x.shape[1]):  # a wall at least is met in each
        later = _later(pace, room, wall, speed, gap, now)
        onward = later > now * ROUNDING
        if not bool(onward.any()):
            break
        lanes, now = lanes[onward], later[onward]
        time[lanes] = now
        if not bool(onward.all()):
            state = (pace, room, wall, speed, gap)
            pace, room, wall, speed, gap = (values[onward] for values in state)
    return toward * torch.minimum(time.clamp(max=1 / TINY)[:, None] * paces, rooms)


def _later(
    pace: Tensor, room: Tensor, wall: Tensor, speed: Tensor, gap: Tensor, time: Tensor
) -> Tensor:
    """Returns when the gap (n,) is closed if no wall is met after ``time`` (n,)."""
    met = pace * time[:, None] >= room
    rate = speed.masked_fill(met, 0).sum(1)
    closed = torch.where(met, wall, 0).sum(1)
    return torch.where(rate > 0, (gap - closed) / rate.clamp(min=TINY), torch.inf)
