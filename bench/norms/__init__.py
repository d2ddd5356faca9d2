"""The normalizations of both papers as modules, and functions to put them into any model."""

from bench.norms.aggregation import (
    Paths,
    RandomNormAggregation,
    find_paths,
    mean_field,
    pinned,
)
from bench.norms.build import (
    NormFactory,
    batch_norms,
    norm_factory,
    replace_norms,
    set_stats,
    shares_statistics,
    stats_in_force,
    use_batch_statistics,
    weights_seeded,
)
from bench.norms.modes import Settled, reachable, settle, unregistered

__all__ = [
    "NormFactory",
    "Paths",
    "RandomNormAggregation",
    "Settled",
    "batch_norms",
    "find_paths",
    "mean_field",
    "norm_factory",
    "pinned",
    "reachable",
    "replace_norms",
    "set_stats",
    "settle",
    "shares_statistics",
    "stats_in_force",
    "unregistered",
    "use_batch_statistics",
    "weights_seeded",
]
