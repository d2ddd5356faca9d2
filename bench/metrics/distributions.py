"""Quantiles and a test from scipy's special functions: to import its ``stats`` takes a second."""

from __future__ import annotations

import math

import scipy  # imports its parts, which takes a while, only when they are asked for


def normal_quantile(p: float) -> float:
    """Returns the point below which a standard normal variable lies with probability p."""
    return float(scipy.special.ndtri(p))


def student_quantile(p: float, df: float) -> float:
    """Returns the same of Student's t with ``df`` degrees of freedom."""
    return float(scipy.special.stdtrit(df, p))


def binomial_quantile(p: float, n: int, share: float) -> int:
    """Returns the least k of which at most k of n trials succeed with probability p or more."""
    k = math.ceil(float(scipy.special.bdtrik(p, n, share)))
    while k > 0 and float(scipy.special.bdtr(k - 1, n, share)) >= p:
        k -= 1
    return max(k, 0)


def sign_test(k: int, n: int) -> float:
    """Returns the two-sided p-value of k of n fair trials, exact; 1 for no trial."""
    if n == 0:
        return 1.0
    return min(1.0, 2 * float(scipy.special.bdtr(min(k, n - k), n, 0.5)))
