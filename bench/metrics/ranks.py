"""Ranks in which results tie unless a paired difference is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from bench.core.result import Cluster, Row
from bench.metrics.accuracy import robust_scores
from bench.metrics.paired import paired_difference


@dataclass(frozen=True)
class Contender:
    """One result in a ranking.

    Attributes:
        rows: The rows of the result.
        cluster: The independent sampling unit: samples or batches.
        upper_bound: Whether its accuracy is only an upper bound, such as a worst case over some of
            the attacks; it may then rank below others, but never pushes another one down.
    """

    rows: Sequence[Row]
    cluster: Cluster
    upper_bound: bool = False


def ranks(contenders: Sequence[Contender]) -> list[int]:
    """Returns each contender's rank: 1 plus the number of contenders shown to be better.

    Contenders are compared by ``paired_difference`` on the same samples, without a correction for
    the number of comparisons; those not shown to differ may share a rank.

    Raises:
        UserError: When they do not hold the same samples.
    """
    better = [0] * len(contenders)
    for i, one in enumerate(contenders):
        for j, other in enumerate(contenders[:i]):
            sign = _shown(one, other)
            if sign > 0 and not one.upper_bound:
                better[j] += 1
            if sign < 0 and not other.upper_bound:
                better[i] += 1
    return [1 + n for n in better]


def leaders(contenders: Sequence[Contender]) -> list[bool]:
    """Returns which contenders have the best accuracy, or are not shown to be lower than it.

    Each is compared with the best by ``paired_difference`` on the same samples, as for ``ranks``.

    Raises:
        UserError: When they do not hold the same samples.
    """
    values = [fmean(robust_scores(one.rows)) for one in contenders]
    if not values:
        return []
    top = max(values)
    best = contenders[values.index(top)]
    return [
        value == top or _shown(best, one) <= 0
        for value, one in zip(values, contenders, strict=True)
    ]


def _shown(one: Contender, other: Contender) -> int:
    """Returns 1 if the first is shown to be more robust, -1 if less, 0 otherwise."""
    flipped = _n_clusters(other) < _n_clusters(one)
    # Cluster by the coarser batches, which contain those of the other.
    first, second = (other, one) if flipped else (one, other)
    verdict = paired_difference(first.rows, second.rows, first.cluster).verdict
    sign = {"higher": 1, "lower": -1}.get(verdict, 0)
    return -sign if flipped else sign


def _n_clusters(contender: Contender) -> int:
    if contender.cluster == "sample":
        return len(contender.rows)
    return len({row.batch for row in contender.rows})
