"""Pure statistics: from stored rows to numbers that carry their n and their interval."""

from bench.metrics.accuracy import (
    MedianDistance,
    attack_success_rate,
    clean_accuracy,
    majority_accuracy,
    median_distance,
    robust_accuracy,
    worst_case_accuracy,
    worst_of_draws_accuracy,
)
from bench.metrics.estimate import Cluster, Estimate, estimate_mean, wilson
from bench.metrics.paired import Difference, agreement, paired_difference

__all__ = [
    "Cluster",
    "Difference",
    "Estimate",
    "MedianDistance",
    "agreement",
    "attack_success_rate",
    "clean_accuracy",
    "estimate_mean",
    "majority_accuracy",
    "median_distance",
    "paired_difference",
    "robust_accuracy",
    "wilson",
    "worst_case_accuracy",
    "worst_of_draws_accuracy",
]
