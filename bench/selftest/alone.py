"""What one attack alone reports of a model, with the alarms that it carries."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from bench.core.result import does_not_average
from bench.evaluation.api import AttackLike, evaluate
from bench.selftest.attack_cases import THREAT
from bench.selftest.case import alarm_codes, percent
from bench.selftest.exact import Images
from bench.selftest.planted_models import Truth

CLOSE = 0.02
"""Allowed distance of a mean of some 500 draws from its expectation."""


@dataclass(frozen=True)
class Alone:
    """An attack that is asked for alone.

    Attributes:
        label: What it is called.
        attack: As ``evaluate`` takes it.
        sentinel: Whether the sentinel looks again, as it would after the attack at full length.
    """

    label: str
    attack: AttackLike
    sentinel: bool = True


SHORT: tuple[Alone, ...] = (
    Alone("PGD", "pgd"),
    Alone("auto", "auto"),
    Alone("AutoAttack", ("autoattack", {"n_iter": 20, "n_queries": 500}), sentinel=False),
)
"""The attacks of the cases. AutoAttack's steps and queries are fewer than its own, to save time; at
its full length no sentinel would look behind it, and so none does here."""

SHORT_RANDOM: tuple[Alone, ...] = (
    Alone("PGD", {"attack": "pgd", "eot_iter": 5}),
    Alone("auto", ("auto", {"n_passes": 400}), sentinel=False),
    Alone("AutoAttack", ("autoattack", {"n_iter": 10, "n_queries": 100}), sentinel=False),
)
"""The same for models that draw at random; PGD averages over draws, and ``auto`` is short too."""

FULL: tuple[Alone, ...] = (
    Alone("PGD", "pgd"),
    Alone("auto", "auto"),
    Alone("AutoAttack", "autoattack"),
)
"""The attacks as ``evaluate`` runs them when nothing else is said."""


@dataclass(frozen=True)
class Reading:
    """What one attack alone reports of a model.

    Attributes:
        value: Robust accuracy in [0, 1]; ``None`` where the cell is incomplete.
        alarms: Codes of the alarms.
        single_draws: Whether it is marked as of an adversary who does not average. That is no
            alarm, and does not make up for a wrong number.
    """

    value: float | None
    alarms: tuple[str, ...]
    single_draws: bool = False

    @property
    def doubted(self) -> bool:
        """Whether it carries an alarm, or gives no number."""
        return self.value is None or bool(self.alarms)

    def right(self, truth: Truth | None, *, stochastic: bool = False) -> bool:
        """Says whether it carries an alarm, gives no number, or a true one."""
        if self.doubted or truth is None:
            return self.doubted
        assert self.value is not None
        return truth.holds(self.value, CLOSE * stochastic)

    def __str__(self) -> str:
        found = "incomplete" if self.value is None else percent(self.value)
        mark = "; does not average" * self.single_draws
        return f"{found} ({', '.join(self.alarms) or 'no alarm'}{mark})"


def read(model: nn.Module, data: Images, alone: Alone, batch_size: int) -> Reading:
    """Evaluates a model under one attack alone.

    Args:
        model: The model.
        data: Images and labels.
        alone: The attack.
        batch_size: Images that are attacked and scored together.
    """
    result = evaluate(
        model,
        data.x,
        data.y,
        THREAT,
        [alone.attack],
        batch_size=batch_size,
        sentinel=alone.sentinel,
    )
    ((label, cell),) = result.cells.items()
    value = result.robust_accuracy(label).value if cell.info.complete else None
    return Reading(value, tuple(sorted(alarm_codes(result))), does_not_average(cell.info))
