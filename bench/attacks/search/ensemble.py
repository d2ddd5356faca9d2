"""Several searches in a row, each on the images that the ones before left right."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bench.attacks.search.images import Images, appraise, whole_batch
from bench.oracle import Oracle

Part = Callable[[Images, torch.Generator], Tensor]
"""Returns candidates (n, c, h, w) for the images it is given."""


def in_a_row(oracle: Oracle, x: Tensor, y: Tensor, parts: Sequence[Part], seed: int) -> Tensor:
    """Returns for each image the most harmful candidate (b, c, h, w) of all parts, or x itself.

    That is the one with the fewest draws right, then the one with the highest margin, measured on
    draws that no part has seen. A part runs on the images of which any such draw is right; on a
    deterministic model those are the unbroken ones. Where images share statistics, each part runs
    on the whole batch, and the best whole batch is returned.
    """
    images = whole_batch(x, y)
    best = appraise(oracle, images, x.clone())
    seeds = torch.Generator().manual_seed(seed)
    for part in parts:
        generator = torch.Generator()
        generator.manual_seed(int(torch.randint(2**31, (), generator=seeds)))
        left = (best.correct > 0).nonzero()[:, 0]
        if not len(left):
            break
        left = images.rows if oracle.coupled else left
        some = images.pick(left)
        best.offer(appraise(oracle, some, part(some, generator)), left, oracle.coupled)
    return best.x_adv
