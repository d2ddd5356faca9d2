"""Complete methods: is a small ReLU network robust around an image? They decide, image by image.

- linf: mixed-integer programming with an exact encoding of each ReLU, as in Tjeng, Xiao & Tedrake
  2019, https://arxiv.org/abs/1711.07356, section 4, solved by HiGHS.
- l2: enumeration of activation patterns. In each the network is linear, and the nearest point that
  is misclassified is one of a polytope: a least-distance problem, solved by non-negative least
  squares as in Lawson & Hanson, *Solving Least Squares Problems*, chapter 23.

Both leave room for rounding: what a verifier would let pass counts for the adversary in a proof of
robustness, and a proof of the contrary is an image that is misclassified by more than rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp, nnls
from torch import nn

from bench.verify.verifier import TOLERANCE

Array: TypeAlias = NDArray[np.float64]

Layers: TypeAlias = Sequence[tuple[Array, Array]]
"""Weights (out, in) and biases (out,) of linear layers; a ReLU lies between one and the next."""

SLACK = 1e-4
"""Difference of logits up to which neither verdict is given: rounding in float32 is far smaller."""

Verdict = Literal["robust", "broken", "open"]


@dataclass(frozen=True, eq=False)
class Proof:
    """What is proved of one image.

    Attributes:
        verdict: ``robust``: no point of the ball and the box is misclassified. ``broken``: the
            witness is. ``open``: the closest call is within rounding.
        witness: A misclassified point (n,) of ball and box, for ``broken``.
    """

    verdict: Verdict
    witness: Array | None = None


def layers_of(net: nn.Sequential) -> Layers:
    """Returns the linear layers of a network, in double precision.

    Raises:
        ValueError: When it is anything but linear layers with a ReLU between each two.
    """
    rest = [module for module in net if not isinstance(module, nn.Flatten)]
    kinds = [type(module) for module in rest]
    if kinds != [nn.Linear, nn.ReLU] * (len(rest) // 2) + [nn.Linear]:
        raise ValueError(f"expected linear layers with a ReLU between each two, found {kinds}")
    return [
        (module.weight.detach().double().numpy(), module.bias.detach().double().numpy())
        for module in rest
        if isinstance(module, nn.Linear)
    ]


def logits(layers: Layers, x: Array) -> Array:
    """Returns the logits (classes,) of a flat image (n,)."""
    for weight, bias in layers[:-1]:
        x = np.maximum(weight @ x + bias, 0)
    weight, bias = layers[-1]
    return weight @ x + bias


def prove_linf(layers: Layers, x: Array, y: int, eps: float) -> Proof:
    """Decides whether a point of the linf ball and the box is misclassified.

    Args:
        layers: The network.
        x: The image (n,), pixels in [0, 1].
        y: Its label.
        eps: The radius, in pixel units.
    """
    low = np.maximum(x - eps, 0) - TOLERANCE
    high = np.minimum(x + eps, 1) + TOLERANCE
    verdict: Verdict = "robust"
    for other in range(len(layers[-1][1])):
        if other == y:
            continue
        bound, point = most_violation(layers, low, high, y, other)
        if bound < -SLACK:
            continue
        verdict = "open"
        if point is not None:
            inside = point.clip(np.maximum(x - eps, 0), np.minimum(x + eps, 1))
            if _violation(layers, inside, y) > SLACK:
                return Proof("broken", inside)
    return Proof(verdict)


def most_violation(
    layers: Layers, low: Array, high: Array, y: int, other: int
) -> tuple[float, Array | None]:
    """Returns the most by which one class can surpass another in a box, and where.

    A ReLU ``a = max(z, 0)`` of which the sign of z is not known, ``l <= z <= u``, has a binary d:
    ``a >= 0``, ``a >= z``, ``a <= u d``, ``a <= z - l (1 - d)``.

    Args:
        layers: The network.
        low: Lowest value of each pixel (n,).
        high: Highest value.
        y: The class whose logit is subtracted.
        other: The class to which it is compared.

    Returns:
        An upper bound of the logits' difference, at most a ten-thousandth above it, and a point
        (n,) at which it is nearly reached; ``None`` where interval arithmetic shows that there is
        none above zero.
    """
    ranges = list(_ranges(layers, low, high))
    weight, bias = layers[-1]
    slope, offset = weight[other] - weight[y], float(bias[other] - bias[y])
    last_low, last_high = ranges[-1]
    surely = np.where(slope > 0, slope * last_high, slope * last_low).sum() + offset
    if surely < -SLACK:
        return float(surely), None
    n = len(low)
    total = n + 2 * sum(len(b) for _, b in layers[:-1])
    least, most, whole = np.zeros(total), np.zeros(total), np.zeros(total, np.int64)
    least[:n], most[:n] = low, high
    parts: list[LinearConstraint] = []
    before, start = slice(0, n), n
    for (w, b), (z_low, z_high) in zip(layers[:-1], _before_relu(layers, low, high), strict=True):
        m = len(b)
        a, d = slice(start, start + m), slice(start + m, start + 2 * m)
        least[a], most[a] = 0, np.maximum(z_high, 0)
        least[d], most[d], whole[d] = z_low >= 0, z_high > 0, 1
        above, below, off = np.zeros((3, m, total))
        above[:, a] = below[:, a] = off[:, a] = np.eye(m)
        above[:, before] = below[:, before] = -w
        below[:, d] = -np.diag(np.minimum(z_low, 0))
        off[:, d] = -np.diag(np.maximum(z_high, 0))
        parts += [
            LinearConstraint(above, b, np.inf),
            LinearConstraint(below, -np.inf, b - np.minimum(z_low, 0)),
            LinearConstraint(off, -np.inf, 0),
        ]
        before, start = a, start + 2 * m
    cost = np.zeros(total)
    cost[before] = -slope
    found = milp(cost, integrality=whole, bounds=Bounds(least, most), constraints=parts)
    if found.status != 0:
        raise ArithmeticError(f"HiGHS did not solve a problem of {total} columns: {found.message}")
    bound = float(found.fun) if found.mip_dual_bound is None else float(found.mip_dual_bound)
    return offset - min(bound, float(found.fun)), np.asarray(found.x[:n])


def prove_l2(layers: Layers, x: Array, y: int, eps: float) -> Proof:
    """Decides whether a point of the l2 ball and the box is misclassified.

    Args:
        layers: The network.
        x: The image (n,), pixels in [0, 1].
        y: Its label.
        eps: The radius, in pixel units.
    """
    n, radius = len(x), eps + TOLERANCE
    box = np.concatenate([np.eye(n), -np.eye(n)])
    edges = np.concatenate([-x, x - 1]) - TOLERANCE
    weight, bias = layers[-1]
    verdict: Verdict = "robust"
    for region in regions(layers[:-1], x, box, edges, radius):
        for other in range(len(bias)):
            if other == y:
                continue
            slope = (weight[other] - weight[y]) @ region.slope
            offset = (weight[other] - weight[y]) @ region.value + bias[other] - bias[y]
            sides = np.vstack([region.sides, slope])
            nearest, _ = least_distance(sides, np.append(region.ends, -offset - SLACK))
            if nearest > radius:
                continue
            verdict = "open"
            _, step = least_distance(sides, np.append(region.ends, -offset + 2 * SLACK))
            if step is not None:
                point = (x + step).clip(0, 1)
                near = float(np.linalg.norm(point - x)) <= eps
                if near and _violation(layers, point, y) > SLACK:
                    return Proof("broken", point)
    return Proof(verdict)


@dataclass(frozen=True, eq=False)
class Region:
    """Steps u (n,) from an image that share an activation pattern: ``sides @ u >= ends``.

    Attributes:
        sides: Normals (m, n).
        ends: Offsets (m,).
        slope: The last hidden layer's slope (width, n) in u.
        value: Its value (width,) at the image.
    """

    sides: Array
    ends: Array
    slope: Array
    value: Array


def regions(hidden: Layers, x: Array, sides: Array, ends: Array, radius: float) -> Iterator[Region]:
    """Yields the activation patterns of hidden layers that occur within a radius.

    A neuron whose sign is the same in the whole ball and box has that sign; one whose sign is not
    is given both, where a point nearer than the radius has it.

    Args:
        hidden: The hidden layers.
        x: The image (n,).
        sides: Normals (m, n) of what bounds the steps from it.
        ends: Offsets (m,).
        radius: Of the l2 ball.
    """
    reach = (np.maximum(-radius, -x - TOLERANCE), np.minimum(radius, 1 - x + TOLERANCE))

    def deeper(layer: int, at: Region) -> Iterator[Region]:
        if layer == len(hidden):
            yield at
            return
        weight, bias = hidden[layer]
        yield from choose(layer, at, weight @ at.slope, weight @ at.value + bias, 0)

    def choose(layer: int, at: Region, slope: Array, value: Array, i: int) -> Iterator[Region]:
        """Chooses the signs of a layer's neurons from the i-th on; those before are done."""
        if i == len(value):
            yield from deeper(layer + 1, Region(at.sides, at.ends, slope, value))
            return
        row, size = slope[i], radius * float(np.linalg.norm(slope[i]))
        least = value[i] + max(-size, float(np.minimum(row * reach[0], row * reach[1]).sum()))
        most = value[i] + min(size, float(np.maximum(row * reach[0], row * reach[1]).sum()))
        for active in (True, False):
            if (most if active else -least) < 0:
                continue
            inside = at
            if least < 0 < most:
                sign = 1.0 if active else -1.0
                cut = np.vstack([at.sides, sign * row]), np.append(at.ends, -sign * value[i])
                if least_distance(*cut)[0] > radius:
                    continue
                inside = Region(*cut, at.slope, at.value)
            kept = slope.copy(), value.copy()
            if not active:
                kept[0][i], kept[1][i] = 0, 0
            yield from choose(layer, inside, *kept, i + 1)

    yield from deeper(0, Region(sides, ends, np.eye(len(x)), x))


