"""The only judge of an attack: distance, box, finiteness and prediction on the exact model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.attacks.ball import ball_of
from bench.attacks.base import Budget
from bench.core.attack import AttackKind
from bench.core.cell import Adversary
from bench.core.result import VIOLATIONS, Row, Status
from bench.verify.scoring import (
    fraction_correct,
    majority,
    mean_probabilities,
    predict_draws,
)

TOLERANCE = 1e-6
"""How far beyond box or ball an x_adv may lie: the rounding of float32 pixels."""


@dataclass(frozen=True)
class Scoring:
    """How a model is scored.

    Attributes:
        n_draws: Fresh draws per image; 1 for a deterministic model.
        seed: Seed of the draws.
        stochastic: Whether two passes over one image may differ.
        batch_dependent: Whether the images of a batch share statistics.
        adversary: Whether such a batch is played whole (``joint``), or each image alone among
            clean ones (``single``).
        may_decline: Whether the adversary plays the clean image where that is worse for the
            model. Only under ``white_box``: the papers score x_adv as it is under ``fixed_path``,
            and an adversary with another model cannot know where this one is wrong. A batch that is
            played whole is also played as the attack made it.
    """

    n_draws: int
    seed: int
    stochastic: bool
    batch_dependent: bool = False
    adversary: Adversary = "joint"
    may_decline: bool = True

    @property
    def whole_batch(self) -> bool:
        """Whether candidates are scored together."""
        return self.batch_dependent and self.adversary == "joint"

    def draws(self, model: nn.Module, x: Tensor, clean: Tensor, stream: int) -> Tensor:
        """Predicts images (b, c, h, w) on fresh draws; another ``stream``, other draws."""
        return predict_draws(
            model,
            x,
            self.n_draws,
            self.seed + stream,
            shared_path=self.batch_dependent,
            companions=self._companions(x, clean),
        )

    def probabilities(self, model: nn.Module, x: Tensor, clean: Tensor, stream: int) -> Tensor:
        """Returns the mean probabilities (b, n_classes) of images on the draws of ``draws``."""
        return mean_probabilities(
            model,
            x,
            self.n_draws,
            self.seed + stream,
            shared_path=self.batch_dependent,
            companions=self._companions(x, clean),
        )

    def _companions(self, x: Tensor, clean: Tensor) -> Tensor | None:
        alone = self.batch_dependent and self.adversary == "single"
        return clean if alone and x is not clean else None


def check_candidate(x: Tensor, x_adv: object) -> Tensor:
    """Returns x_adv as float32 on x's device; raises ``ValueError`` unless shape and type fit."""
    if not isinstance(x_adv, Tensor):
        raise ValueError(f"the attack returned {type(x_adv).__name__}, expected a tensor")
    if x_adv.shape != x.shape:
        raise ValueError(
            f"the attack returned shape {tuple(x_adv.shape)}, expected {tuple(x.shape)}"
        )
    if not x_adv.is_floating_point():
        raise ValueError(f"the attack returned {x_adv.dtype}, expected floating-point pixels")
    return x_adv.detach().to(x.device, torch.float32)


def judge(x: Tensor, x_adv: Tensor, budget: Budget, kind: AttackKind) -> list[Status]:
    """Returns the status of each x_adv (b, c, h, w) against ball and box.

    Raises:
        UserError: When the budget's norm is not one of a threat model.
    """
    excess = ball_of(budget).excess((x_adv - x).double())
    outside = torch.maximum(-x_adv, x_adv - 1).flatten(1).amax(1)
    finite = torch.isfinite(x_adv).flatten(1).all(1)
    statuses: list[Status] = []
    for is_finite, beyond, out in zip(
        finite.tolist(), excess.tolist(), outside.tolist(), strict=True
    ):
        if not is_finite:
            statuses.append("not_finite")
        elif out > TOLERANCE:
            statuses.append("out_of_box")
        elif beyond > TOLERANCE:
            statuses.append("beyond_eps" if kind == "minimum-norm" else "out_of_ball")
        else:
            statuses.append("ok")
    return statuses


