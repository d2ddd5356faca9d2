"""Facts about the norms of threat models that need no tensors.

The geometry of each norm's ball, which computes with tensors, is in ``bench.attacks.ball``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from bench.core.errors import UserError

Norm = Literal["linf", "l2", "l1"]
"""The norms of threat models, as suites, code and tables write them."""

NORMS: tuple[Norm, ...] = get_args(Norm)

LIBRARY_NORMS: tuple[Norm, ...] = ("linf", "l2")
"""Norms in which attacks of other libraries are served. AutoAttack by its authors serves l1 too."""


@dataclass(frozen=True)
class NormFacts:
    """What suites, tables and libraries need to know about a norm.

    Attributes:
        order: The exponent p; ``inf`` for linf.
        capital: The name that AutoAttack, torchattacks and RobustBench use.
        per_pixel: Whether eps bounds each pixel by itself. Only then is an eps or a step size
            above 1 meaningless, may channels have radii of their own, and can eps be given in
            normalized units.
        steepest: The direction of steepest ascent, in words.
    """

    order: float
    capital: str
    per_pixel: bool
    steepest: str

    def diameter(self, n_values: int) -> float:
        """Returns the distance between an all-black and an all-white image.

        A ball with a larger radius contains every image.

        Args:
            n_values: Number of values of an image, c * h * w.
        """
        return float(n_values ** (1 / self.order))

    @property
    def dual_order(self) -> float:
        """The exponent q of the dual norm: 1 / p + 1 / q = 1."""
        if self.order == 1:
            return math.inf
        return 1.0 if math.isinf(self.order) else self.order / (self.order - 1)


_FACTS: dict[str, NormFacts] = {
    "linf": NormFacts(
        order=math.inf,
        capital="Linf",
        per_pixel=True,
        steepest="sign of the gradient",
    ),
    "l2": NormFacts(
        order=2.0,
        capital="L2",
        per_pixel=False,
        steepest="gradient",
    ),
    "l1": NormFacts(
        order=1.0,
        capital="L1",
        per_pixel=False,
        steepest="signs of the largest entries of the gradient",
    ),
}


def norm_facts(norm: str) -> NormFacts:
    """Returns the facts about a norm.

    Raises:
        UserError: When threat models do not know the norm.
    """
    if norm not in _FACTS:
        raise UserError(f"expected norm {' or '.join(NORMS)}, found '{norm}'")
    return _FACTS[norm]
