"""What the adversary may do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import field_validator, model_validator

from bench.core.ball import Norm, NormFacts, norm_facts
from bench.core.spec import Number, Spec


class ThreatModel(Spec):
    """A ball around each image, inside the box of valid pixels [0, 1].

    A string such as ``linf:8/255`` stands for ``{norm: linf, eps: 8/255}``.

    Attributes:
        norm: Norm that bounds the perturbation.
        eps: Radius, at least 0. In pixel units of [0, 1] images, unless ``eps_space`` says
            otherwise. A ball of radius 0 holds the clean image alone, as where a curve begins; that
            of a whole evaluation is larger (``for_all``).
        eps_space: ``"pixel"``, or ``"normalized"``: eps is in units of the model's normalized
            input (the RobustNorm paper's way), so in pixels it is ``eps * std`` per channel.
    """

    norm: Norm = "linf"
    eps: Number
    eps_space: Literal["pixel", "normalized"] = "pixel"

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        norm, colon, eps = value.partition(":")
        if not colon:
            raise ValueError(f"expected for example linf:8/255 or l2:0.5, found '{value}'")
        return {"norm": norm.strip(), "eps": eps.strip()}

    @field_validator("eps")
    @classmethod
    def _not_negative(cls, eps: float) -> float:
        if eps < 0:
            raise ValueError(f"eps must be greater than 0, found {eps}")
        return eps

    @model_validator(mode="after")
    def _space(self) -> ThreatModel:
        per_pixel = self.facts.per_pixel
        if per_pixel and self.eps_space == "pixel" and self.eps > 1:
            raise ValueError(
                f"{self.norm} eps is in units of pixels in [0, 1], so at most 1, found "
                f"{self.eps:g}; write {self.eps:g}/255 for levels of 8-bit images"
            )
        if self.eps_space == "normalized" and not per_pixel:
            raise ValueError("eps_space 'normalized' is defined for norm 'linf' only")
        return self

    def for_all(self) -> ThreatModel:
        """Returns this ball, as that of a whole evaluation; raises ``ValueError`` for eps 0."""
        if self.eps == 0:
            raise ValueError(
                "eps must be greater than 0, found 0; give eps 0 to a single attack, where a curve "
                "begins at the clean accuracy"
            )
        return self

    def holds(self, other: ThreatModel) -> bool:
        """Returns whether another ball is known to lie in this one: of its norm, and no larger.

        Balls of different norms are never said to hold each other.
        """
        alike = (self.norm, self.eps_space) == (other.norm, other.eps_space)
        return alike and other.eps <= self.eps

    @property
    def facts(self) -> NormFacts:
        """The facts about its norm."""
        return norm_facts(self.norm)

    def pixel_eps(self, std: tuple[float, ...]) -> tuple[float, ...]:
        """Returns the radius per channel in pixel units, for a model that divides by ``std``."""
        scale = std if self.eps_space == "normalized" else (1.0,) * len(std)
        return tuple(self.eps * s for s in scale)

    @property
    def eps_text(self) -> str:
        """The radius as people write it, for example ``"8/255"`` or ``"0.06"``."""
        scaled, text = self.eps * 255, f"{self.eps:g}"
        is_pixel_step = abs(scaled - round(scaled)) < 1e-9 and round(scaled) >= 1
        return f"{round(scaled)}/255" if is_pixel_step and float(text) != self.eps else text

    def describe(self) -> str:
        """Returns for example ``"linf 8/255"`` or ``"linf 0.06 (normalized)"``."""
        normalized = " (normalized)" if self.eps_space == "normalized" else ""
        return f"{self.norm} {self.eps_text}{normalized}"


def joined(balls: Sequence[ThreatModel]) -> str:
    """Names balls, at least one, in a row: ``linf 8/255, l2 0.5 and l1 12``."""
    *others, last = [ball.describe() for ball in balls]
    return f"{', '.join(others)} and {last}" if others else last


def union_faults(balls: Sequence[ThreatModel]) -> Iterator[tuple[int, str]]:
    """Yields what keeps balls from being a union, each with the position of the one to blame.

    Several balls of one norm are none: the largest holds the others.
    """
    if not balls:
        yield 0, "expected at least one threat model, found none"
    taken: dict[str, int] = {}
    for k, ball in enumerate(balls):
        first = taken.setdefault(ball.norm, k)
        if first != k:
            yield (
                k,
                f"a second ball of norm {ball.norm}: of two balls of one norm the larger holds the "
                "smaller, so keep that one, or give single attacks an eps of their own",
            )
        if k and ball.eps_space != "pixel":
            yield k, "eps in normalized units is for the first threat model of a list; put it first"
        if ball.eps == 0:
            yield k, "eps must be greater than 0, found 0"
