"""What a training run is, as data."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, field_validator, model_validator

from bench.core.model_spec import ModelSpec
from bench.core.spec import Number, Spec
from bench.core.threat import ThreatModel


def rate_fraction(schedule: Schedule, step: int, n_steps: int, steps_per_epoch: int) -> float:
    """Returns the learning rate of a step as a fraction of its peak, in [0, 1].

    Linear and cosine parts are taken at the middle of the step.

    Args:
        schedule: Its form.
        step: From 0.
        n_steps: Steps of the whole training.
        steps_per_epoch: What the milestones are counted in.
    """
    if schedule.name == "piecewise":
        epoch = step // steps_per_epoch
        return float(schedule.factor ** sum(epoch >= m for m in schedule.milestones))
    at = (step + 0.5) / n_steps
    if at < schedule.warmup:
        return at / schedule.warmup
    left = (1 - at) / (1 - schedule.warmup)
    return left if schedule.name == "one-cycle" else (1 - math.cos(math.pi * left)) / 2


class InnerAttack(Spec):
    """What makes training examples.

    Attributes:
        method: ``pgd`` (Madry et al., https://arxiv.org/abs/1706.06083): ``n_iter`` steps inside
            the ball from a uniform start. ``n-fgsm`` (de Jorge et al. 2022,
            https://arxiv.org/abs/2202.01181, algorithm 1): one step from uniform noise of twice
            eps, cut to the pixels' range but not to the ball, at half the cost of ``pgd`` with
            three steps.
        threat_model: Its ball, linf, in pixels or in units of the normalized input.
        alpha: Step size in the units of ``threat_model.eps``, > 0.
        n_iter: Number of steps, at least 1; 1 for ``n-fgsm``.
    """

    method: Literal["pgd", "n-fgsm"] = "pgd"
    threat_model: ThreatModel
    alpha: Number = Field(gt=0)
    n_iter: int = Field(default=1, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _counted(cls, data: object) -> object:
        if isinstance(data, dict) and data.get("method", "pgd") == "pgd" and "n_iter" not in data:
            raise ValueError("method 'pgd' needs n_iter, its number of steps")
        return data

    @model_validator(mode="after")
    def _one_step(self) -> InnerAttack:
        if self.method == "n-fgsm" and self.n_iter != 1:
            raise ValueError(f"method 'n-fgsm' takes one step, n_iter is {self.n_iter}")
        return self

    @field_validator("threat_model")
    @classmethod
    def _linf(cls, threat_model: ThreatModel) -> ThreatModel:
        if threat_model.norm != "linf":
            raise ValueError("training attacks know only norm linf")
        return threat_model


class Augment(Spec):
    """How training images are varied.

    Attributes:
        pad: Random crop after zero padding by so many pixels.
        flip: Random horizontal flip.
        resized_crop: Random area and aspect ratio, resized to the model's size; for image folders
            that stay on disk (ImageNet), which take no ``pad``.
    """

    pad: int = Field(default=0, ge=0)
    flip: bool = False
    resized_crop: bool = False


class Schedule(Spec):
    """How the learning rate runs from the first step to the last.

    Attributes:
        name: ``one-cycle`` (linear up, then linear down to zero), ``piecewise`` (constant, times
            ``factor`` at each milestone) or ``cosine`` (linear up, then half a cosine to zero).
        warmup: Fraction of all steps on the way up, in [0, 1); not for ``piecewise``.
        milestones: Epochs (counted from 0) at whose start the rate drops; for ``piecewise``.
        factor: What it is multiplied by there, in (0, 1).
    """

    name: Literal["one-cycle", "piecewise", "cosine"] = "one-cycle"
    warmup: Number = Field(default=0.25, ge=0, lt=1)
    milestones: tuple[int, ...] = ()
    factor: Number = Field(default=0.1, gt=0, lt=1)

    @model_validator(mode="after")
    def _consistent(self) -> Schedule:
        if (self.name == "piecewise") != bool(self.milestones):
            raise ValueError("schedule 'piecewise' needs milestones, and only it takes them")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("milestones must rise from one to the next")
        return self


class Recipe(Spec):
    """Everything that decides a checkpoint's weights.

    Attributes:
        name: The checkpoint's: lower-case letters, digits, ``.``, ``_`` and ``-``; it begins with a
            letter or a digit.
        scale: ``paper`` (the authors' epochs, batch and schedule) or ``compact`` (short).
        source: Which published table or figure the recipe belongs to, for people.
        model: Architecture and norm.
        dataset: The data set, by name; it is trained on its train split and scored on its test
            split, unless the next two say otherwise.
        train_on: Other data sets to train on instead, put together; each with its train split
            where it has one.
        score_on: Another data set whose test split gives the card's accuracy.
        kind: ``natural``; ``mixed`` (mean loss of a batch and of its adversarial examples);
            ``adversarial`` (on the inner attack's examples; of an RNA model, on the path that was
            attacked); ``black-box`` (RNA's algorithm 1: attack one path, train another).
        attack: What makes the adversarial examples; ``None`` for kind ``natural`` and for no other.
        epochs: Times that every image is trained on, at least 1.
        batch_size: Images of a step, at least 1; over all processes, where several train together.
        lr: Peak learning rate of SGD, > 0; scalar parameters, which Fixup has, take a tenth of it.
        schedule: How the learning rate runs.
        momentum: Of SGD, in [0, 1).
        nesterov: Whether that is Nesterov's; without momentum it changes nothing.
        weight_decay: Share of a parameter that is added to its gradient, at least 0.
        decay: What ``weight_decay`` is applied to: matrices and kernels (``weights``), or ``all``.
        clip: Norm, > 0, to which the gradient of all parameters together is cut; ``None`` leaves
            it.
        augment: How training images are varied.
        seed: Of everything random: initial weights, order, augmentation, starts of the attack, and
            the paths of an RNA model.
        limit: Trains on so many images only, at least 1, evenly spaced over the data set; ``None``
            for all.
        notes: What the card should tell.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    scale: Literal["compact", "paper"] = "compact"
    source: str = ""
    model: ModelSpec
    dataset: str
    train_on: tuple[str, ...] = ()
    score_on: str | None = None
    kind: Literal["natural", "mixed", "adversarial", "black-box"] = "natural"
    attack: InnerAttack | None = None
    epochs: int = Field(ge=1)
    batch_size: int = Field(default=256, ge=1)
    lr: Number = Field(gt=0)
    schedule: Schedule = Schedule()
    momentum: Number = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: Number = Field(default=5e-4, ge=0)
    decay: Literal["weights", "all"] = "weights"
    clip: Number | None = Field(default=None, gt=0)
    augment: Augment = Augment()
    seed: int = 0
    limit: int | None = Field(default=None, ge=1)
    notes: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if (self.kind == "natural") != (self.attack is None):
            raise ValueError("kind 'natural' takes no attack; the other kinds need one")
        if self.kind == "black-box" and not self.model.norm.stochastic:
            raise ValueError(
                "kind 'black-box' attacks one path and trains another, so it needs norm 'rna' with "
                "a pool of at least two"
            )
        last = max(self.schedule.milestones, default=0)
        if last >= self.epochs:
            raise ValueError(f"a milestone at epoch {last} lies past the last of {self.epochs}")
        return self
