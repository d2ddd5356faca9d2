"""The cells among which a check within a budget chooses: what they cost, and what they show."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from scipy import special

from bench.check.record import Key, Record, Recording
from bench.metrics.power import fewest_losses

POWER = 0.9
"""Probability with which a drop is to be found."""

LEAST_STRENGTH = 0.01
"""Of an attack, so that one that breaks nothing has a place in the order too."""


@dataclass(frozen=True)
class Option:
    """A cell that may be run.

    Attributes:
        record: It, in the baseline.
        cost: Seconds for an image.
        strength: Share of the images that any bounded attack on the model breaks that it breaks.
        right: Its accuracy in the baseline.
    """

    record: Record
    cost: float
    strength: float
    right: float

    @property
    def n(self) -> int:
        """Images that there are."""
        return len(self.record.index)

    @property
    def natural(self) -> bool:
        """Whether nothing is attacked."""
        return self.record.attack_kind == "none"

    def detectable(self, n: int, level: float) -> float:
        """Returns the least drop that ``n`` images show, in shares of them, or infinity.

        Of images in batches it is a guess: that no batch loses more than another. Then Student's t
        has the variance of independent images, but few batches ask for much of it.
        """
        least = detectable(n, level)
        if self.record.cluster == "sample":
            return least
        batches = -(-n // self.record.spec.batch_size)
        if batches < 2:
            return math.inf
        needed = float(special.stdtrit(batches - 1, level / 2)) ** 2
        return max(least, needed / (n + needed))

    def need(self, drop: float, level: float) -> int | None:
        """Returns how many images show a drop of what any attack breaks; ``None`` for none do.

        Args:
            drop: In shares of the slice.
            level: Of the test.
        """
        # More than all that were right cannot be lost.
        least = min(drop * self.strength, self.right)
        if least <= 0 or self.detectable(self.n, level) > least:
            return None
        counts = range(1, self.n + 1)
        n = counts[bisect.bisect_left(counts, -least, key=lambda n: -self.detectable(n, level))]
        size = self.record.spec.batch_size if self.record.cluster == "batch" else 1
        return min(self.n, size * -(-n // size))

    def upto(self, n: int) -> int:
        """Returns the largest number of images, at most ``n``, that can be run: whole batches."""
        if self.record.cluster == "sample" or n >= self.n:
            return min(n, self.n)
        return n // self.record.spec.batch_size * self.record.spec.batch_size


@lru_cache(maxsize=65536)
def detectable(n: int, level: float) -> float:
    """Returns ``detectable_drop`` without noise in closed form, for searches.

    If images are only lost, the test finds a drop from a certain number of losses on; how many
    there are is binomial, whose inverse is that of the incomplete beta function.

    Returns:
        In [0, 1], or infinity where even a total loss would not be found.
    """
    losses = fewest_losses(level)
    return float(special.betaincinv(losses, n - losses + 1, POWER)) if n >= losses else math.inf


def options_of(baseline: Recording, costs: Mapping[Key, float]) -> list[list[Option]]:
    """Returns the cells that may be run, model by model."""
    models: dict[str, list[Record]] = {}
    for key, record in baseline.records.items():
        if key in costs:
            models.setdefault(record.model, []).append(record)
    found = []
    for records in models.values():
        broken = _broken_by_any(r for r in baseline.records.values() if r.model == records[0].model)
        found.append(
            [Option(r, costs[r.key], _strength(r, broken), r.accuracy.value) for r in records]
        )
    return found


def _broken_by_any(records: Iterable[Record]) -> dict[int, float]:
    """Returns the share of wrong draws of each image under the bounded attack that does best."""
    worst: dict[int, float] = {}
    for record in records:
        if record.attack_kind == "bounded":
            for i, score in zip(record.index, record.scores, strict=True):
                worst[i] = max(worst.get(i, 0.0), 1 - score)
    return worst


def _strength(record: Record, broken: Mapping[int, float]) -> float:
    total = sum(broken.get(i, 0.0) for i in record.index)
    if record.attack_kind == "none" or not total:
        return 1.0
    own = sum(
        min(1 - score, broken.get(i, 0.0))
        for i, score in zip(record.index, record.scores, strict=True)
    )
    return max(LEAST_STRENGTH, own / total)
