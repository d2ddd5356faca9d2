"""Pure statistics: from stored rows to numbers that carry their n and their interval."""

from bench.metrics.accuracy import (
    MedianDistance,
    attack_success_rate,
    clean_accuracy,
    majority_accuracy,
    median_distance,
    robust_accuracy,
    worst_case_accuracy,
    worst_case_rows,
    worst_of_draws_accuracy,
)
from bench.metrics.estimate import (
    Estimate,
    at_least,
    estimate_mean,
    mean_from_moments,
    percent,
    points,
    real_mean,
    real_median,
    wilson,
)
from bench.metrics.paired import (
    Difference,
    agreement,
    independent_difference,
    paired_difference,
    relative_gain,
)
from bench.metrics.ranks import Contender, leaders, ranks
from bench.metrics.trainings import Trainings, trainings_accuracy, trainings_difference

__all__ = [
    "Contender",
    "Difference",
    "Estimate",
    "MedianDistance",
    "Trainings",
    "agreement",
    "at_least",
    "attack_success_rate",
    "clean_accuracy",
    "estimate_mean",
    "independent_difference",
    "leaders",
    "majority_accuracy",
    "mean_from_moments",
    "median_distance",
    "paired_difference",
    "percent",
    "points",
    "ranks",
    "real_mean",
    "real_median",
    "relative_gain",
    "robust_accuracy",
    "trainings_accuracy",
    "trainings_difference",
    "wilson",
    "worst_case_accuracy",
    "worst_case_rows",
    "worst_of_draws_accuracy",
]
