"""The classes to which targeted attacks bring the images of a batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bench.attacks.randomness import seeded
from bench.core.attack import YTarget
from bench.core.cell import CellSpec
from bench.core.errors import UserError
from bench.core.spec import digest
from bench.evaluation.model import Target
from bench.verify import Scoring


def check_targets(y_target: YTarget, y: Sequence[int], classes: int) -> None:
    """Raises ``UserError`` where a given class is none of the model's, or an image's own label.

    Args:
        y_target: As a suite or ``evaluate`` has it.
        y: Labels of the slice.
        classes: Of the model.
    """
    if isinstance(y_target, str):
        return
    given = [y_target] * len(y) if isinstance(y_target, int) else list(y_target)
    if len(given) < len(y):
        raise UserError(
            f"y_target: expected {len(y)} classes, one for each image, found {len(given)}"
        )
    beyond = [t for t in given if t >= classes]
    if beyond:
        raise UserError(f"y_target: expected classes from 0 to {classes - 1}, found {beyond[0]}")
    same = [i for i, (target, label) in enumerate(zip(given, y, strict=False)) if target == label]
    if same:
        raise UserError(
            f"y_target: {len(same)} of the {len(y)} images are of their target class already, the "
            f"first at position {same[0]}; choose images of other classes, give a list with a "
            "class for each image, or use random"
        )


def targets_of(
    spec: CellSpec,
    target: Target,
    x: Tensor,
    y: Tensor,
    index: Sequence[int],
    first: int,
    scoring: Scoring,
) -> Tensor | None:
    """Returns the target class (b,) of each image of a batch; ``None`` for an untargeted attack.

    Args:
        spec: The cell.
        target: The model that is scored.
        x: The clean batch (b, c, h, w).
        y: Labels (b,).
        index: Positions of the images in their split.
        first: Position of the batch's first image in the slice.
        scoring: How the batch is scored.

    Raises:
        UserError: When a given class does not fit, see ``check_targets``.
    """
    wanted = spec.y_target
    if wanted is None:
        return None
    labels = y.tolist()
    if isinstance(wanted, tuple):
        wanted = wanted[first : first + len(labels)]
    check_targets(wanted, labels, target.classes)
    if wanted == "random":
        chosen = [
            _random_class(spec.seed, i, c, target.classes)
            for i, c in zip(index, labels, strict=True)
        ]
        return torch.tensor(chosen, device=y.device)
    if wanted == "least_likely":
        with seeded(scoring.seed):
            likely = scoring.probabilities(target.model, x, x, LEAST_LIKELY)
        return likely.scatter(1, y[:, None], torch.inf).argmin(1)
    given = [wanted] * len(labels) if isinstance(wanted, int) else list(wanted)
    return torch.tensor(given, device=y.device)


LEAST_LIKELY = 3
"""Stream of the draws on which the least likely class is found, apart from those of scores."""


def _random_class(seed: int, index: int, label: int, classes: int) -> int:
    """Returns one of the other classes, all of them equally likely."""
    drawn = int(digest([seed, index, "y_target"], 15), 16) % (classes - 1)
    return drawn + (drawn >= label)
