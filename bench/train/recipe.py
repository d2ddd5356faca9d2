"""What a training run is, as data: ``checkpoints/recipes/NAME.yaml``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from bench.core.base import Spec
from bench.core.model_spec import ModelSpec
from bench.core.numbers import Number
from bench.core.threat import ThreatModel


class InnerAttack(Spec):
    """The PGD that makes training examples (Madry et al., https://arxiv.org/abs/1706.06083).

    Attributes:
        threat_model: Its ball, linf.
        alpha: Step size in pixel units, > 0.
        n_iter: Number of steps, at least 1, from a random start.
    """

    threat_model: ThreatModel
    alpha: Number = Field(gt=0)
    n_iter: int = Field(ge=1)

    @field_validator("threat_model")
    @classmethod
    def _linf_in_pixels(cls, threat_model: ThreatModel) -> ThreatModel:
        if threat_model.norm != "linf" or threat_model.eps_space != "pixel":
            raise ValueError("training attacks know only norm linf with eps_space pixel")
        return threat_model


class Augment(Spec):
    """Random crop after zero padding by ``pad`` pixels, and random horizontal flip."""

    pad: int = Field(default=0, ge=0)
    flip: bool = False


class Recipe(Spec):
    """Everything that decides a checkpoint's weights.

    Attributes:
        kind: ``natural``; ``adversarial`` (on the inner attack's examples; of an RNA model, on the
            path that was attacked); ``black-box`` (RNA's algorithm 1: attack one path, train
            another).
        lr: Peak learning rate of a one-cycle schedule: linear up, then linear down to zero.
        warmup: Fraction of the steps on the way up, in (0, 1).
        clip: Gradient norm is cut to this value; ``None`` leaves it.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    model: ModelSpec
    dataset: str
    kind: Literal["natural", "adversarial", "black-box"] = "natural"
    attack: InnerAttack | None = None
    epochs: int = Field(ge=1)
    batch_size: int = Field(default=256, ge=1)
    lr: Number = Field(gt=0)
    warmup: Number = Field(default=0.25, gt=0, lt=1)
    momentum: Number = Field(default=0.9, ge=0, lt=1)
    weight_decay: Number = Field(default=5e-4, ge=0)
    clip: Number | None = Field(default=None, gt=0)
    augment: Augment = Augment()
    seed: int = 0
    limit: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if (self.kind == "natural") != (self.attack is None):
            raise ValueError("kind 'natural' takes no attack; the other kinds need one")
        if self.kind == "black-box" and not self.model.norm.stochastic:
            raise ValueError(
                "kind 'black-box' attacks one path and trains another, so it needs norm 'rna' with "
                "a pool of at least two"
            )
        return self
