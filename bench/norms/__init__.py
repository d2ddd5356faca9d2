"""Every normalization of both papers as modules, and their way into any model."""

from bench.norms.aggregation import (
    Paths,
    RandomNormAggregation,
    find_paths,
    mean_field,
    pinned,
)
from bench.norms.build import NormFactory, norm_factory, replace_norms, set_stats

__all__ = [
    "NormFactory",
    "Paths",
    "RandomNormAggregation",
    "find_paths",
    "mean_field",
    "norm_factory",
    "pinned",
    "replace_norms",
    "set_stats",
]
