"""The result of probing a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from bench.core.spec import Spec

Severity = Literal["error", "warning", "note"]
"""``error``: no number of this model can be trusted. ``warning``: some attacks will be weaker than
they should be, or a property may be hidden. ``note``: harmless, but good to know."""

Outputs = Literal["logits", "probabilities", "log_probabilities"]

ABOUT_GRADIENTS = frozenset(
    {
        "autograd_inside",
        "detached_gradient",
        "nonfinite_gradient",
        "misleading_gradient",
        "masked_gradient",
        "zero_gradient",
        "wrong_gradient",
    }
)
"""Codes of findings that concern only attacks that follow the model's own gradients."""

Share = Field(ge=0, le=1)


class Finding(Spec):
    """One reason to doubt an evaluation of the model.

    Attributes:
        code: A short fixed name, such as ``detached_gradient``.
        severity: How serious it is.
        text: What was found and what to do, in one sentence.
    """

    code: str
    severity: Severity
    text: str


class ProbeResult(Spec):
    """The observed properties of a model on a few images.

    Attributes:
        n_images: Number of images used.
        clean_accuracy: Share of them that one pass classifies correctly; near chance if labels or
            preprocessing do not fit the model.
        stochastic: Whether repeated passes over the same batch differ.
        noise: Largest change of a logit between such passes, relative to the logits' scale.
        batch_dependent: Whether an image's logits depend on its batch: on the other images, their
            number, or its position.
        batch_effect: Largest change of a logit with the batch, relative to the logits' scale;
            ``None`` if a forward pass fails on another batch size, or if the model is stochastic
            and the change was tested against its noise.
        outputs: What ``forward`` returns.
        logit_scale: Largest distance of an output from the mean of its row.
        train_mode: Names of layers in train mode; the root's is ``(model)``.
        unreached: Names of layers in train mode that ``eval()`` does not reach, in a plain list or
            attribute.
        unused_branches: Submodules that never ran, but could replace a sibling and would change the
            logits.
        state_changes: State of the model that a forward pass changes.
        autograd_inside: Whether ``forward`` itself uses autograd.
        differentiable: Whether a gradient reaches the input.
        nonfinite_gradient: Share of images with a NaN or infinite gradient.
        zero_gradient: Share of images on which the gradient of the margin is zero everywhere.
        masked_gradient: Share of images with zero gradient whose logits change nevertheless.
        saturated: Share of images on which the gradient of the cross-entropy is lost to rounding,
            although the margin has one.
        gradient_error: Share of images (for a batch-dependent model, of batches) on which the
            gradient differs from finite differences; ``None`` if that could not be measured.
        stateful: Whether its answers depend on what it was asked before, without a draw.
        grad_effect: Largest change of a logit when a gradient is wanted, relative to the logits'
            scale.
        misled_inside: Share of images on which a step inside the ball keeps less than a third of
            what the gradient promises (``bench.probe.gradient.probe_inside``); ``None`` if that
            could not be measured.
        findings: Findings, most serious first; none for a sound model.
    """

    n_images: int = Field(ge=2)
    clean_accuracy: float = Share
    stochastic: bool
    noise: float = Field(ge=0)
    batch_dependent: bool
    batch_effect: float | None = Field(ge=0)
    outputs: Outputs
    logit_scale: float = Field(ge=0)
    train_mode: tuple[str, ...] = ()
    unreached: tuple[str, ...] = ()
    unused_branches: tuple[str, ...] = ()
    state_changes: tuple[str, ...] = ()
    autograd_inside: bool = False
    differentiable: bool = True
    nonfinite_gradient: float = Share
    zero_gradient: float = Share
    masked_gradient: float = Share
    saturated: float = Share
    gradient_error: float | None = Field(default=None, ge=0, le=1)
    stateful: bool = False
    grad_effect: float = Field(default=0.0, ge=0)
    misled_inside: float | None = Field(default=None, ge=0, le=1)
    findings: tuple[Finding, ...] = ()

    def disagreement(self, *, stochastic: bool, batch_dependent: bool) -> str:
        """Returns how a declaration differs from this probe; empty if they agree."""
        declared = describe(stochastic, batch_dependent)
        probed = describe(self.stochastic, self.batch_dependent)
        if declared == probed:
            return ""
        return (
            f"the model is declared {declared}, but the probe found it {probed} (noise "
            f"{self.noise:.1e}, {self._batch_words()}); correct the declaration, or the model, "
            "for each kind needs an evaluation of its own"
        )

    def _batch_words(self) -> str:
        if self.batch_effect is not None:
            return f"effect of the batch {self.batch_effect:.1e} of the logits' scale"
        how = "was shown" if self.batch_dependent else "was not shown"
        return f"an effect of the batch {how}"


def describe(stochastic: bool, batch_dependent: bool) -> str:
    """Returns for example ``"deterministic and per-sample"``."""
    first = "stochastic" if stochastic else "deterministic"
    return f"{first} and {'batch-dependent' if batch_dependent else 'per-sample'}"


def some(names: Sequence[str]) -> str:
    """Returns the first three names and the number of further ones."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