def least_distance(sides: Array, ends: Array) -> tuple[float, Array | None]:
    """Solves: the shortest u (n,) with ``sides @ u >= ends``.

    Args:
        sides: Normals (m, n).
        ends: Offsets (m,).

    Returns:
        A lower bound of the length, which the multipliers prove by themselves (weak duality), so
        that it holds however well the solver did; it is huge where no u exists. And the u, or
        ``None`` where there is none.
    """
    sizes = np.linalg.norm(sides, axis=1)
    sizes = np.where(sizes > 0, sizes, 1.0)
    sides, ends = sides / sizes[:, None], ends / sizes
    wanted = np.append(np.zeros(sides.shape[1]), 1.0)
    multipliers, _ = nnls(np.vstack([sides.T, ends]), wanted)
    pull = sides.T @ multipliers
    push = float(ends @ multipliers)
    lower = max(push, 0.0) / max(float(np.linalg.norm(pull)), 1e-300)
    return lower, pull / (1 - push) if 1 - push > 1e-9 else None


def _ranges(layers: Layers, low: Array, high: Array) -> Iterator[tuple[Array, Array]]:
    """Yields the ranges of what enters each linear layer, by interval arithmetic."""
    yield low, high
    for z_low, z_high in _before_relu(layers, low, high):
        yield np.maximum(z_low, 0), np.maximum(z_high, 0)


def _before_relu(layers: Layers, low: Array, high: Array) -> Iterator[tuple[Array, Array]]:
    """Yields the ranges of what enters each ReLU, by interval arithmetic."""
    for weight, bias in layers[:-1]:
        up, down = weight.clip(min=0), weight.clip(max=0)
        low, high = up @ low + down @ high + bias, up @ high + down @ low + bias
        yield low, high
        low, high = np.maximum(low, 0), np.maximum(high, 0)


def _violation(layers: Layers, x: Array, y: int) -> float:
    """Returns by how much the highest other logit surpasses the label's."""
    z = logits(layers, x)
    return float(np.delete(z, y).max() - z[y])
