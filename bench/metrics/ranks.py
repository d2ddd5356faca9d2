"""Ranks that tell apart only what the data tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.core.result import Cluster, Row
from bench.metrics.paired import paired_difference


@dataclass(frozen=True)
class Contender:
    """What stands in a ranking.

    Attributes:
        rows: Its rows.
        cluster: What is independent of what.
        upper_bound: Whether its accuracy is one, as of a worst case over some of the attacks. Then
            it may be shown to be worse than others, and never to be better.
    """

    rows: Sequence[Row]
    cluster: Cluster
    upper_bound: bool = False


def ranks(contenders: Sequence[Contender]) -> list[int]:
    """Returns for each contender 1 plus the number of those that are shown to be better.

    What shows it is the paired difference on the same samples (``paired_difference``), without a
    correction for the number of pairs. Contenders that no difference tells apart may share a rank.

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


def _shown(one: Contender, other: Contender) -> int:
    """Returns 1 or -1 where one is shown to be more, or less, robust than the other, else 0."""
    flipped = _n_clusters(other) < _n_clusters(one)
    # The coarser batches are the clusters: those of the other lie inside them.
    first, second = (other, one) if flipped else (one, other)
    verdict = paired_difference(first.rows, second.rows, first.cluster).verdict
    sign = {"higher": 1, "lower": -1}.get(verdict, 0)
    return -sign if flipped else sign


def _n_clusters(contender: Contender) -> int:
    if contender.cluster == "sample":
        return len(contender.rows)
    return len({row.batch for row in contender.rows})