def verify_batch(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    x_adv: Tensor,
    budget: Budget,
    kind: AttackKind,
    scoring: Scoring,
    known: dict[object, Tensor] | None = None,
    y_target: Tensor | None = None,
) -> list[Row]:
    """Judges and scores a batch; returns a row per image, with index, batch and passes at zero.

    Args:
        model: The exact model, in eval mode.
        x: Clean images (b, c, h, w), pixels in [0, 1].
        y: Labels (b,).
        x_adv: The attack's candidates, of x's shape; never trusted.
        budget: The ball.
        kind: Whether the attack knows eps.
        scoring: Draws, and what the adversary may play.
        known: Cache of this model's predictions of the clean batch, shared by several attacks.
        y_target: Classes (b,) that a targeted attack brings the images to; the score of an image is
            then the fraction of draws that are not its target. ``None`` for an untargeted attack.

    A batch-dependent model's images are scored in the batch as the attack made it, except that an
    image beyond eps is clean there. If one of them violates ball or box there is no valid batch,
    so every image of it is marked.
    """
    statuses = judge(x, x_adv, budget, kind)
    if scoring.whole_batch:
        spoiled = next((s for s in statuses if s in VIOLATIONS), None)
        statuses = [spoiled] * len(statuses) if spoiled else statuses
    beyond = torch.tensor([s == "beyond_eps" for s in statuses], device=x.device)
    violated = torch.tensor([s in VIOLATIONS for s in statuses], device=x.device)
    candidates = torch.where(_per_image(violated), x, x_adv)
    known = {} if known is None else known

    def score(draws: Tensor) -> Tensor:
        if y_target is None:
            return fraction_correct(draws, y)
        return 1 - fraction_correct(draws, y_target)

    clean = _clean_draws(model, x, scoring, 0, known)
    adv = scoring.draws(model, candidates, x, 1)
    declines = beyond | violated
    choice: Tensor | None = None
    if scoring.whole_batch:
        shown = torch.where(_per_image(beyond), x, candidates)
        played = scoring.draws(model, shown, x, 1) if bool(beyond.any()) else adv
        robust = score(played)
        if scoring.stochastic:
            choice = score(scoring.draws(model, shown, x, 2))
    elif scoring.stochastic:
        on_clean = score(_clean_draws(model, x, scoring, 2, known))
        on_adv = score(scoring.draws(model, candidates, x, 2))
        if scoring.may_decline:
            declines = declines | (on_clean < on_adv)
        choice = torch.where(declines, on_clean, on_adv)
        robust = torch.where(declines, score(clean), score(adv))
    else:
        if scoring.may_decline:  # what is scored may be looked at: it stays the same
            declines = declines | (score(clean) == 0)
        robust = torch.where(declines, score(clean), score(adv))
    return _rows(x, x_adv, y, clean, adv, robust, choice, declines, statuses, y_target)


def _per_image(flags: Tensor) -> Tensor:
    return flags.view(-1, 1, 1, 1)


def _clean_draws(
    model: nn.Module, x: Tensor, scoring: Scoring, stream: int, known: dict[object, Tensor]
) -> Tensor:
    """Predicts clean images on the draws of a stream, once."""
    key = (scoring.n_draws, scoring.seed + stream, scoring.batch_dependent)
    if key not in known:
        known[key] = scoring.draws(model, x, x, stream)
    return known[key]


def _rows(
    x: Tensor,
    x_adv: Tensor,
    y: Tensor,
    clean: Tensor,
    adv: Tensor,
    robust: Tensor,
    choice: Tensor | None,
    declines: Tensor,
    statuses: list[Status],
    y_target: Tensor | None = None,
) -> list[Row]:
    delta = torch.nan_to_num(x_adv - x, nan=float("inf")).flatten(1).double()
    clean_pred, clean_correct = majority(clean).tolist(), fraction_correct(clean, y).tolist()
    adv_pred, adv_correct = majority(adv).tolist(), fraction_correct(adv, y).tolist()
    rows = []
    for i, status in enumerate(statuses):
        bad = status in VIOLATIONS
        rows.append(
            Row(
                index=0,
                label=int(y[i]),
                clean_pred=clean_pred[i],
                clean_correct=clean_correct[i],
                adv_pred=-1 if bad else adv_pred[i],
                adv_correct=None if bad else adv_correct[i],
                robust=None if bad else float(robust[i]),
                played="clean" if bool(declines[i]) else "adv",
                linf=float(delta[i].abs().max()),
                l2=float(delta[i].norm()),
                status=status,
                batch=0,
                forwards=0.0,
                backwards=0.0,
                choice=None if bad or choice is None else float(choice[i]),
                target=None if y_target is None else int(y_target[i]),
            )
        )
    return rows
