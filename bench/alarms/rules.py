"""Alarms: reasons in the stored rows to doubt their own numbers.

Source of most rules: Carlini et al. 2019, https://arxiv.org/abs/1902.06705, section 3, and Athalye
et al. 2018, https://arxiv.org/abs/1802.00420, section 3.1.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from bench.alarms.pairs import pair_alarms
from bench.alarms.shared import CONFIDENCE, Alarm, CellResult, points
from bench.metrics import clean_accuracy, paired_difference, robust_accuracy
from bench.metrics.estimate import estimate_mean

FLAT_SHARE, FEWEST_FLAT = 0.1, 2
"""Share, and least number, of images left right that are flat where the attack ended."""

NEAR_ZERO, FEWEST_WRONG = 0.05, 12
"""Clean accuracy that is shown to be below this is none; and none right of so many images is none.
With many classes, so little cannot be shown to be below chance."""

ONE_CLASS = 1e-3
"""Probability that images drawn from balanced classes are all of one, below which that is said."""

LARGE_EPS = 0.5
"""A ball of this radius in each pixel contains the grey image, whatever its centre: no model is
robust in it."""


def find_alarms(cells: Iterable[CellResult], classes: int) -> tuple[Alarm, ...]:
    """Returns the alarms of cells of one model, in the order of the cells.

    Incomplete cells raise none: they have no number. Cells are compared only where checkpoint,
    statistics, data, threat model, batch size and adversary are the same.

    Args:
        cells: With their rows.
        classes: Number of classes of the model.
    """
    complete = {c.info.cell_id: c for c in cells if c.info.complete and c.rows}
    found: list[Alarm] = []
    models: dict[tuple[str, str, str | None], list[CellResult]] = defaultdict(list)
    for cell in complete.values():
        found += [alarm for rule in _RULES for alarm in rule(cell, classes)]
        models[cell.spec.checkpoint, cell.spec.sha256, cell.spec.stats].append(cell)
    for group in models.values():
        found += pair_alarms(group)
    order = {cell_id: i for i, cell_id in enumerate(complete)}
    return tuple(sorted(found, key=lambda alarm: order[alarm.cell_id]))


def _clean_below_chance(cell: CellResult, classes: int) -> Iterator[Alarm]:
    clean = clean_accuracy(cell.rows, cell.info.cluster)
    misfit = "labels, class order or preprocessing do not fit the model"
    n = len(cell.rows)
    none_right = n >= FEWEST_WRONG and not any(row.clean_correct for row in cell.rows)
    if clean.high is not None and clean.high < 1 / classes:
        yield cell.alarm(
            "clean_below_chance",
            f"clean accuracy is {clean.value:.1%}, below chance for {classes} classes: {misfit}",
        )
    elif none_right or (clean.high is not None and clean.high < NEAR_ZERO):
        yield cell.alarm(
            "clean_near_zero",
            f"clean accuracy is {clean.value:.1%} on {n} images, so that there is nothing to "
            f"attack: {misfit}",
        )


def _one_class(cell: CellResult, classes: int) -> Iterator[Alarm]:
    """Looks for a slice from one end of data that are sorted by class."""
    labels, n = {row.label for row in cell.rows}, len(cell.rows)
    if len(labels) == 1 and classes > 1 and classes ** (1.0 - n) < ONE_CLASS:
        yield cell.alarm(
            "one_class",
            f"all {n} images are of class {labels.pop()}, of {classes}: a slice of data that are "
            "sorted by class; shuffle them, in a suite by seed or stratified in data",
        )


def _no_interval(cell: CellResult, classes: int) -> Iterator[Alarm]:
    if robust_accuracy(cell.rows, cell.info.cluster).low is None:
        yield cell.alarm(
            "no_interval",
            f"all {len(cell.rows)} images are one batch, whose images are not independent: the "
            "number has no interval; use more images or smaller batches",
        )


def _higher_than_clean(cell: CellResult, classes: int) -> Iterator[Alarm]:
    if not cell.untargeted:
        return
    clean = [replace(row, robust=row.clean_correct) for row in cell.rows]
    difference = paired_difference(cell.rows, clean, cell.info.cluster, CONFIDENCE)
    if difference.verdict == "higher":
        yield cell.alarm(
            "higher_than_clean",
            f"the attack makes the model better than on clean images ({points(difference)}): "
            "it climbs the wrong way, or its gradients mislead",
        )


def _images_unchanged(cell: CellResult, classes: int) -> Iterator[Alarm]:
    """Looks for attacks that gave up, as CW does with a c that is too small."""
    if not cell.untargeted or cell.traits.returns_clean:
        return
    if cell.spec.threat_model.eps == 0:  # there is no other image in the ball
        return
    right = [row for row in cell.rows if row.clean_correct > 0.5]
    idle = [row for row in right if row.linf == 0 and (row.robust or 0) > 0.5]
    if 2 * len(idle) > len(right):
        yield cell.alarm(
            "images_unchanged",
            f"the attack returned {len(idle)} of the {len(right)} images that were right without "
            "any change: this is clean accuracy, not robustness",
        )


def _broken_without_change(cell: CellResult, classes: int) -> Iterator[Alarm]:
    """Looks for predictions that change although the image does not."""
    if not cell.attacked or cell.spec.n_draws > 1 or cell.info.cluster == "batch":
        return
    rows = [r for r in cell.rows if r.linf == 0 and r.clean_correct == 1 and r.adv_correct == 0]
    if rows:
        yield cell.alarm(
            "broken_without_change",
            f"{len(rows)} of {len(cell.rows)} images were broken without any change: the model "
            "is stochastic or batch-dependent, and was evaluated as neither",
        )


def _large_eps(cell: CellResult, classes: int) -> Iterator[Alarm]:
    threat = cell.spec.threat_model
    in_pixels = threat.facts.per_pixel and threat.eps_space == "pixel"
    large = in_pixels and threat.eps >= LARGE_EPS
    if not large or not cell.iterates or not cell.untargeted:
        return
    scores = [row.robust or 0.0 for row in cell.rows]
    batches = [row.batch for row in cell.rows] if cell.info.cluster == "batch" else None
    robust = estimate_mean(scores, batches, CONFIDENCE)
    if robust.low is not None and robust.low > 1 / classes:
        yield cell.alarm(
            "large_eps_not_near_zero",
            f"robust accuracy is {robust.value:.1%} at {threat.describe()}, where every image can "
            f"be turned grey: an attack that works gets to chance ({1 / classes:.1%}) or below",
        )


def _too_few_classes(cell: CellResult, classes: int) -> Iterator[Alarm]:
    needed = cell.traits.min_classes
    if classes < needed:
        yield cell.alarm(
            "too_few_classes",
            f"the dlr loss of this attack ranks {needed} classes and the model has {classes}: it "
            "falls back on a loss that was not published, or on fewer components",
        )


def _no_gradient_at_end(cell: CellResult, classes: int) -> Iterator[Alarm]:
    """Source of the idea: Tramer et al. 2020, https://arxiv.org/abs/2002.08347."""
    flat = cell.info.zero_gradients
    left = sum(row.robust == 1 and row.played == "adv" for row in cell.rows)
    if flat is not None and flat >= FEWEST_FLAT and flat >= FLAT_SHARE * left:
        yield cell.alarm(
            "no_gradient_at_end",
            f"on {flat} of the {left} images left right the gradient is zero where the attack "
            "ended, so it could not go on: the model may cut its gradient away from the data",
        )


_RULES: tuple[Callable[[CellResult, int], Iterator[Alarm]], ...] = (
    _clean_below_chance,
    _one_class,
    _no_interval,
    _higher_than_clean,
    _images_unchanged,
    _broken_without_change,
    _large_eps,
    _too_few_classes,
    _no_gradient_at_end,
)
