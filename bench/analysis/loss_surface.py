"""The loss around images, along the gradient and along a random direction orthogonal to it.

Source: Random Normalization Aggregation, Dong et al., NeurIPS 2022, section 3.3, figure 2.
"""

from __future__ import annotations

from typing import cast

import pandas as pd
import torch
from torch import Tensor

from bench.analysis.declared import LOSS_SURFACE, LossSurfaceParams
from bench.analysis.scene import Scene
from bench.attacks.ball import Ball, ball_of
from bench.evaluation.cell import Batch
from bench.oracle import cross_entropy


def directions(grad: Tensor, ball: Ball, seed: int) -> tuple[Tensor, Tensor]:
    """Returns two orthogonal directions (n, c, h, w) for each image: up the loss, and random.

    Args:
        grad: (n, c, h, w).
        ball: The ball, in whose norm both are as long as eps.
        seed: Of the random direction.
    """
    generator = torch.Generator().manual_seed(seed)
    flat = grad.flatten(1).cpu().double()
    draws = torch.rand(flat.shape, generator=generator, dtype=torch.float64)
    up, random = (d.to(grad).view(grad.shape) for d in ball.orthogonal_directions(flat, draws))
    return up, random


def run(scene: Scene) -> pd.DataFrame:
    """Measures the surface of every subject: the mean over the slice's images."""
    params = cast(LossSurfaceParams, scene.params)
    rows = []
    for i in range(len(scene.targets)):
        losses = torch.cat([surface(scene, i, batch, params) for batch in scene.batches(i)], 2)
        means, n = losses.mean(2), losses.shape[2]
        deviations = losses.std(2) if n > 1 else torch.zeros_like(means)
        positions = params.positions()
        rows += [
            (i, u, v, float(means[a, b]), float(deviations[a, b]), n)
            for a, u in enumerate(positions)
            for b, v in enumerate(positions)
        ]
    return pd.DataFrame(rows, columns=list(LOSS_SURFACE.columns))


def surface(scene: Scene, subject: int, batch: Batch, params: LossSurfaceParams) -> Tensor:
    """Returns the losses (points, points, b) of a batch around its images, in float64.

    Every point is measured on the same draws. Pixels that would leave [0, 1] stay at its ends.
    """
    grad = scene.oracle(subject, batch).query(batch.x, batch.y, cross_entropy).grad
    assert grad is not None
    ball = ball_of(scene.budget(subject))
    up, random = directions(grad, ball, scene.seed(batch, "surface"))
    eps = ball.radius(grad)
    positions = params.positions()
    losses = []
    for u in positions:
        for v in positions:
            x = (batch.x + eps * (u * up + v * random)).clamp(0, 1)
            oracle = scene.oracle(subject, batch)
            with oracle.real_draws():  # a surrogate may give directions, never numbers
                found = oracle.query(x, batch.y, cross_entropy, grad=False)
            losses.append(found.loss.double().cpu())
    return torch.stack(losses).view(params.points, params.points, -1)
