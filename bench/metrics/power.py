"""What a paired comparison could have seen."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import scipy  # imports its parts, which takes a while, only when they are asked for


def fewest_losses(alpha: float) -> int:
    """Returns how many samples must be lost, and none gained, for McNemar's p to be below alpha."""
    return 1 + math.ceil(-math.log2(alpha))


def drop_power(n: int, drop: float, noise: float, alpha: float) -> float:
    """Returns the probability that McNemar's exact test finds a drop.

    Samples are lost with probability ``drop + noise`` and gained with probability ``noise``,
    independently; the number that flips and the share of losses among them are exact.

    Args:
        n: Number of pairs, at least 1.
        drop: Of the accuracy, in [0, 1].
        noise: Share of samples that flip either way without any drop, in [0, (1 - drop) / 2].
        alpha: Level of the two-sided test.
    """
    flips = drop + 2 * noise
    if flips <= 0:
        return 0.0
    least, most = _likely(n, flips)
    share = (drop + noise) / flips
    total = 0.0
    for m in range(max(least, 1), most + 1):
        gained = np.arange(m // 2 + 1)
        found = gained[2 * scipy.special.bdtr(gained, m, 0.5) <= alpha]
        if found.size:
            here = float(scipy.special.bdtr(m, n, flips)) - float(
                scipy.special.bdtr(m - 1, n, flips)
            )
            total += here * float(scipy.special.bdtr(int(found[-1]), m, 1 - share))
    return min(1.0, total)


@lru_cache(maxsize=4096)
def detectable_drop(n: int, noise: float, alpha: float, power: float = 0.9) -> float | None:
    """Returns the least drop that is found with this power, to a tenth of a sample.

    Args:
        n: Number of pairs, at least 1.
        noise: As ``drop_power`` takes it.
        alpha: Likewise.
        power: Wanted probability, in (0, 1).

    Returns:
        The drop in [0, 1], or ``None`` where even a total loss would not be found.
    """
    low, high = 0.0, max(0.0, 1 - 2 * noise)
    if drop_power(n, high, noise, alpha) < power:
        return None
    while high - low > 0.1 / n:
        middle = (low + high) / 2
        found = drop_power(n, middle, noise, alpha) >= power
        low, high = (low, middle) if found else (middle, high)
    return high


def _likely(n: int, share: float) -> tuple[int, int]:
    """Returns a range that a binomial count leaves with a probability of less than 1e-9."""
    spread = 7 * math.sqrt(n * share * (1 - share)) + 7
    return max(0, math.floor(n * share - spread)), min(n, math.ceil(n * share + spread))
