"""Picks the images of a cell that is run within a budget, and says what drop they show."""

from __future__ import annotations

from collections.abc import Sequence

from bench.check.chosen import Choice, How
from bench.check.nearness import distances, preferred, preferred_batches
from bench.check.option import POWER
from bench.check.record import Record
from bench.metrics.power import detectable_drop


def pick(record: Record, n: int, cost: float, known: Sequence[Record], level: float) -> Choice:
    """Returns what is run of a cell.

    Args:
        record: The cell, in the baseline.
        n: How many images; whole batches where images of a batch are not independent.
        cost: Seconds for an image.
        known: Cells whose outcomes may decide; this one among them makes no difference.
        level: Of the test.
    """
    places, how = _picked(record, n, known)
    alike = nearest = None
    unknown = _unknown(record)
    if not unknown:
        drop = detectable_drop(len(places), 0.0, level, POWER)
        scores = record.scores
        right = sum(scores[i] for i in places) / len(places)
        if drop is None or drop > right:
            unknown = "none for sure, as too few of these images were right before"
        else:
            alike = min(1.0, drop * record.accuracy.value / right)
            nearest = drop * len(places) / len(record.index)
    return Choice(
        model=record.model,
        attack=record.attack,
        index=tuple(record.index[i] for i in places),
        of=len(record.index),
        how=how,
        seconds=len(places) * cost,
        alike=alike,
        nearest=nearest,
        unknown=unknown,
    )


def _picked(record: Record, n: int, known: Sequence[Record]) -> tuple[list[int], How]:
    if n >= len(record.index):
        return list(range(len(record.index))), "all"
    away = distances(record, known)
    if record.cluster == "batch":
        count = -(-n // record.spec.batch_size)
        wanted = set(preferred_batches(away, record.batch)[:count])
        how: How = "first batches" if away is None else "near batches"
        return [i for i, number in enumerate(record.batch) if number in wanted], how
    return sorted(preferred(away, len(record.index))[:n]), "first" if away is None else "near"


def _unknown(record: Record) -> str:
    """Says why the drop that a cell shows is not known beforehand; empty if it is."""
    if record.cluster == "batch":
        return "not known beforehand, as images of a batch are not independent"
    if record.spec.n_draws > 1:
        return "not known beforehand, as scores are means of draws"
    return ""
