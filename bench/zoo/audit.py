"""Compares the accuracies on a checkpoint's card with measured ones, for ``rbench zoo verify``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench.metrics import wilson
from bench.zoo.card import Card, CleanAccuracy, RobustAccuracy

EXACT = 1e-6
"""Accuracies this close are equal: cards are rounded to six digits."""
CLEAN_TOLERANCE = 0.002
"""Kernels on other machines sum in another order, which can flip a near tie."""
ROBUST_TOLERANCE = 0.01
"""The same, accumulated over 20 steps of an attack."""
LIMITED_CONFIDENCE = 0.999
"""Level of the interval for part of the images; at 95 % one checkpoint in twenty would fail."""

COLUMNS = ("name", "sha256", "clean", "clean found", "PGD-20", "PGD-20 found", "verdict")

Verdict = Literal["pass", "updated", "hash only", "differs"]


@dataclass(frozen=True)
class Audit:
    """The result of verifying a checkpoint.

    Attributes:
        name: Name of its folder.
        verdict: ``hash only``: intact, but its images are not on this machine. ``updated``: numbers
            on the card differed or were missing, and were rewritten.
        sha256: ``ok``, ``differs``, or empty if it could not be compared.
        clean: Clean accuracy on the card, and measured.
        robust: The same under the quick attack.
        notes: Reasons for anything but a plain pass, and which comparisons were less strict.
    """

    name: str
    verdict: Verdict
    sha256: str = ""
    clean: tuple[CleanAccuracy | None, CleanAccuracy | None] = (None, None)
    robust: tuple[RobustAccuracy | None, RobustAccuracy | None] = (None, None)
    notes: tuple[str, ...] = ()

    def row(self) -> tuple[str, ...]:
        """Returns the cells of a table row, one for each of ``COLUMNS``."""
        numbers = (*self.clean, *self.robust)
        texts = ("" if found is None else f"{found.value:.2%}" for found in numbers)
        verdict = f"{self.verdict}: {'; '.join(self.notes)}" if self.notes else self.verdict
        return (self.name, self.sha256, *texts, verdict)


def how_compared() -> str:
    """Returns the rules of the comparison in a sentence."""
    return (
        f"An accuracy on all of a card's images passes within {CLEAN_TOLERANCE:.1%} (clean; three "
        f"standard errors if the model is stochastic and that is more) or {ROBUST_TOLERANCE:.0%} "
        f"(PGD-20), and is noted where it is not equal to {EXACT:g}; one on part of them passes "
        f"where its {LIMITED_CONFIDENCE:.1%} interval holds the card's."
    )


def judge(
    name: str,
    card: Card,
    clean: CleanAccuracy,
    robust: RobustAccuracy | str | None,
    *,
    partial: bool = False,
    partly_attacked: bool = False,
) -> tuple[Audit, dict[str, CleanAccuracy | RobustAccuracy]]:
    """Compares an intact checkpoint's card with what was measured.

    Args:
        name: Name of its folder.
        card: The claims.
        clean: The measured accuracy.
        robust: The same under the quick attack; a text if it could not be measured (the reason),
            ``None`` if it was not.
        partial: Whether only part of the images were measured, on purpose.
        partly_attacked: Whether only part of the images were attacked, on purpose.

    Returns:
        The audit, and corrected values for the fields of the card that are missing or differ.
    """
    changes: dict[str, CleanAccuracy | RobustAccuracy] = {}
    agrees, notes = _compare_clean(card.clean_accuracy, clean, partial)
    if not agrees:
        changes["clean_accuracy"] = clean
    measured = robust if isinstance(robust, RobustAccuracy) else None
    if measured is not None:
        part = partial or partly_attacked
        same, more = _compare_robust(card.robust_accuracy, measured, part)
        if not same or card.robust_accuracy is None:
            changes["robust_accuracy"] = measured
        agrees, notes = agrees and same, notes + more
    if isinstance(robust, str):
        notes.append(robust)
    both = (card.clean_accuracy, clean), (card.robust_accuracy, measured)
    return Audit(name, "pass" if agrees else "differs", "ok", *both, tuple(notes)), changes


def _compare_clean(
    card: CleanAccuracy, found: CleanAccuracy, partial: bool
) -> tuple[bool, list[str]]:
    """Returns whether two accuracies agree, and notes about it."""
    tolerance = CLEAN_TOLERANCE
    draws = min(card.n_draws, found.n_draws)
    if draws > 1:
        # The variance of a draw given the image is at most p (1 - p), so this is conservative.
        spread = math.sqrt(2 * card.value * (1 - card.value) / (card.n * draws))
        tolerance = max(tolerance, 3 * spread)
    numbers = (card.value, card.n), (found.value, found.n)
    return _compare("clean", *numbers, tolerance, partial)


def _compare_robust(
    card: RobustAccuracy | None, found: RobustAccuracy, partial: bool
) -> tuple[bool, list[str]]:
    if card is None:
        return True, ["the card has no PGD-20 number yet"]
    here = (found.attack, found.protocol, found.split)
    there = (card.attack, card.protocol, card.split)
    if here != there:
        return False, [f"PGD: the card's is {'; '.join(there)}; found is {'; '.join(here)}"]
    numbers = (card.value, card.n), (found.value, found.n)
    return _compare("PGD", *numbers, ROBUST_TOLERANCE, partial)


def _compare(
    what: str,
    card: tuple[float, int],
    found: tuple[float, int],
    tolerance: float,
    partial: bool,
) -> tuple[bool, list[str]]:
    (expected, n_card), (value, n) = card, found
    apart = abs(value - expected)
    if n > n_card or (n < n_card and not partial):
        return False, [f"{what}: the card counts {n_card} images, there are {n}"]
    if n < n_card:
        low, high = wilson(value * n, n, LIMITED_CONFIDENCE)
        interval = f"[{low:.1%}, {high:.1%}] of {n} images"
        if low <= expected <= high:
            return True, [f"{what} by interval {interval}"]
        return False, [f"{what}: the card says {expected:.2%}, outside {interval}"]
    if apart <= EXACT:
        return True, []
    if apart <= tolerance:
        return True, [f"{what}: {apart:.4%} apart, within {tolerance:.2%}"]
    return False, [f"{what}: the card says {expected:.4%}, found {value:.4%}"]


def passed(audits: Sequence[Audit]) -> bool:
    """Returns whether no checkpoint differs from its card."""
    return all(audit.verdict != "differs" for audit in audits)
