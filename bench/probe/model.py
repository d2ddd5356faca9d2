"""The probe: observes what a model does, whatever it is declared to be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import torch
from torch import Tensor, nn

from bench.attacks.base import Budget
from bench.attacks.randomness import seeded
from bench.core.errors import UserError
from bench.metrics import at_least
from bench.norms import unregistered
from bench.oracle import input_kept
from bench.probe.branches import unused_branches
from bench.probe.findings import Finding, Outputs, ProbeResult, Severity, some
from bench.probe.forward import (
    REPEAT_TOLERANCE,
    REPEATS,
    BatchProbe,
    measure_noise,
    probe_batches,
)
from bench.probe.gradient import SLOPE_IMAGES, GradientProbe, probe_gradient, probe_inside
from bench.probe.state import probe_state
from bench.probe.subject import Subject, copied, scale_of

MAX_IMAGES = 16
"""Images that are used; more would cost time and show nothing new."""

SATURATED_SHARE = 0.25
"""Share of saturated images that is a finding: a model may be very confident on a few."""

ZERO_SHARE = 0.25
"""Share of images without a gradient that is a finding: a sound network may be flat at a few."""

MISLED_SHARE = 0.5
"""Share of images misled inside the ball that is a finding."""

OFF_SLOPE_SHARE = 0.25
"""Share of images off the slope that is a finding: a few may lie at a kink."""

SOUND_SHARE = 0.12
"""Share of flat, saturated or misled images that is no finding. The few that the probe looks at
must show more, or one flat image of two would speak against a network."""

_ORDER: dict[Severity, int] = {"error": 0, "warning": 1, "note": 2}


def probe(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    classes: int,
    seed: int = 0,
    budget: Budget | None = None,
    batch_size: int = 0,
) -> ProbeResult:
    """Observes a model's properties on a few images, and reports problems.

    The model is copied if possible; its modes and the global random state do not change.

    Args:
        model: Maps images (b, c, h, w) in [0, 1] to logits (b, classes).
        x: At least 2 images on the model's device; the first 16 are used.
        y: Labels (b,).
        classes: Number of classes.
        seed: Seeds everything random in the probe.
        budget: The ball in which the model will be attacked, to look at gradients inside it.
        batch_size: Images in the batches that will be attacked and scored.

    Raises:
        UserError: When there are fewer than 2 images, or the model fails on them or does not return
            logits.
    """
    if len(x) < 2 or len(x) != len(y):
        raise UserError(
            f"the probe needs at least 2 images, each with a label; found {len(x)} images and "
            f"{len(y)} labels"
        )
    x, y = x[:MAX_IMAGES].detach(), y[:MAX_IMAGES]
    with seeded(seed), input_kept(model):
        subject = Subject(copied(model) or model, classes)
        asked, (z, autograd_inside) = len(x), _first_pass(subject, x, batch_size)
        x, y = x[: len(z)], y[: len(z)]
        state_changes = subject.restore()
        state = probe_state(subject, x, seed)
        subject.restore()
        noise = measure_noise(subject, x, seed, batch_size)
        batches = probe_batches(subject, x, noise, seed)
        branches = unused_branches(subject, x if batches.dependent else x[:2])
        # Where dozens of passes were equal to the last bit, two more decide.
        times = REPEATS if noise else 2
        alone = not batches.dependent
        gradient = probe_gradient(subject, x, per_sample=alone, seed=seed, times=times)
        inside = None
        if budget is not None:
            inside = probe_inside(subject, x, budget, per_sample=alone, seed=seed, times=times)
        subject.restore()
    result = ProbeResult(
        n_images=len(x),
        clean_accuracy=float((z.argmax(1) == y).double().mean()),
        stochastic=noise > REPEAT_TOLERANCE and not state.remembers,
        noise=noise,
        batch_dependent=batches.dependent,
        batch_effect=batches.effect,
        outputs=_outputs(z),
        logit_scale=scale_of(z),
        train_mode=tuple(n or "(model)" for n, m in model.named_modules() if m.training),
        unreached=tuple(name for name, m in unregistered(model).items() if m.training),
        unused_branches=branches,
        state_changes=tuple(state_changes),
        autograd_inside=autograd_inside,
        differentiable=gradient.differentiable,
        nonfinite_gradient=gradient.nonfinite,
        zero_gradient=gradient.zero,
        masked_gradient=gradient.masked,
        saturated=gradient.saturated,
        gradient_error=gradient.error,
        stateful=state.remembers,
        grad_effect=state.grad_effect,
        misled_inside=inside,
    )
    if len(x) < asked:
        also = filter(None, (f"{asked} images", batches.fails_on))
        batches = replace(batches, fails_on=" and ".join(also))
    findings = [*_about_modes(result, model), *_about_forward(result, z, batches)]
    findings += _about_gradient(result, gradient)
    findings.sort(key=lambda finding: _ORDER[finding.severity])
    return result.model_copy(update={"findings": tuple(findings)})


def _first_pass(subject: Subject, x: Tensor, batch_size: int) -> tuple[Tensor, bool]:
    """Returns what ``Subject.first_pass`` does, on as many of the images as the model takes."""
    fewer = sorted({batch_size, 8, 4, 2}.intersection(range(2, len(x))), reverse=True)
    try:
        return subject.first_pass(x)
    except UserError:
        for n in fewer:
            with suppress(UserError):
                return subject.first_pass(x[:n])
        raise


def _outputs(z: Tensor) -> Outputs:
    z = z.double()
    if bool(((z >= 0) & (z <= 1)).all()) and bool(((z.sum(1) - 1).abs() < 1e-4).all()):
        return "probabilities"
    is_log = bool((torch.logsumexp(z, 1).abs() < 1e-4).all())
    return "log_probabilities" if is_log else "logits"


def _about_modes(result: ProbeResult, model: nn.Module) -> Iterator[Finding]:
    """Yields findings about layers in train mode."""
    if model.training:
        yield _error(
            "train_mode",
            f"{some(result.train_mode)} in train mode, where dropout draws and batch "
            "normalization uses and updates batch statistics; call model.eval()",
        )
    else:
        layers = dict(model.named_modules())
        norms = [
            n for n in result.train_mode if isinstance(layers[n], nn.modules.batchnorm._NormBase)
        ]
        others = [name for name in result.train_mode if name not in norms]
        where = "in train mode, in a model that is in eval mode:"
        if norms:
            yield _warning(
                "train_mode",
                f"{some(norms)} {where} normalized by the statistics of the batch; call "
                "model.eval() if that is not meant",
            )
        if others:
            yield _note(
                "train_mode",
                f"{some(others)} {where} evaluated so, as Monte Carlo dropout is; call "
                "model.eval() if that is not meant",
            )
    if result.unreached:
        yield _error(
            "unreached_layers",
            f"{some(result.unreached)} in train mode, and in a plain list or attribute, where "
            "PyTorch finds no layers: eval(), to() and the state dict pass them by; put them into "
            "an nn.ModuleList",
        )


def _about_forward(result: ProbeResult, z: Tensor, batches: BatchProbe) -> Iterator[Finding]:
    """Yields findings about the forward pass."""
    if not bool(z.isfinite().all()):
        share = float((~z.isfinite().all(1)).double().mean())
        yield _error("nonfinite_logits", f"{share:.0%} of the images have NaN or infinite logits")
    if result.state_changes:
        yield _error(
            "state_changes",
            f"a forward pass changes {some(result.state_changes)}, so results depend on what was "
            "asked before; freeze that state for evaluation",
        )
    if result.stateful:
        yield _error(
            "stateful",
            "its answer depends on what it was asked before, though nothing is drawn at random: "
            "it keeps earlier answers or a state between passes; attacks and scores would see "
            "different models, so reset that state before each pass",
        )
    if result.grad_effect > REPEAT_TOLERANCE:
        yield _error(
            "looks_at_grad",
            f"its logits change by {result.grad_effect:.1e} of their scale when a gradient is "
            "wanted: attacks see another model than the one that is scored",
        )
    if result.autograd_inside:
        yield _warning(
            "autograd_inside",
            "forward uses autograd for itself, as purification does: it fails in inference mode, "
            "and a gradient through it is missing or costly; attack it with an approximation of "
            "its backward pass, and with attacks that need no gradient",
        )
    if result.unused_branches:
        yield _warning(
            "unused_branches",
            f"some branches never run ({some(result.unused_branches)}): if something outside "
            "forward chooses among them, the model is stochastic and no repetition of forward "
            "shows it; draw the branch inside forward, or remove those that are not used",
        )
    if batches.fails_on:
        yield _error(
            "batch_size",
            f"forward fails on {batches.fails_on}, though it works on {result.n_images} images",
        )
    if result.outputs == "probabilities":
        yield _warning(
            "probabilities",
            "the outputs are probabilities: a loss that applies softmax again has little gradient "
            "left; return the logits before the softmax",
        )
    if result.outputs == "log_probabilities":
        yield _note("log_probabilities", "the outputs are log-probabilities, which serve as logits")


def _about_gradient(result: ProbeResult, gradient: GradientProbe) -> Iterator[Finding]:
    """Yields findings about the gradient."""
    blind = "attacks that follow the gradient are blind; trust only those that need none"
    if not result.differentiable:
        yield _error("detached_gradient", f"{gradient.problem}: {blind}")
    if result.nonfinite_gradient:
        share = f"{result.nonfinite_gradient:.0%} of the images"
        yield _error("nonfinite_gradient", f"on {share} the gradient is NaN or infinite: {blind}")
    n = result.n_images
    n_inside = n if result.batch_dependent else min(n, SLOPE_IMAGES)
    misled = result.misled_inside
    if misled is not None and misled >= MISLED_SHARE and _shown(misled, n_inside):
        yield _warning(
            "misleading_gradient",
            f"at random points of the ball, on {misled:.0%} of the images a step "
            "along the gradient changes the margin by less than a third of what the gradient "
            "promises: ripples, a cut or masked gradients; trust attacks that need none",
        )
    if result.masked_gradient >= ZERO_SHARE and _shown(result.masked_gradient, n):
        yield _error(
            "masked_gradient",
            f"on {result.masked_gradient:.0%} of the images the gradient is zero, though the "
            f"logits move with the image, as behind a quantized or step-function layer: {blind}",
        )
    flat = result.zero_gradient - result.masked_gradient
    if flat >= ZERO_SHARE and _shown(flat, n):
        share = f"on {flat:.0%} of the images"
        yield _warning("zero_gradient", f"{share} the gradient is zero everywhere: {blind}")
    if result.saturated >= SATURATED_SHARE and _shown(result.saturated, n):
        yield _warning(
            "saturated_logits",
            f"on {result.saturated:.0%} of the images the logits are so far apart (scale "
            f"{result.logit_scale:.3g}) that the cross-entropy has no usable gradient; use a loss "
            "of the margin (dlr or margin), or undo the scaling of the logits",
        )
    if result.gradient_error is not None and result.gradient_error >= OFF_SLOPE_SHARE:
        unit = "batches" if result.batch_dependent else "images"
        yield _warning(
            "wrong_gradient",
            f"on {result.gradient_error:.0%} of the {unit} the gradient is not the slope that "
            "small steps show: part of it is cut, or replaced by an approximation",
        )


def _shown(share: float, n: int) -> bool:
    """Says whether a share of n images shows that it is more than a sound network's."""
    return at_least(share * n, n) > SOUND_SHARE


def _error(code: str, text: str) -> Finding:
    return Finding(code=code, severity="error", text=text)


def _warning(code: str, text: str) -> Finding:
    return Finding(code=code, severity="warning", text=text)


def _note(code: str, text: str) -> Finding:
    return Finding(code=code, severity="note", text=text)
