"""Tests of "nothing has changed": paired on the same samples, unpaired, and several at once."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy  # imports its parts, which takes a while, only when they are asked for
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

    Without a change it is as likely that a sample's score went up as that it went down by the same
    amount, so all signs of the differences are equally likely (R. A. Fisher, "The Design of
    Experiments", 1935, section 21): the test is exact. Of scores that are right or wrong it is
    McNemar's (Psychometrika 12, 1947).

    Where samples come in groups that are not independent, Student's t of the groups must agree, its
    variance taken no smaller than that of independent samples: the larger p counts.

    Args:
        before: Draws that were right of each sample (n,), 0 to ``n_draws``.
        now: The same of the other result.
        n_draws: Draws of each sample; 1 for a deterministic model.
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
    """Returns how likely a sum at least as far from 0 is if every sign is a fair coin's; exact.

    The sum of the positive parts is distributed as a sum of binomials, one for each size of
    difference, which is added up without approximation.
    """
    sizes = Counter(abs(d) for d in deltas if d)
    total, observed = sum(size * n for size, n in sizes.items()), abs(sum(deltas))
    if observed == 0:
        return 1.0
    ways = np.ones(1)
    for size, n in sizes.items():
        longer = np.zeros(ways.size + size * n)
        k = np.arange(n + 1)
        # From logarithms, as the number of ways is beyond a float from about 1,000 samples on.
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

    Scores that are right or wrong, of independent samples: Fisher's exact test. Else Welch's t
    (Biometrika 34, 1947) with the variance between groups, no smaller than that of independent
    samples.

    Args:
        before: Draws that were right of each sample (n,), 0 to ``n_draws``.
        now: The same of the other result (m,), of other samples or of another model.
        n_draws: Draws of each sample.
        groups: Of each result, the group of each sample; ``None`` if samples are independent.
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
    """Returns the variance of a mean and the number of independent parts; ``None`` for one."""
    if groups is None:
        return (float(x.var(ddof=1)) / x.size, x.size) if x.size > 1 else None
    between = cluster_variance(x, groups)
    if between.k == 1:
        return None
    return max(between.variance, float(x.var(ddof=1)) / x.size), between.k


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values adjusted so that all tests together err with probability alpha at most.

    S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statistics 6
    (1979). The tests need not be independent.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted
