"""The words of a check: what is said of each cell, and of all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from bench.metrics import Estimate

Verdict = Literal["same", "improved", "regressed", "new", "missing", "not comparable"]
"""``same``: no change is shown, on the same images and by the same measurement. ``improved`` and
``regressed``: a change is shown, or, for the latter, trust was lost. ``new``: not in the baseline.
``missing``: in the baseline only. ``not comparable``: measured otherwise, or two trainings between
which no difference is shown."""

ORDER: tuple[Verdict, ...] = (
    "regressed",
    "missing",
    "not comparable",
    "improved",
    "new",
    "same",
)
"""From what must be looked at to what need not."""

EXIT_FINE, EXIT_REGRESSED, EXIT_INCOMPLETE = 0, 1, 3


@dataclass(frozen=True)
class Checked:
    """What is said of one cell.

    Attributes:
        model: Label of the model.
        attack: Label of the attack.
        verdict: What became of it.
        fails: Whether it makes the check fail with a regression.
        leaves_open: Whether it leaves the check incomplete.
        before: Accuracy in the baseline; ``None`` where there is none.
        now: Accuracy in the run; ``None`` where there is none.
        difference: Of the two, now less before, with its 95 % interval.
        p: Of the test of no difference; ``None`` where none was made.
        adjusted: The same after Holm's correction for all cells.
        test: Which test was made.
        seen: The least drop that the comparison would have found nine times in ten; ``None`` where
            that is not known.
        lost: Images whose score fell, by position in the split: those that fell most first.
        gained: Images whose score rose, likewise.
        reasons: Why it is so, in plain words.
    """

    model: str
    attack: str
    verdict: Verdict
    fails: bool = False
    leaves_open: bool = False
    before: Estimate | None = None
    now: Estimate | None = None
    difference: Estimate | None = None
    p: float | None = None
    adjusted: float | None = None
    test: str = ""
    seen: float | None = None
    lost: tuple[int, ...] = ()
    gained: tuple[int, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The cell's labels in one."""
        return f"{self.model} / {self.attack}"


@dataclass(frozen=True)
class Check:
    """What is said of a whole run.

    Attributes:
        suite: The run's name.
        baseline: Where the baseline comes from.
        run: Where the run comes from.
        alpha: Probability that a check without any change finds one, at most.
        min_drop: Least drop that makes the check fail, in [0, 1].
        cells: Of baseline and run, those that must be looked at first.
        notes: What else is known, such as other versions of libraries.
    """

    suite: str
    baseline: str
    run: str
    alpha: float
    min_drop: float
    cells: tuple[Checked, ...]
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0: fine. 1: a regression. 3: some cells could not be checked."""
        if any(cell.fails for cell in self.cells):
            return EXIT_REGRESSED
        return EXIT_INCOMPLETE if any(cell.leaves_open for cell in self.cells) else EXIT_FINE

    def count(self, verdict: Verdict) -> int:
        """Returns the number of cells with a verdict."""
        return sum(cell.verdict == verdict for cell in self.cells)

    @property
    def tested(self) -> int:
        """The number of cells that were tested, for which p-values are corrected."""
        return sum(cell.p is not None for cell in self.cells)


def in_order(cells: Iterable[Checked]) -> tuple[Checked, ...]:
    """Returns cells with those first that must be looked at, else in their own order."""
    return tuple(
        sorted(cells, key=lambda c: (not c.fails, not c.leaves_open, ORDER.index(c.verdict)))
    )
