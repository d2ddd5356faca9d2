"""The input of an analysis: models, images, and attacked images that the verifier accepts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.attacks import get_attack
from bench.attacks.base import Budget
from bench.core.analysis import AnalysisError, AnalysisSpec
from bench.core.cell import CellSpec
from bench.core.result import VIOLATIONS
from bench.core.spec import Spec
from bench.data.slice import Slice
from bench.evaluation.cell import Batch, batch_seed, batches, craft_batch
from bench.evaluation.model import Target
from bench.oracle import Oracle, QueryRules
from bench.verify import Scoring, judge


@dataclass(frozen=True)
class Scene:
    """An analysis' models and images.

    Attributes:
        spec: The analysis.
        params: Its parameters, checked.
        targets: The models, one for each of ``spec.subjects``.
        data: The slice.
    """

    spec: AnalysisSpec
    params: Spec
    targets: tuple[Target, ...]
    data: Slice

    def batches(self, subject: int) -> Iterator[Batch]:
        """Cuts the slice into a subject's fixed batches."""
        size = self.spec.subjects[subject].batch_size
        return batches(self.data, size, self.targets[subject].device)

    def budget(self, subject: int) -> Budget:
        """Returns the ball around the images of a subject, in pixel units."""
        return Budget.of(self.spec.threat_model, self.targets[subject].std)

    def seed(self, batch: Batch, *purpose: str) -> int:
        """Returns the seed of a batch, the one that a cell has too."""
        return batch_seed(self.spec.seed, batch.number, *purpose)

    def oracle(self, subject: int, batch: Batch) -> Oracle:
        """Returns an exact oracle of a subject, always on the same draws for the same batch."""
        one, target = self.spec.subjects[subject], self.targets[subject]
        rules = QueryRules(
            stochastic=target.stochastic,
            batch_dependent=target.batch_dependent,
            eot_iter=one.eot_iter,
            eot=one.eot,
            adversary=one.adversary,
            seed=self.seed(batch),
        )
        return Oracle(target.model, batch.x, target.classes, rules)

    def scoring(self, subject: int, batch: Batch) -> Scoring:
        """Returns how a cell would score a batch of a subject."""
        one, target = self.spec.subjects[subject], self.targets[subject]
        return Scoring(
            n_draws=one.n_draws,
            seed=self.seed(batch),
            stochastic=target.stochastic,
            batch_dependent=target.batch_dependent,
            adversary=one.adversary,
            may_decline=False,
        )

    def attacked(
        self, subject: int, batch: Batch, cell: CellSpec | None = None, target: Target | None = None
    ) -> Tensor:
        """Returns the images (b, c, h, w) that the adversary shows a subject.

        They are crafted as a cell's. An image beyond eps, of a minimum-norm attack, stays clean.

        Args:
            subject: Position of the model.
            batch: The clean images.
            cell: In place of the subject's own.
            target: In place of the subject's own.

        Raises:
            AnalysisError: When the verifier finds an image outside ball or box, or not finite.
            AttackError: When the attack fails.
        """
        cell = cell or self.spec.cell(subject)
        proposed = craft_batch(cell, target or self.targets[subject], batch, len(self.data.y))
        kind = get_attack(cell.attack).kind
        statuses = judge(batch.x, proposed, self.budget(subject), kind)
        bad = [status for status in statuses if status in VIOLATIONS]
        if bad:
            raise AnalysisError(
                f"batch {batch.number}: {len(bad)} of {len(statuses)} images of the attack fail "
                f"verification: {bad[0].replace('_', ' ')}"
            )
        beyond = torch.tensor([s == "beyond_eps" for s in statuses], device=batch.x.device)
        return torch.where(beyond.view(-1, 1, 1, 1), batch.x, proposed)
