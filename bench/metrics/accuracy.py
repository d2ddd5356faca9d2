"""Accuracies and distances derived from per-sample rows."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.core.errors import UserError
from bench.core.result import DISTANCES, Cluster, Row
from bench.metrics.estimate import Estimate, estimate_mean


@dataclass(frozen=True)
class MedianDistance:
    """How far an attack moved the images that it broke.

    Attributes:
        value: Median distance in pixel units, >= 0.
        n: Number of broken images.
    """

    value: float
    n: int


def clean_accuracy(rows: Sequence[Row], cluster: Cluster = "sample") -> Estimate:
    """Estimates the accuracy on clean images.

    Raises:
        ValueError: When there are no rows.
    """
    return estimate_mean([row.clean_correct for row in rows], clusters(rows, cluster))


def robust_accuracy(rows: Sequence[Row], cluster: Cluster = "sample") -> Estimate:
    """Estimates the accuracy under attack.

    Raises:
        ValueError: When there are no rows, or one has no verified score (an incomplete cell).
    """
    return estimate_mean(robust_scores(rows), clusters(rows, cluster))


def majority_accuracy(rows: Sequence[Row], cluster: Cluster = "sample") -> Estimate:
    """Estimates the accuracy of the majority vote of a stochastic model's draws.

    Raises:
        ValueError: When there are no rows, or one has no verified score.
    """
    robust_scores(rows)
    votes = [(r.adv_pred if r.played == "adv" else r.clean_pred) == r.label for r in rows]
    return estimate_mean(list(map(float, votes)), clusters(rows, cluster))


def worst_of_draws_accuracy(rows: Sequence[Row], cluster: Cluster = "sample") -> Estimate:
    """Estimates the share of images on which a stochastic model is right in every draw.

    It falls as the number of draws grows, so it is only meaningful together with that number.

    Raises:
        ValueError: When there are no rows, or one has no verified score.
    """
    return estimate_mean(
        [float(score == 1) for score in robust_scores(rows)], clusters(rows, cluster)
    )


def worst_case_accuracy(
    cells: Sequence[Sequence[Row]], cluster: Cluster = "sample", *, whole_batches: bool = False
) -> Estimate:
    """Estimates the accuracy against the best attack for each sample.

    The scores of stochastic models are estimates, and the minimum of several is biased downwards.
    So the attack is chosen by other draws (``Row.choice``) than those on which it is scored; of
    rows without them, by the scores themselves.

    Args:
        cells: The rows of each attack, of the same samples in any order.
        cluster: The independent sampling unit: samples or batches.
        whole_batches: Whether an attack perturbs a whole batch or none of it, so that the adversary
            chooses one attack for each batch.

    Raises:
        UserError: When the attacks were not run on the same samples, in the same batches where
            these are the clusters.
        ValueError: When there is no attack, or a row has no verified score.
    """
    rows = worst_case_rows(cells, cluster, whole_batches=whole_batches)
    return robust_accuracy(rows, cluster)


def worst_case_rows(
    cells: Sequence[Sequence[Row]], cluster: Cluster = "sample", *, whole_batches: bool = False
) -> list[Row]:
    """Returns the rows of the first attack, each with its score under the best attack for it.

    Arguments and errors are those of ``worst_case_accuracy``.
    """
    if not cells:
        raise ValueError("expected the rows of at least one attack")
    aligned = [aligned_rows(cells[0], rows, cluster) for rows in cells]
    columns = [robust_scores(rows) for rows in aligned]
    by = [
        [score if row.choice is None else row.choice for row, score in zip(*pair, strict=True)]
        for pair in zip(aligned, columns, strict=True)
    ]
    if whole_batches:
        best = _best_for_batches([row.batch for row in cells[0]], by)
    else:
        best = [min(range(len(by)), key=lambda i: by[i][place]) for place in range(len(cells[0]))]
    scores = [columns[attack][place] for place, attack in enumerate(best)]
    return [replace(row, robust=score) for row, score in zip(cells[0], scores, strict=True)]


def mean_accuracy(cells: Sequence[Sequence[Row]], cluster: Cluster = "sample") -> Estimate:
    """Estimates the mean of the accuracies of several cells of the same images.

    Such as mean corruption accuracy, over corruptions and severities, each counting alike. The
    cells of an image are not independent, so images are the clusters: the interval is that of the
    mean of each image's own mean score.

    Args:
        cells: The rows of each cell, of the same images in any order.
        cluster: What of the images is independent: samples or batches.

    Raises:
        UserError: When the cells are not of the same images, or batches.
        ValueError: When there is no cell, or a row has no verified score.
    """
    if not cells:
        raise ValueError("expected the rows of at least one cell")
    columns = [robust_scores(aligned_rows(cells[0], rows, cluster)) for rows in cells]
    means = [min(1.0, sum(scores) / len(scores)) for scores in zip(*columns, strict=True)]
    return estimate_mean(means, clusters(cells[0], cluster))


def _best_for_batches(batches: Sequence[int], columns: Sequence[Sequence[float]]) -> list[int]:
    """Returns for each row the attack with the lowest total score on its batch."""
    left: dict[int, list[float]] = {batch: [0.0] * len(columns) for batch in batches}
    for i, column in enumerate(columns):
        for batch, score in zip(batches, column, strict=True):
            left[batch][i] += score
    best = {batch: sums.index(min(sums)) for batch, sums in left.items()}
    return [best[batch] for batch in batches]


def attack_success_rate(rows: Sequence[Row], cluster: Cluster = "sample") -> Estimate | None:
    """Estimates the share of correctly classified clean images that the attack breaks.

    For a stochastic model it is the relative loss of clean accuracy, without an interval: images
    selected for being right in every draw would be wrong in some fresh draws without any attack.

    Returns:
        ``None`` when no clean image is classified correctly.

    Raises:
        ValueError: When a row has no verified score.
    """
    scores, clean = robust_scores(rows), [row.clean_correct for row in rows]
    if any(0 < share < 1 for share in clean):
        value = max(0.0, 1 - sum(scores) / sum(clean))
        return Estimate(value, None, None, len(rows), "ratio of accuracies")
    right = [row for row in rows if row.clean_correct == 1]
    if not right:
        return None
    return estimate_mean([1 - score for score in robust_scores(right)], clusters(right, cluster))


def targeted_success_rate(rows: Sequence[Row], cluster: Cluster = "sample") -> Estimate:
    """Estimates the share of images that a targeted attack brings to their target class.

    Of all images, as none has its label for a target; of a stochastic model, the mean fraction of
    draws. Carlini and Wagner 2017, https://arxiv.org/abs/1608.04644, section II.

    Raises:
        ValueError: When there are no rows, or one has no verified score or no target.
    """
    if any(row.target is None for row in rows):
        raise ValueError("expected rows of a targeted attack, found one without a target")
    return estimate_mean([1 - score for score in robust_scores(rows)], clusters(rows, cluster))


def label_accuracy(rows: Sequence[Row], cluster: Cluster = "sample") -> Estimate:
    """Estimates the share of images that are predicted as their label on what the adversary plays.

    Of an untargeted attack that is the robust accuracy. Of a targeted one it is the accuracy under
    attack as Kurakin et al. 2018 and Xie et al. 2019 (https://arxiv.org/abs/1812.03411, section
    5.1) report it; an image of another wrong class than the target counts as lost.

    Raises:
        ValueError: When there are no rows, or one has no verified score.
    """
    robust_scores(rows)
    played = [row.adv_correct if row.played == "adv" else row.clean_correct for row in rows]
    return estimate_mean([score or 0.0 for score in played], clusters(rows, cluster))


def median_distance(rows: Sequence[Row], norm: str) -> MedianDistance | None:
    """Returns the median distance of the images that the attack broke, within eps or beyond.

    An image counts if its clean prediction is right and that of its verified x_adv is wrong.

    Args:
        rows: Of one cell.
        norm: One of ``bench.core.result.DISTANCES``.

    Returns:
        ``None`` when the attack broke no image.
    """
    if norm not in DISTANCES:
        raise ValueError(f"norm must be {' or '.join(DISTANCES)}, found '{norm}'")
    broken = [
        float(getattr(row, norm))
        for row in rows
        if row.clean_pred == row.label and row.adv_pred not in (row.label, -1)
    ]
    return MedianDistance(statistics.median(broken), len(broken)) if broken else None


def robust_scores(rows: Sequence[Row]) -> list[float]:
    """Returns the score of every row; raises ``ValueError`` if one has none."""
    scores = [row.robust for row in rows if row.robust is not None]
    if len(scores) != len(rows):
        raise ValueError("a row has no verified score: the cell is incomplete and has no accuracy")
    return scores


def clusters(rows: Sequence[Row], cluster: Cluster) -> list[int] | None:
    """Returns each row's batch, or ``None`` where samples are independent."""
    return [row.batch for row in rows] if cluster == "batch" else None


def aligned_rows(first: Sequence[Row], other: Sequence[Row], cluster: Cluster) -> list[Row]:
    """Returns the rows of ``other`` in the order of ``first``.

    Raises:
        UserError: When the two do not hold the same samples once each, or, where batches are the
            clusters, hold them in different batches.
    """
    by_index = {row.index: row for row in other}
    wanted = {row.index: row for row in first}
    if len(by_index) != len(other) or len(wanted) != len(first) or set(by_index) != set(wanted):
        raise UserError(
            f"cannot compare two cells sample by sample: expected the same images once each, found "
            f"{len(first)} and {len(other)} rows with {len(set(by_index) & set(wanted))} images in "
            f"common; run both on the same data slice"
        )
    ordered = [by_index[row.index] for row in first]
    pairs = {(a.batch, b.batch) for a, b in zip(first, ordered, strict=True)}
    one_to_one = len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
    if cluster == "batch" and not one_to_one:
        raise UserError(
            "cannot compare two cells batch by batch: their batches hold different images; run "
            "both with the same batch_size"
        )
    return ordered
