"""Common corruptions as cells: images that nobody chose to be hard. No oracle is asked.

Source: Hendrycks & Dietterich 2019, https://arxiv.org/abs/1903.12261. The images are made, or read
from the published files, in ``bench.data.corruptions``.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bench.attacks.base import Budget
from bench.attacks.declared import CorruptionParams
from bench.core.errors import UserError
from bench.core.spec import digest
from bench.data.corruptions import corrupt, read_published
from bench.oracle import Oracle


def corruption(
    oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: CorruptionParams, seed: int
) -> Tensor:
    """Returns corrupted images (b, c, h, w), 8 bits a value.

    What is random in an image follows from the cell's seed and the image's position in its split,
    so that it is corrupted alike in any batch, slice and model. The budget is of no meaning.
    """
    rules = oracle.rules
    index = np.array(rules.index or range(len(x)), np.int64)
    if params.folder:
        found = read_published(params.folder, params.name, params.severity)
        if found.sha256() != params.sha256:
            raise UserError(f"{found.path}: changed since the run was planned; run it again")
        images = found.take(index, y.cpu().numpy())
        if images.shape != tuple(x.shape):
            raise UserError(
                f"{found.path}: expected images of shape {tuple(x.shape[1:])}, found "
                f"{images.shape[1:]}"
            )
        return torch.from_numpy(images).to(x.device)
    clean = x.cpu().numpy()
    made = [
        corrupt(image, params.name, params.severity, _seed(rules.cell_seed, int(i), params))
        for image, i in zip(clean, index, strict=True)
    ]
    return torch.from_numpy(np.stack(made)).to(x.device)


def _seed(seed: int, index: int, params: CorruptionParams) -> int:
    return int(digest([seed, index, params.name, params.severity], 15), 16)
