"""Checks stored adversarial examples against model and data, without running an attack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from bench.attacks import get_attack
from bench.attacks.base import Attack, Budget
from bench.core.errors import UserError, one_line, place_of
from bench.core.result import CellInfo, Row
from bench.evaluation.cell import Batch, batches, judge_batch
from bench.evaluation.model import Target
from bench.oracle import frozen
from bench.run.job import Job, open_job
from bench.store.run_store import RunStore

CLOSE = 1e-9
"""Tolerance of a distance in pixel units; distances are computed in double precision."""

_EXACT = ("index", "label", "clean_pred", "clean_correct", "adv_pred", "adv_correct")
_PLAYED = ("robust", "played", "status")


@dataclass(frozen=True)
class Failure:
    """An image whose stored row does not match its stored example.

    Attributes:
        index: Index of the image in its split.
        claimed: Whether the row says that the example lowers the model's score.
        why: The differences, in one line.
    """

    index: int
    claimed: bool
    why: str


@dataclass(frozen=True)
class Verdict:
    """The result of re-verifying a cell.

    Attributes:
        images: Images checked.
        claims: How many of them have a row that says the example lowers the model's score.
        failures: The images whose rows do not match.
    """

    images: int
    claims: int
    failures: tuple[Failure, ...]

    @property
    def failed_claims(self) -> int:
        """How many claims do not hold."""
        return sum(failure.claimed for failure in self.failures)


def reverify(job: Job, info: CellInfo, rows: Sequence[Row], store: RunStore) -> Verdict:
    """Scores a cell's stored examples again, with the random draws of the stored rows.

    Raises:
        UserError: When checkpoint or data are not those of the cell, a file is missing or damaged,
            or the model fails.
    """
    target, _, data = open_job(job)
    spec, attack = info.spec, get_attack(info.spec.attack)
    budget = Budget.of(spec.threat_model, target.std)
    stored: dict[int, list[Row]] = {}
    for row in rows:
        stored.setdefault(row.batch, []).append(row)
    failures: list[Failure] = []
    claims = 0
    with frozen(target.model):
        for batch in batches(data, spec.batch_size, target.device):
            mine = stored.pop(batch.number, [])
            claims += sum(_claimed(row) for row in mine)
            found = _judged(store, info, attack, target, batch, budget)
            failures += _compare(mine, found, batch.index)
    for left in stored.values():
        failures += [Failure(row.index, _claimed(row), "not among the images") for row in left]
    return Verdict(len(data.y), claims, tuple(failures))


def _judged(
    store: RunStore, info: CellInfo, attack: Attack, target: Target, batch: Batch, budget: Budget
) -> list[Row]:
    """Returns the verifier's rows for the stored examples of a batch."""
    index, images = store.examples.read(info.cell_id, batch.number)
    if index != batch.index or images.shape != tuple(batch.x.shape):
        raise UserError(
            f"{store.folder}: the examples of cell {info.cell_id}, batch {batch.number}, are of "
            f"shape {images.shape}, expected {tuple(batch.x.shape)} for the same images; run the "
            "suite with --save-adv again"
        )
    x_adv = torch.from_numpy(images.copy()).to(target.device)
    try:
        return judge_batch(info.spec, attack, target, batch, x_adv, budget)
    except Exception as error:  # foreign code: whatever a model raises is its failure
        why = one_line(error) + place_of(error)
        raise UserError(f"the model failed on batch {batch.number}: {why}") from error


def _compare(stored: Sequence[Row], found: Sequence[Row], index: Sequence[int]) -> list[Failure]:
    known = {row.index: row for row in stored}
    failures = [Failure(i, False, "no row is stored of it") for i in index if i not in known]
    for now in found:
        row = known.get(now.index)
        if row is None:
            continue
        differs = [
            f"{name} is {getattr(now, name)}, stored {getattr(row, name)}"
            for name in _EXACT + _PLAYED
            if getattr(now, name) != getattr(row, name)
        ]
        for name in ("linf", "l2"):
            a, b = getattr(now, name), getattr(row, name)
            if not (a == b or abs(a - b) <= CLOSE):
                differs.append(f"{name} is {a:.9g}, stored {b:.9g}")
        if differs:
            failures.append(Failure(now.index, _claimed(row), "; ".join(differs)))
    return failures


def _claimed(row: Row) -> bool:
    """Says whether a row claims that the model is worse on x_adv than on the clean image."""
    return row.adv_correct is not None and row.adv_correct < row.clean_correct
