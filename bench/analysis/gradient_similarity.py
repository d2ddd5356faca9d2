"""Do two models' losses grow in the same direction? Cosine similarity of input gradients.

Source: Random Normalization Aggregation, Dong et al., NeurIPS 2022, sections 3.3 and 4, figure 3.
"""

from __future__ import annotations

from itertools import combinations

import pandas as pd
import torch
from torch import Tensor

from bench.analysis.declared import GRADIENT_SIMILARITY
from bench.analysis.scene import Scene
from bench.oracle import cross_entropy


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Returns the cosine similarity of gradients (n, ...) image by image (n,), in float64.

    It is not a number where a gradient is 0 everywhere: then there is no direction.
    """
    a, b = a.flatten(1).double(), b.flatten(1).double()
    products: Tensor = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))
    return products.clamp(-1, 1)


def gradients(scene: Scene, subject: int) -> Tensor:
    """Returns the input gradients (n, c, h, w) of a subject, averaged over its draws."""
    parts = []
    for batch in scene.batches(subject):
        oracle = scene.oracle(subject, batch)
        grad = oracle.query(batch.x, batch.y, cross_entropy).grad
        assert grad is not None
        parts.append(grad.cpu())
    return torch.cat(parts)


def run(scene: Scene) -> pd.DataFrame:
    """Compares every pair of subjects on every image."""
    grads = [gradients(scene, i) for i in range(len(scene.targets))]
    index = scene.data.index.tolist()
    rows = [
        (i, j, place, cosine)
        for i, j in combinations(range(len(grads)), 2)
        for place, cosine in zip(index, cosines(grads[i], grads[j]).tolist(), strict=True)
    ]
    return pd.DataFrame(rows, columns=list(GRADIENT_SIMILARITY.columns))
