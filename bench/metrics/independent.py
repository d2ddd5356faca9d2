"""The difference between two results on different samples, such as a paper's and ours."""

from __future__ import annotations

import math

from bench.metrics.estimate import Estimate


def independent_difference(first: Estimate, second: Estimate) -> Estimate:
    """Returns how much larger one independent proportion is than another, with its interval.

    The interval is made from the two proportions' own (R. G. Newcombe, "Interval estimation for
    the difference between independent proportions", Statistics in Medicine 17, 1998, method 10),
    and so holds for clustered samples as far as theirs do.

    Returns:
        The difference in [-1, 1]; without interval where one of the two has none. ``n`` is that of
        the smaller sample.
    """
    value = first.value - second.value
    n = min(first.n, second.n)
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return Estimate(value, None, None, n, "no interval: one of the two numbers has none")
    low = value - math.hypot(first.value - first.low, second.high - second.value)
    high = value + math.hypot(first.high - first.value, second.value - second.low)
    return Estimate(value, low, high, n, "Newcombe's from both intervals")
