"""Accuracy of one RNA path on images crafted on another, by how many layers the two differ in.

Source: Random Normalization Aggregation, Dong et al., NeurIPS 2022, section 5.2, figure 5 (c).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import cast

import pandas as pd
import torch
from torch import Tensor

from bench.analysis.declared import PATH_DIFFERENCE, PathDifferenceParams
from bench.analysis.scene import Scene
from bench.core.analysis import AnalysisError
from bench.evaluation.cell import Batch
from bench.norms import find_paths, pinned
from bench.verify.scoring import predict_path


def path_ladder(
    sizes: Sequence[int], differences: Sequence[int], generator: torch.Generator
) -> tuple[Tensor, list[Tensor]]:
    """Draws a path (n_layers,), and for each number of layers one that differs in exactly so many.

    Each pair by itself is drawn uniformly from all pairs that differ in so many layers. The layers
    that differ in a pair differ in all later ones too, so that numbers are compared on the same
    draws.

    Args:
        sizes: Number of branches of each layer, at least 2.
        differences: Numbers of layers, from 0 to all.
        generator: Source of randomness.
    """
    path = torch.stack([torch.randint(size, (), generator=generator) for size in sizes])
    steps = torch.stack([torch.randint(1, size, (), generator=generator) for size in sizes])
    other = (path + steps) % torch.tensor(sizes)
    rank = torch.randperm(len(sizes), generator=generator)
    return path, [torch.where(rank < d, other, path) for d in differences]


def run(scene: Scene) -> pd.DataFrame:
    """Attacks one path of each pair, and scores the others on the same images."""
    params = cast(PathDifferenceParams, scene.params)
    rows = []
    for i, target in enumerate(scene.targets):
        paths = find_paths(target.model)
        if paths is None or paths.scope != "layer" or min(paths.sizes) < 2:
            raise AnalysisError("expected layers that each draw one of several norms (rna)")
        generator = torch.Generator().manual_seed(scene.spec.seed)
        n_layers = len(paths.sizes)
        differences = sorted({*range(0, n_layers + 1, params.step), n_layers})
        for pair in range(params.pairs):
            attacked, scored = path_ladder(paths.sizes, differences, generator)
            right = torch.zeros(len(differences), dtype=torch.int64)
            for batch in scene.batches(i):
                right += torch.tensor(list(_right(scene, i, batch, attacked, scored)))
            n = len(scene.data.y)
            for d, path, k in zip(differences, scored, right.tolist(), strict=True):
                rows.append((i, d, pair, k / n, n, _digits(attacked), _digits(path)))
    return pd.DataFrame(rows, columns=list(PATH_DIFFERENCE.columns))


def _right(
    scene: Scene, subject: int, batch: Batch, attacked: Tensor, scored: Sequence[Tensor]
) -> Iterator[int]:
    """Yields how many images of a batch, crafted on one path, are right on each of the others."""
    target = scene.targets[subject]
    # On a held path nothing is drawn, so there is nothing to average over either.
    held = {"protocol": "white_box", "eot_iter": 1, "eot": "plain"}
    cell = scene.spec.cell(subject).model_copy(update=held)
    with pinned(target.model, attacked):
        x_adv = scene.attacked(subject, batch, cell, replace(target, stochastic=False))
    for path in scored:
        yield int((predict_path(target.model, x_adv, path) == batch.y).sum())


def _digits(path: Tensor) -> str:
    return "".join(map(str, path.tolist()))
