"""How an oracle may be asked."""

from __future__ import annotations

from dataclasses import dataclass

from bench.core.cell import Adversary, Eot


@dataclass(frozen=True)
class Access:
    """How an oracle may be asked, and how it answers.

    Attributes:
        stochastic: Whether passes draw at random.
        batch_dependent: Whether images of a batch share statistics.
        eot_iter: Draws over which losses and gradients are averaged, at least 1.
        eot: How, see ``bench.core.cell``; other than ``plain`` for a model with RNA layers only.
        adversary: Of a batch-dependent model, see ``bench.core.cell``.
        max_pass: Most images in one pass; larger queries are cut, which never changes a result.
            Passes are smaller where that is faster, or where memory does not suffice.
        seed: Of the draws.
        fast: Whether queries may run in a lower precision where the device gains by it.
        passes_ahead: Passes that the search may take in all, over all its images: many are worth
            a compilation.
    """

    stochastic: bool = False
    batch_dependent: bool = False
    eot_iter: int = 1
    eot: Eot = "plain"
    adversary: Adversary = "joint"
    max_pass: int = 1024
    seed: int = 0
    fast: bool = False
    passes_ahead: float = 0.0
