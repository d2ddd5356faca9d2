"""Which images are near the decision under an attack, as all other cells of a baseline tell it.

Images that were picked because they were right under an attack can only be lost, so that a model
which did not change would seem to get worse. So the outcomes of the cell that is to be tested are
not looked at: the images that break most easily under the *other* attacks come first in an order,
and the cell's accuracy, one number, says where in that order its decision must lie. Near are all
images within ``REACH`` of it, on either side alike, and all near images are alike: no finer choice
among them is made. Swapping right and wrong everywhere changes nothing.

``tests/check/budget_simulation.py`` measures what comes of other rules. Images on which the other
attacks disagree most say little about the strongest attack, which breaks nearly all of these.
Taking only the nearest images gives more false alarms where the cells of a model share their noise.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from bench.check.record import Record

REACH = 0.15
"""Share of the slice on either side of the decision within which images are near. With 0.1 drops
are seen better where little is noise, but where a lot is and cells share it, changes were shown in
2 % of simulated checks of models without any, instead of 1 %."""

ALIKE = 0.05
"""Difference of accuracy at which an attack says half as much about another as its twin would."""

Values = NDArray[np.float64]


def distances(record: Record, others: Iterable[Record]) -> Values | None:
    """Returns how far each image is from a cell's decision.

    Args:
        record: The cell. Of its outcomes only the mean is used.
        others: Other cells of the baseline, on any models; those of the same attack on the same
            weights, or on other images, are left out.

    Returns:
        Shares of the slice (n,): 0 for images that the decision goes through, as far as is known.
        ``None`` where no other cell tells images apart.
    """
    known = [other for other in others if _tells(record, other)]
    wrong = 1 - record.accuracy.value
    own = _fragility(record, [one for one in known if one.model == record.model], wrong)
    theirs = [_broken(record, one) for one in known if one.model != record.model]
    easy = np.round(np.stack(theirs).mean(axis=0), 9) if theirs else np.zeros(len(record.index))
    # Images that the model's own cells do not tell apart are ordered by what other models say.
    order = np.lexsort((-easy, -own))
    steps = (np.diff(own[order]) != 0) | (np.diff(easy[order]) != 0)
    if not steps.any():
        return None
    group = np.concatenate(([0], np.cumsum(steps)))
    ends = np.cumsum(np.bincount(group)) / len(order)
    starts = np.concatenate(([0.0], ends[:-1]))
    away = np.maximum(0, np.maximum(starts - wrong, wrong - ends))
    found = np.empty(len(order))
    found[order] = np.round(away, 9)[group]
    return found


def _tells(record: Record, other: Record) -> bool:
    """Whether another cell has the same images, and is not this one under another name."""
    if other.key == record.key or other.spec.cell_id == record.spec.cell_id:
        return False
    return other.index == record.index or set(other.index).issuperset(record.index)


def _fragility(record: Record, others: Sequence[Record], wrong: float) -> Values:
    """Returns the weighted share of attacks that break each image (n,).

    Attacks that break about as many images as this one weigh most.
    """
    total, weights = np.zeros(len(record.index)), 0.0
    for other in others:
        broken = _broken(record, other)
        weight = 1 / (ALIKE + abs(float(broken.mean()) - wrong))
        total, weights = total + weight * broken, weights + weight
    return np.round(total / weights, 9) if weights else total


def _broken(record: Record, other: Record) -> Values:
    """Returns the share of wrong draws of each of a cell's images (n,) in another cell."""
    if other.index == record.index:
        return 1 - np.asarray(other.scores)
    scores = dict(zip(other.index, other.scores, strict=True))
    return 1 - np.asarray([scores[i] for i in record.index])


def preferred(away: Values | None, n: int) -> list[int]:
    """Returns the places of all ``n`` images, those to take first in front.

    Near ones come in the slice's own order, then the others by distance.
    """
    if away is None:
        return list(range(n))
    near = np.where(away < REACH, 0.0, away)
    return [int(i) for i in np.argsort(near, kind="stable")]


def preferred_batches(away: Values | None, batch: Sequence[int]) -> list[int]:
    """Returns the numbers of all batches, those with most near images in front."""
    numbers = list(dict.fromkeys(batch))
    if away is None:
        return numbers
    near = dict.fromkeys(numbers, 0)
    for number, distance in zip(batch, away, strict=True):
        near[number] += bool(distance < REACH)
    return sorted(numbers, key=lambda number: -near[number])
