"""Evaluates shipped checkpoints: full-size sound models, which must raise no alarm."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.attacks.randomness import seeded
from bench.core.errors import UserError
from bench.data.slice import take_slice
from bench.evaluation.api import AttackLike, evaluate
from bench.evaluation.result import EvaluationResult
from bench.selftest.case import SEED, alarm_codes, percent
from bench.train.quality import QUICK_EPS, scoring_split
from bench.zoo import Card, open_checkpoint

ATTACKS: tuple[AttackLike, ...] = ("natural", "fgsm", ("pgd", {"n_iter": 20}), "noise")

N_IMAGES, BATCH, N_DRAWS = 16, 8, 5

OTHER_EPS = 8 / 255
"""The linf radius for data sets that ``QUICK_EPS`` lacks."""


@dataclass(frozen=True)
class CheckpointResult:
    """The result for a checkpoint.

    Attributes:
        name: Its name.
        threat: The threat model, in words.
        found: The numbers, the alarms, or why it could not be evaluated, on one line.
        alarms: Codes of the alarms, which are presumably false.
        evaluated: Whether it could be evaluated.
    """

    name: str
    threat: str
    found: str
    alarms: tuple[str, ...] = ()
    evaluated: bool = True


def check_checkpoint(folder: Path, data_root: Path | None = None) -> CheckpointResult:
    """Probes and attacks a checkpoint, on a few images of its data set.

    Args:
        folder: The checkpoint's folder.
        data_root: Data root; ``None`` for the default.
    """
    threat = ""
    try:
        threat = threat_of(open_checkpoint(folder).card)
        with seeded(SEED):
            result = _evaluate(folder, threat, data_root)
    except UserError as error:
        found = f"not evaluated: {error}"
        return CheckpointResult(folder.name, threat, found, evaluated=False)
    return _result_of(folder.name, threat, result)


def threat_of(card: Card) -> str:
    """Returns the linf threat model that a card was trained for, or the usual one for its data."""
    attack = card.recipe.get("attack") or {}
    trained = attack.get("threat_model") or {}
    if trained.get("norm") == "linf" and trained.get("eps_space", "pixel") == "pixel":
        return f"linf:{trained['eps']}"
    return f"linf:{QUICK_EPS.get(card.dataset, OTHER_EPS):g}"


def _evaluate(folder: Path, threat: str, data_root: Path | None) -> EvaluationResult:
    checkpoint = open_checkpoint(folder)
    norm = checkpoint.card.model.norm
    where = scoring_split(checkpoint.card).model_copy(update={"limit": N_IMAGES})
    data = take_slice(where, data_root)
    return evaluate(
        checkpoint.load(),
        data.x,
        data.y,
        threat,
        ATTACKS,
        stochastic=norm.stochastic,
        batch_dependent=norm.batch_dependent,
        batch_size=BATCH,
        n_draws=N_DRAWS,
    )


def _result_of(name: str, threat: str, result: EvaluationResult) -> CheckpointResult:
    parts = [
        f"{label} {percent(result.robust_accuracy(label).value)}"
        if cell.info.complete
        else f"{label} incomplete ({cell.info.error})"
        for label, cell in result.cells.items()
    ]
    alarms = alarm_codes(result)
    alarms |= {f"{k} incomplete" for k, cell in result.cells.items() if not cell.info.complete}
    return CheckpointResult(name, threat, ", ".join(parts), tuple(sorted(alarms)))
