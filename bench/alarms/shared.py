"""What all alarms share: a cell with its rows, an alarm about it, comparisons of two cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from bench.attacks.registry import traits_of
from bench.core.attack import NO_ADVERSARY, Traits
from bench.core.cell import CellSpec
from bench.core.result import CellInfo, Row, cluster_of
from bench.metrics import Difference, paired_difference

CONFIDENCE = 0.99
"""Level of the intervals that raise an alarm. A table holds dozens of comparisons: at 95 % one of
them would often raise an alarm by chance."""

Code = Literal[
    "control_beats_gradient",
    "single_step_beats_iterative",
    "rises_with_eps",
    "large_eps_not_near_zero",
    "images_unchanged",
    "broken_without_change",
    "higher_than_clean",
    "not_converged",
    "too_few_classes",
    "clean_below_chance",
    "clean_near_zero",
    "one_class",
    "no_interval",
    "weak_attack",
    "no_gradient_at_end",
]


@dataclass(frozen=True)
class Alarm:
    """A reason to doubt a number.

    Attributes:
        cell_id: The cell that the number belongs to.
        code: A short fixed name.
        text: The reason in plain words, with the figures behind it.
    """

    cell_id: str
    code: Code
    text: str


@dataclass(frozen=True)
class CellResult:
    """A stored cell: what was run, and its rows."""

    info: CellInfo
    rows: Sequence[Row]

    @property
    def spec(self) -> CellSpec:
        """What was run."""
        return self.info.spec

    @cached_property
    def traits(self) -> Traits:
        """How its attack searches."""
        return traits_of(self.info)

    @property
    def white_box(self) -> bool:
        """Whether an attack saw the model as deployed."""
        return self.spec.protocol == "white_box" and self.attacked

    @property
    def attacked(self) -> bool:
        """Whether an adversary chose its images."""
        return self.info.attack_kind not in NO_ADVERSARY

    @property
    def untargeted(self) -> bool:
        """Whether it is an attack whose score is an accuracy: any wrong class is its success."""
        return self.attacked and self.spec.y_target is None

    @property
    def follows_gradient(self) -> bool:
        """Whether it is a white-box attack that uses gradients."""
        return self.white_box and self.traits.gradients != "never"

    @property
    def iterates(self) -> bool:
        """Whether it is a white-box attack that takes many steps up the loss."""
        return self.white_box and self.traits.steps == "many"

    @property
    def stands_in(self) -> bool:
        """Whether it follows the gradients of a ``gradient_model``."""
        return self.spec.adaptive is not None and self.spec.adaptive.gradient_model is not None

    def alarm(self, code: Code, text: str) -> Alarm:
        """Returns an alarm about this cell."""
        return Alarm(self.info.cell_id, code, text)


def alarms_by_cell(alarms: Iterable[Alarm]) -> dict[str, tuple[str, ...]]:
    """Returns the alarms of each cell that has any as they are stored: ``code: text``."""
    found: dict[str, tuple[str, ...]] = {}
    for alarm in alarms:
        found[alarm.cell_id] = (*found.get(alarm.cell_id, ()), f"{alarm.code}: {alarm.text}")
    return found


def trusts_own_gradients(cell: CellResult, cells: Iterable[CellResult]) -> bool:
    """Says whether faults of the model's own gradients are a reason to doubt a cell.

    They are none where its attack follows those of a stand-in, nor for the clean images and attacks
    without gradients beside such attacks alone.

    Args:
        cell: The cell.
        cells: All cells that its model was evaluated with.
    """
    if cell.info.attack_kind != "none" and cell.traits.gradients != "never":
        return not cell.stands_in
    mine = (cell.spec.checkpoint, cell.spec.sha256, cell.spec.stats)
    beside = [
        other.stands_in
        for other in cells
        if (other.spec.checkpoint, other.spec.sha256, other.spec.stats) == mine
        and other.follows_gradient
    ]
    return not beside or not all(beside)


def compare(first: CellResult, second: CellResult) -> Difference:
    """Returns how much more robust the first is; batches are clusters if either needs that."""
    cluster = cluster_of((first.info, second.info))
    return paired_difference(first.rows, second.rows, cluster, CONFIDENCE)


def points(difference: Difference) -> str:
    """Returns for example ``"by 5.0 points [2.1, 7.9], n = 200"``, without a sign."""
    assert difference.low is not None and difference.high is not None
    ends = sorted(100 * abs(end) for end in (difference.low, difference.high))
    size = 100 * abs(difference.value)
    return f"by {size:.1f} points [{ends[0]:.1f}, {ends[1]:.1f}], n = {difference.n}"
