"""The sentinel: a short strong attack looks again at images that an evaluation left right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bench.alarms.shared import Alarm, CellResult
from bench.attacks.registry import attack_info, get_attack
from bench.core.adaptive import Adaptive, GradientModel
from bench.core.attack import CORRUPTION
from bench.core.cell import CellSpec, DataSpec
from bench.metrics import at_least, worst_case_rows
from bench.metrics.accuracy import robust_scores

ATTACK, PARAMS = "auto", {"n_passes": 480}
"""The attack: a round of each kind of step, ascent, random search, a smoothed gradient, a walk from
outside the ball, and little more."""

CONTROLS = ("natural", CORRUPTION)
"""What no adversary chose, so that nobody need look behind it."""

N_IMAGES = 32
"""Images that it looks at."""

GAP = 0.1
"""By how much it must lower robust accuracy to call the attacks weak: PGD on a sound model
leaves a few images that a stronger attack breaks."""

BY_CHANCE = 0.05
"""What it may take off a sound model, on all of its images. The few that it looks at must show that
it takes more, or 3 of 10 would call an attack weak that leaves 5 points too many."""

FULL = {"n_iter": 100, "n_queries": 5000}
"""AutoAttack's own steps and queries: with fewer, or with some components, it is no AutoAttack."""

ENOUGH = 1000
"""Passes of ``auto`` that make it at least as strong as the sentinel."""


@dataclass(frozen=True)
class SecondLook:
    """What a sentinel found.

    Attributes:
        asked: Share of images that the attacks asked for leave right, the worst case, in [0, 1].
        left: Share that is left after the sentinel.
        n: Images that it looked at.
        lost: How many of these it broke, by mean score.
    """

    asked: float
    left: float
    n: int
    lost: float

    @classmethod
    def of(cls, asked: float, standing: float, n: int, lost: float) -> SecondLook:
        """Returns what follows for all images from those that it looked at.

        Args:
            asked: Mean score of all images under the attacks asked for.
            standing: Share of images that still stand.
            n: How many of these the sentinel looked at.
            lost: How many of these it broke.
        """
        return cls(asked, max(0.0, asked - lost / n * standing), n, lost)

    @property
    def weak(self) -> bool:
        """Whether the attacks asked for were too weak to be believed."""
        if not self._gapes:
            return False
        gap, share = self.asked - self.left, self.lost / self.n
        return gap / share * at_least(self.lost, self.n) > BY_CHANCE

    @property
    def in_doubt(self) -> bool:
        """Whether the gap would call the attacks weak if more images showed it."""
        return self._gapes and not self.weak

    @property
    def _gapes(self) -> bool:
        return self.lost > 0 and self.asked - self.left >= GAP

    def __str__(self) -> str:
        return (
            f"the sentinel, a short {ATTACK} on {self.n} images, leaves {self.left:.0%} where the "
            f"attacks asked for leave {self.asked:.0%}"
        )


def as_strong(spec: CellSpec) -> bool:
    """Says whether a cell's attack makes a sentinel needless."""
    params = spec.attack_params
    if spec.attack == ATTACK:
        return int(params["n_passes"]) >= ENOUGH
    if spec.attack != "autoattack" or params.get("components"):
        return False
    return all(int(params[key]) >= least for key, least in FULL.items())


def wants_sentinel(specs: Iterable[CellSpec], *, batch_dependent: bool) -> bool:
    """Says whether the cells of one model and threat model need a second look.

    Not where images share statistics, as there a few of them are another model; nor in a norm that
    the sentinel does not serve.
    """
    asked = [spec for spec in specs if spec.protocol == "white_box" and spec.attack not in CONTROLS]
    if any(spec.threat_model.norm not in get_attack(ATTACK).norms for spec in asked):
        return False
    return bool(asked) and not batch_dependent and not any(as_strong(spec) for spec in asked)


def sentinel_cell(about: Sequence[CellSpec], data: DataSpec, data_hash: str) -> CellSpec:
    """Returns the sentinel behind some cells of one model, on some images.

    It follows the gradients of a ``gradient_model`` where one of them does: those of the model
    itself are not to be trusted there. A loss it takes none.

    Args:
        about: White-box cells, at least one.
        data: The images.
        data_hash: Of their pixels and labels.

    Raises:
        UserError: When it cannot serve the norm of the threat model.
    """
    base = next((one for one in about if _stand_in(one) is not None), about[0])
    info = attack_info(ATTACK, PARAMS, base.threat_model.norm)
    changes = {"attack": info.name, "attack_version": info.version, "library": info.library}
    changes |= {"attack_params": info.params, "data": data, "data_hash": data_hash}
    return base.model_copy(update={**changes, "adaptive": Adaptive.of(_stand_in(base), None)})


def _stand_in(spec: CellSpec) -> GradientModel | None:
    return None if spec.adaptive is None else spec.adaptive.gradient_model


def look_again(cells: Sequence[CellResult], sentinel: CellResult) -> SecondLook | None:
    """Compares a sentinel on some images with the attacks asked for, on the same images.

    Args:
        cells: Of one model, of the sentinel's threat model; incomplete ones are left out.
        sentinel: On some of their images.

    Returns:
        ``None`` where there is nothing to compare.
    """
    seen = {row.index for row in sentinel.rows}
    asked = [[row for row in cell.rows if row.index in seen] for cell in _attacked(cells)]
    asked = [rows for rows in asked if len(rows) == len(seen)]
    if not asked or not sentinel.info.complete or not seen:
        return None
    before = robust_scores(worst_case_rows(asked))
    after = robust_scores(worst_case_rows([*asked, sentinel.rows]))
    n, lost = len(seen), max(0.0, sum(before) - sum(after))
    return SecondLook(sum(before) / n, (sum(before) - lost) / n, n, lost)


def weak_attack_alarms(cells: Sequence[CellResult], look: SecondLook | None) -> Iterator[Alarm]:
    """Yields an alarm about every attack of a model whose verdict the sentinel does not share."""
    if look is None or not look.weak:
        return
    for cell in _attacked(cells):
        yield cell.alarm(
            "weak_attack",
            f"a weak attack, or gradients that mislead: {look}; run {ATTACK} or autoattack at "
            "full length",
        )


def _attacked(cells: Sequence[CellResult]) -> list[CellResult]:
    return [cell for cell in cells if cell.white_box and cell.untargeted and cell.info.complete]
