"""Tests of the hypothesis of no change: paired, unpaired, and corrected for several tests."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import scipy  # its submodules are slow to import and load on first use
from numpy.typing import NDArray

from bench.metrics.estimate import ONE_CLUSTER, cluster_variance


class Tested(NamedTuple):
    """Outcome of a test.

    Attributes:
        p: Two-sided p-value; ``None`` where the data allow no test.
        method: Which test, or why there is none.
    """

    p: float | None
    method: str


def paired_test(
    before: Sequence[int], now: Sequence[int], n_draws: int, groups: Sequence[int] | None = None
) -> Tested:
    """Tests whether the mean score of the same samples has changed.

    Under the hypothesis of no change all signs of the differences are equally likely (R. A. Fisher,
    "The Design of Experiments", 1935, section 21), so the test is exact. For binary scores it is
    McNemar's (Psychometrika 12, 1947).

    Where samples within a group are not independent, the p-value is the larger of this one and that
    of Student's t between groups, its variance taken no smaller than that of independent samples.

    Args:
        before: Number of correct draws of each sample (n,), 0 to ``n_draws``.
        now: Likewise, in the other result.
        n_draws: Draws per sample; 1 for a deterministic model.
        groups: Group of each sample (n,); ``None`` if samples are independent.
    """
    delta = np.asarray(now, dtype=np.int64) - np.asarray(before, dtype=np.int64)
    method = "McNemar, exact" if n_draws == 1 else f"signs of {n_draws} draws' means, exact"
    p = sign_flip_test(delta.tolist())
    if groups is None or len(set(groups)) == len(groups):
        return Tested(p, method)
    if not delta.any():
        return Tested(1.0, method)
    return _grouped(delta / n_draws, groups, p, method)


def _grouped(delta: NDArray[np.float64], groups: Sequence[int], p: float, method: str) -> Tested:
    between = cluster_variance(delta, groups)
    if between.k == 1:
        return Tested(None, ONE_CLUSTER.replace("interval", "test"))
    independent = float(delta.var(ddof=1)) / delta.size
    spread = max(between.variance, independent)
    t = abs(float(delta.mean())) / math.sqrt(spread) if spread else math.inf
    clustered = 2 * float(scipy.special.stdtr(between.k - 1, -t))
    return Tested(max(p, clustered), f"{method}, and Student's t of {between.k} batches")


def sign_flip_test(deltas: Sequence[int]) -> float:
    """Returns the exact probability of a sum at least as far from 0 under random signs.

    The sum of the positive parts is distributed as a weighted sum of binomials, one for each
    absolute difference; its distribution is computed without approximation.
    """
    sizes = Counter(abs(d) for d in deltas if d)
    total, observed = sum(size * n for size, n in sizes.items()), abs(sum(deltas))
    if observed == 0:
        return 1.0
    ways = np.ones(1)
    for size, n in sizes.items():
        longer = np.zeros(ways.size + size * n)
        k = np.arange(n + 1)
        # By logarithms: the number of combinations overflows a float from about 1,000 samples on.
        log = (
            scipy.special.gammaln(n + 1)
            - scipy.special.gammaln(k + 1)
            - scipy.special.gammaln(n - k + 1)
        )
        for i, weight in enumerate(np.exp(log - n * math.log(2))):
            longer[i * size : i * size + ways.size] += weight * ways
        ways = longer
    # The sum is 2 * positive - total.
    least = (total + observed + 1) // 2
    return min(1.0, 2 * float(ways[least:].sum()))


def unpaired_test(
    before: Sequence[int],
    now: Sequence[int],
    n_draws: int,
    groups: tuple[Sequence[int] | None, Sequence[int] | None] = (None, None),
) -> Tested:
    """Tests whether two independent results have the same mean score.

    Binary scores of independent samples are compared by Fisher's exact test; all others by Welch's
    t (Biometrika 34, 1947) with the variance between groups, taken no smaller than that of
    independent samples.

    Args:
        before: Number of correct draws of each sample (n,), 0 to ``n_draws``.
        now: Likewise (m,), of other samples or of another model.
        n_draws: Draws per sample.
        groups: For each result, the group of each sample; ``None`` if samples are independent.
    """
    a, b = (np.asarray(hits, dtype=np.float64) / n_draws for hits in (before, now))
    if n_draws == 1 and groups == (None, None):
        from scipy.stats import fisher_exact  # takes a second to import

        table = np.array([[int(x.sum()), int(x.size - x.sum())] for x in (a, b)])
        return Tested(float(fisher_exact(table).pvalue), "Fisher, exact, unpaired")
    parts = [_mean_variance(x, of) for x, of in zip((a, b), groups, strict=True)]
    if any(part is None for part in parts):
        return Tested(None, ONE_CLUSTER.replace("interval", "test"))
    (v, k), (w, m) = (part for part in parts if part is not None)
    gap = abs(float(a.mean() - b.mean()))
    if v + w == 0:
        return Tested(1.0 if gap == 0 else 0.0, "Welch's t, unpaired")
    freedom = (v + w) ** 2 / (v**2 / (k - 1) + w**2 / (m - 1))
    p = 2 * float(scipy.special.stdtr(freedom, -gap / math.sqrt(v + w)))
    return Tested(p, "Welch's t, unpaired")


def _mean_variance(
    x: NDArray[np.float64], groups: Sequence[int] | None
) -> tuple[float, int] | None:
    """Returns the variance of a mean and the number of independent units; ``None`` for one."""
    if groups is None:
        return (float(x.var(ddof=1)) / x.size, x.size) if x.size > 1 else None
    between = cluster_variance(x, groups)
    if between.k == 1:
        return None
    return max(between.variance, float(x.var(ddof=1)) / x.size), between.k


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values adjusted to control the family-wise error rate.

    S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statistics 6
    (1979). The tests need not be independent.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def fewest_losses(alpha: float) -> int:
    """Returns the fewest losses, without gains, for which McNemar's p is below alpha."""
    return 1 + math.ceil(-math.log2(alpha))


def drop_power(n: int, drop: float, noise: float, alpha: float) -> float:
    """Returns the power of McNemar's exact test to find a drop in accuracy.

    Each sample is lost with probability ``drop + noise`` and gained with probability ``noise``,
    independently; the power is computed from the exact distributions.

    Args:
        n: Number of pairs, at least 1.
        drop: Drop of the accuracy, in [0, 1].
        noise: Share of samples that flip in each direction anyway, in [0, (1 - drop) / 2].
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
    """Returns the smallest drop that is found with a given power, to a tenth of a sample.

    Args:
        n: Number of pairs, at least 1.
        noise: As for ``drop_power``.
        alpha: As for ``drop_power``.
        power: Required power, in (0, 1).

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
    """Returns a range outside which a binomial count falls with probability below 1e-9."""
    spread = 7 * math.sqrt(n * share * (1 - share)) + 7
    return max(0, math.floor(n * share - spread)), min(n, math.ceil(n * share + spread))
