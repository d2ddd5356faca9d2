"""Initial weights from a seed; ``bench.attacks.randomness`` seeds attacks of others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def weights_seeded(seed: int) -> Iterator[None]:
    """Draws initial weights on the CPU from ``seed`` and gives the global generator back untouched.

    ``torch.manual_seed`` would seed every GPU's generator too, and leave it so.
    """
    before = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(before)
