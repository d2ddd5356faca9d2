"""Steps to a plane inside the box [0, 1], of least length in each norm.

This is problem 4 of https://arxiv.org/abs/1907.02044, section 2.2.
"""

from __future__ import annotations

import torch
from torch import Tensor

TINY = 1e-30

LATER = 1 + 1e-6
"""Factor by which a time must grow in a step of Newton's method, or the iteration has converged."""


def step_to_plane(x: Tensor, w: Tensor, gap: Tensor, pace: Tensor | None) -> Tensor:
    """Returns the least delta (n, d) with ``<w, delta> = -gap``, x + delta in [0, 1]: linf or l2.

    Every coordinate moves against the gap at its pace until it meets its wall, so the problem is to
    find the time at which the gap is closed. The part closed so far is a concave, piecewise linear
    function of time, so Newton's steps from the left never overshoot, and arrive as soon as no
    further wall is met: after a handful of steps, where sorting the walls, as the paper does, takes
    several times longer. Where the box ends before the plane, the delta ends in the corner of the
    box nearest to it.

    Args:
        x: Points (n, d) in [0, 1].
        w: Normals (n, d).
        gap: ``<w, x> + b`` (n,).
        pace: Pace of each coordinate, (1, d) or (n, d), > 0: the norm minimized is
            ``max |delta| / pace``, which is linf for a pace of 1. ``None`` minimizes l2, for
            which the pace is ``|w|``.
    """
    toward = w.sign().mul_(-gap.sign()[:, None])
    size = w.abs()
    scale = size.amax(1).clamp(min=TINY)  # or tiny gradients would vanish when squared
    size, gap = size.div_(scale[:, None]), gap.abs() / scale
    pace = size if pace is None else pace
    # Zeros and ones are multiplied with, where a condition would choose: on a CPU that takes thirty
    # times longer where the mask is irregular, and comes to the same bits.
    room = toward.clamp(min=0).sub_(x).abs_()  # to the wall at 1 where toward is 1, else at 0
    speed, wall = room.sign().mul_(size).mul_(pace), size * room
    time = _closing_time(pace, room, wall, speed, gap).clamp_(max=1 / TINY)
    reached = time[:, None] * pace
    return torch.minimum(reached, room, out=reached).mul_(toward)


def _closing_time(pace: Tensor, room: Tensor, wall: Tensor, speed: Tensor, gap: Tensor) -> Tensor:
    """Returns when each gap (n,) is closed.

    Args:
        pace: Pace of each coordinate, (1, d) or (n, d).
        room: Distance that each coordinate may go (n, d).
        wall: Part of the gap that a coordinate closes when it goes all the way (n, d).
        speed: Speed at which it closes the gap until then (n, d).
        gap: Gap to close (n,), at least 0.
    """
    time = gap / speed.sum(1).clamp(min=TINY)
    lanes, now = torch.arange(len(time), device=time.device), time.clone()
    spare = room.new_empty(2, *room.shape)  # as fresh memory takes longer than what is done in it
    for _ in range(room.shape[1]):  # a wall at least is met in each
        met, part = spare[:, : len(now)]
        torch.mul(pace, now[:, None], out=met).ge_(room)
        closed = torch.mul(met, wall, out=part).sum(1)
        rate = met.neg_().add_(1).mul_(speed).sum(1)
        later = torch.where(rate > 0, (gap - closed) / rate.clamp(min=TINY), torch.inf)
        onward = later > now * LATER
        going = onward.nonzero()[:, 0]
        if not len(going):
            break
        now = torch.where(onward, later, now)
        if len(going) <= len(now) / 2:
            time[lanes] = now
            lanes, now, gap = lanes[going], now[going], gap[going]
            room, wall, speed = (v.index_select(0, going) for v in (room, wall, speed))
            pace = pace if len(pace) == 1 else pace.index_select(0, going)
    time[lanes] = now
    return time


def sparse_step_to_plane(x: Tensor, w: Tensor, gap: Tensor) -> Tensor:
    """Returns the delta (n, d) of least l1 length with ``<w, delta> = -gap``, x + delta in [0, 1].

    The coordinates that close most of the gap per unit of length go first, each to its wall. Where
    the box ends before the plane, the delta ends in the corner of the box nearest to it.

    Args:
        x: Points (n, d) in [0, 1].
        w: Normals (n, d).
        gap: ``<w, x> + b`` (n,).
    """
    return fill(-gap.sign()[:, None] * w, gap.abs(), -x, 1 - x)


def fill(w: Tensor, need: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Returns the step (..., d) of least l1 length in a box whose product with w is ``need``.

    Where the box ends before, it ends in the box's corner in which the product is largest.

    Args:
        w: Slopes (..., d).
        need: What the linear functions have to rise by (...), at least 0.
        low: Lower ends of the box (..., d), at most 0.
        high: Upper ends, at least 0.
    """
    slope, order = w.abs().sort(dim=-1, descending=True)
    room = torch.where(w > 0, high, -low).gather(-1, order)
    closed = slope.double() * room
    before = closed.cumsum(-1) - closed
    part = (need[..., None] - before).clamp(min=0) / slope.clamp(min=TINY)
    reached = torch.minimum(part.to(room.dtype), room).masked_fill(slope == 0, 0)
    return torch.zeros_like(w).scatter(-1, order, reached) * w.sign()
