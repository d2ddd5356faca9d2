"""Where restarts begin, and which classes they aim at."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from bench.attacks.base import Budget
from bench.attacks.common import ascent_direction, project, rim, weights
from bench.attacks.search.images import Images, ask, starts, top_targets
from bench.oracle import Oracle, margin

OUTPUT_STEPS = 2
"""Steps from a random point to a diversified one; the source's number."""

N_RANKED = 9
"""Classes whose distances are compared: those with the highest logits."""

TINY = 1e-12


def diversified_starts(
    oracle: Oracle, images: Images, budget: Budget, generator: torch.Generator
) -> Tensor:
    """Returns points (n, c, h, w) of the balls at which the model says different things.

    From a random point, steps as long as the radius climb a random mix of the logits, with weights
    from [-1, 1]. Costs ``2 * OUTPUT_STEPS`` passes.

    Source: Tashiro et al. 2020, https://arxiv.org/abs/2003.06878, section 3.

    Args:
        oracle: What is attacked.
        images: Without targets.
        budget: The ball.
        generator: Of all randomness; drawn for the whole batch, whoever is left.
    """
    drawn = torch.rand(oracle.batch, oracle.n_classes, generator=generator) * 2 - 1
    mix = drawn.to(images.x)

    def mixed(logits: Tensor, y: Tensor, row: Tensor | None) -> Tensor:
        assert row is not None
        return (mix[row] * logits).sum(1)

    x_start = starts(oracle, images, budget, generator)
    size = rim(budget, x_start)
    by_row = replace(images, target=images.rows)  # tells the loss whose weights to take
    for _ in range(OUTPUT_STEPS):
        grad = ask(oracle, by_row, x_start, mixed).grad
        assert grad is not None
        ahead = ascent_direction(grad, budget).mul_(size).add_(x_start)
        x_start = project(ahead, images.x, budget, spend=True)
    return x_start


def nearest_targets(oracle: Oracle, images: Images, x: Tensor, budget: Budget, k: int) -> Tensor:
    """Returns the wrong classes (n, k) whose boundaries are nearest to x (n, c, h, w), in order.

    Nearest in the budget's norm, of the model linearized at x: a class with a low logit may have a
    steep one. Where the gradient vanishes the order is that of the logits. Costs a pass, and two
    for each of at most ``N_RANKED`` classes.
    """
    ranked = top_targets(oracle, replace(images, x=x), N_RANKED)
    answer = ask(oracle, images.aimed(ranked), x.repeat(ranked.shape[1], 1, 1, 1), margin)
    assert answer.grad is not None
    slope = (answer.grad * weights(x, budget)).flatten(1)
    order = 1.0 if budget.norm == "linf" else 2.0
    steepness: Tensor = torch.linalg.vector_norm(slope, order, dim=1)
    distance = (-answer.loss / steepness.clamp(min=TINY)).view(-1, len(images)).T
    return ranked.gather(1, distance.argsort(dim=1, stable=True)[:, :k])
