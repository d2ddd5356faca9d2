"""Several trainings of one recipe: what they reach on average, and how far they scatter.

Images and trainings are both samples: of all images, and of all seeds. Scores are a table of
trainings by images, and its mean varies with both (J. Cornfield and J. W. Tukey, "Average values of
mean squares in factorials", Annals of Mathematical Statistics 27, 1956: crossed random effects).
The interval joins the images' part, which is that of each image's mean over the trainings, and the
trainings' part, Student's with k - 1 degrees of freedom for k trainings, as the ends of two
independent quantities are joined (Newcombe's interval of a difference does the same). With two
trainings Student's factor is 12.7, with three 4.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import UserError
from bench.core.result import Cluster, Row
from bench.metrics.accuracy import aligned_rows, clusters, robust_scores
from bench.metrics.estimate import Estimate, estimate_mean, student_quantile
from bench.metrics.paired import Difference, score_difference


@dataclass(frozen=True)
class Trainings:
    """The accuracy of several trainings of one recipe.

    Attributes:
        estimate: The mean over trainings and images; its interval is for another training on other
            images.
        spread: Standard deviation of the accuracies of single trainings, as they were measured: on
            the same images, so it holds no part of theirs but how trainings differ on them.
        values: The accuracy of each training, in the order given.
    """

    estimate: Estimate
    spread: float
    values: tuple[float, ...]

    @property
    def n_trainings(self) -> int:
        """Number of trainings, at least 2."""
        return len(self.values)


def trainings_accuracy(
    trainings: Sequence[Sequence[Row]], cluster: Cluster = "sample", confidence: float = 0.95
) -> Trainings:
    """Estimates the accuracy that a recipe reaches, from several trainings on the same images.

    Args:
        trainings: Rows of each training, at least two, of the same samples in any order.
        cluster: The independent sampling unit of the images: samples or batches.
        confidence: Two-sided coverage, in (0, 1).

    Raises:
        UserError: When there are fewer than two trainings, or they do not hold the same samples.
        ValueError: When a row has no verified score.
    """
    scores, groups = _table(trainings, cluster)
    values = scores.mean(1)
    found = crossed_mean(scores, groups, confidence)
    return Trainings(found, float(values.std(ddof=1)), tuple(values.tolist()))


def crossed_mean(
    scores: NDArray[np.float64], groups: Sequence[int] | None = None, confidence: float = 0.95
) -> Estimate:
    """Returns the mean of scores (k trainings, n images) in [0, 1], see ``trainings_accuracy``.

    Args:
        scores: At least two trainings.
        groups: Cluster of each image (n,); ``None`` if images are independent.
        confidence: Two-sided coverage, in (0, 1).
    """
    images = estimate_mean(scores.mean(0).tolist(), groups, confidence)
    half = _training_half(scores, confidence)
    return _widened(images, half, (len(scores),), (0.0, 1.0))


def trainings_difference(
    first: Sequence[Sequence[Row]],
    second: Sequence[Sequence[Row]],
    cluster: Cluster = "sample",
    confidence: float = 0.95,
) -> Difference:
    """Compares what two recipes reach, each trained several times, on the same images.

    Images are paired, trainings are not. There is no test but the interval: no permutation of three
    trainings against three reaches 5 %.

    Args:
        first: Rows of each training of one recipe; as in ``trainings_accuracy``.
        second: Rows of each training of the recipe to subtract, which may be fewer or more.
        cluster: The independent sampling unit of the images: samples or batches.
        confidence: Two-sided coverage, in (0, 1).

    Raises:
        UserError: When a recipe has fewer than two trainings, or they do not hold the same samples.
        ValueError: When a row has no verified score.
    """
    one, groups = _table(first, cluster)
    if len(second) < 2:
        raise UserError(_too_few(len(second)))
    other, _ = _table([first[0], *second], cluster)
    return crossed_difference(one, other[1:], groups, confidence)


def crossed_difference(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    groups: Sequence[int] | None = None,
    confidence: float = 0.95,
) -> Difference:
    """Compares scores (k trainings, n images) of two recipes, see ``trainings_difference``."""
    images = score_difference(
        first.mean(0).tolist(), second.mean(0).tolist(), groups, confidence
    ).estimate
    half = math.hypot(_training_half(first, confidence), _training_half(second, confidence))
    found = _widened(images, half, (len(first), len(second)), (-1.0, 1.0))
    return Difference(**vars(found), p_value=None, confidence=confidence)


def _table(
    trainings: Sequence[Sequence[Row]], cluster: Cluster
) -> tuple[NDArray[np.float64], list[int] | None]:
    """Returns scores (k trainings, n images), and the cluster of each image."""
    if len(trainings) < 2:
        raise UserError(_too_few(len(trainings)))
    first = trainings[0]
    rows = [first, *(aligned_rows(first, other, cluster) for other in trainings[1:])]
    return np.array([robust_scores(one) for one in rows]), clusters(first, cluster)


def _too_few(n: int) -> str:
    return f"expected two trainings of a recipe or more, found {n}"


def _training_half(scores: NDArray[np.float64], confidence: float) -> float:
    """Returns half of the interval's width that is due to the choice of trainings.

    The variance between trainings is what their means differ beyond what images alone explain: the
    mean square between trainings without that of the residuals.
    """
    k, n = scores.shape
    by_training, by_image, mean = scores.mean(1), scores.mean(0), scores.mean()
    between = n * float(np.square(by_training - mean).sum()) / (k - 1)
    left = scores - by_training[:, None] - by_image[None] + mean
    residual = float(np.square(left).sum()) / ((k - 1) * max(n - 1, 1))
    variance = max(between - residual, 0.0) / (k * n)
    return student_quantile((1 + confidence) / 2, k - 1) * math.sqrt(variance)


def _widened(
    images: Estimate, half: float, counts: tuple[int, ...], ends: tuple[float, float]
) -> Estimate:
    """Returns an estimate whose interval holds the trainings too, within the ends."""
    if images.low is None or images.high is None:
        return images
    method = f"{images.method}; {' and '.join(map(str, counts))} trainings, student"
    low = max(ends[0], images.value - math.hypot(images.value - images.low, half))
    high = min(ends[1], images.value + math.hypot(images.high - images.value, half))
    return Estimate(images.value, low, high, images.n, method)
