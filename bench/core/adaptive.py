"""What an adaptive attack brings: a stand-in for the model's backward pass, a loss of its own."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import model_validator

from bench.core.attack import AttackInfo
from bench.core.model_uri import short_name
from bench.core.spec import Spec


class GradientModel(Spec):
    """A differentiable model whose backward pass stands in for that of the attacked model.

    Attributes:
        name: Its checkpoint or URI.
        sha256: Of its weights, and of all else that decides its gradients as far as that is known.
    """

    name: str
    sha256: str


class LossFunction(Spec):
    """A Python function that an attack climbs in place of its own loss.

    Attributes:
        name: Where it is found, for example ``python:mylosses:past_the_detector``.
        sha256: Of the code that defines it.
        outputs: Names of the layers whose outputs it takes.
    """

    name: str
    sha256: str
    outputs: tuple[str, ...] = ()


class Adaptive(Spec):
    """What an attack brings that was made for the defence; at least one of the two.

    Attributes:
        gradient_model: Gives the gradients. Backward pass differentiable approximation (BPDA):
            Athalye et al. 2018, section 4.1.1, https://arxiv.org/abs/1802.00420.
        loss: Is climbed.
    """

    gradient_model: GradientModel | None = None
    loss: LossFunction | None = None

    @model_validator(mode="after")
    def _not_empty(self) -> Adaptive:
        if self.gradient_model is None and self.loss is None:
            raise ValueError("expected a gradient_model, a loss, or both; found neither")
        return self

    @classmethod
    def of(cls, gradient_model: GradientModel | None, loss: LossFunction | None) -> Adaptive | None:
        """Returns what is given; ``None`` if nothing is."""
        if gradient_model is None and loss is None:
            return None
        return cls(gradient_model=gradient_model, loss=loss)

    @property
    def exact(self) -> bool:
        """Whether the attack must see the model itself, in float32.

        Another model's backward pass and the outputs of single layers belong to the model as it
        is, not to a folded or compiled copy.
        """
        return self.gradient_model is not None or bool(self.loss and self.loss.outputs)

    def faults(
        self, attack: AttackInfo | None, crafted_on: str, *, averaged: bool
    ) -> Iterator[tuple[str, str]]:
        """Yields what has no meaning, as the key to blame and what is wrong with it.

        Args:
            attack: ``None`` judges the models alone.
            crafted_on: The surrogate that images are crafted on; empty if it is the model itself.
            averaged: Whether the mean field of a stochastic model is attacked.
        """
        if self.gradient_model is not None and crafted_on:
            yield (
                "gradient_model",
                f"images are crafted on {crafted_on} and follow its own gradients, so that nothing "
                "needs a stand-in; remove gradient_model, or use white_box",
            )
        if self.gradient_model is not None and averaged:
            yield (
                "gradient_model",
                "eot mean_field has a stand-in of its own, the mean over paths; remove "
                "gradient_model, or use eot plain or stratified",
            )
        if attack is None or self.loss is None or not attack.follows_gradient:
            return
        if not attack.takes_loss:
            yield (
                "attack",
                f"'{attack.name}' climbs losses of its own, which loss ({self.loss.name}) cannot "
                "replace; fgsm, bim, mim, pgd and apgd take a loss",
            )
        elif attack.loss:
            yield (
                "attack",
                f"'{attack.name}' has two losses, {attack.loss} in its params and "
                f"{self.loss.name}; remove the one in params",
            )

    def words(self) -> list[str]:
        """Returns what it brings, in short, as labels and lists of protocols say it."""
        found = []
        if self.gradient_model is not None:
            found.append(f"gradients of {short_name(self.gradient_model.name)}")
        if self.loss is not None:
            found.append(f"loss {short_name(self.loss.name)}")
        return found

    def note(self) -> str:
        """Returns what a table says below a number, in a sentence."""
        parts = []
        if self.gradient_model is not None:
            parts.append(
                f"its gradients are those of {self.gradient_model.name}, a stand-in for the "
                "model's backward pass (BPDA)"
            )
        if self.loss is not None:
            parts.append(f"it climbs the loss {self.loss.name}")
        return f"an adaptive attack, made for this defence: {'; '.join(parts)}"
