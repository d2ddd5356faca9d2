"""Planted models with a known defect, which the probe must find."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bench.evaluation.api import evaluate
from bench.evaluation.result import EvaluationResult
from bench.probe.model import probe
from bench.selftest.attack_cases import SMALL_AUTOATTACK, THREAT
from bench.selftest.case import Case, Outcome, alarm_codes, has_alarm, percent
from bench.selftest.exact import (
    EPS,
    Images,
    Template,
    bounds,
    exact_accuracy,
    images,
    template_images,
    worst_margins,
)

SATURATING = 2.0**14
"""Saturates the softmax; a power of 2 changes no prediction, not even by rounding."""

LEVELS = 8
"""Steps from black to white of the quantized model."""


class Planted(nn.Module):
    """A model around the template classifier, in eval mode."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.net = Template(scale)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Maps images (b, 1, 28, 28) to logits (b, 10)."""
        return torch.as_tensor(self.net(x))


class Probabilities(Planted):
    """Returns the softmax in place of logits; no prediction changes.

    Args:
        scale: Multiplies the logits, so that most probabilities are close to 0 or 1.
    """

    def __init__(self, scale: float = 64.0) -> None:
        super().__init__(scale)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to probabilities."""
        return super().forward(x).softmax(1)


class Detached(Planted):
    """Detaches its input."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to logits without a gradient."""
        return super().forward(x.detach())


class Quantized(Planted):
    """Rounds pixels to a few levels, so that the gradient is zero."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to logits that are piecewise constant."""
        return super().forward(quantize(x))


def quantize(x: Tensor) -> Tensor:
    """Rounds pixels to the nearest level."""
    return (x * LEVELS).round() / LEVELS


def exact_quantized(model: Quantized, data: Images, eps: float) -> float:
    """Returns the exact robust accuracy: rounding is monotone, so it maps a range to a range."""
    low, high = (quantize(end.float()) for end in bounds(data.x, eps))
    return float((worst_margins(model.net, data.y, low, high) > 0).double().mean())


class _Backwards(torch.autograd.Function):
    """The identity with a negated gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return -grads[0]


class WrongGradient(Planted):
    """Negates the gradient."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to logits with a negated gradient."""
        return super().forward(torch.as_tensor(_Backwards.apply(x)))


class NaNGradient(Planted):
    """Contains a square root, whose slope at a black pixel is infinite."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to the template's logits up to rounding; their gradient is NaN."""
        return super().forward(x.sqrt().square())


class _OnGrid(torch.autograd.Function):
    """The identity, with zero gradient for images with a pixel off the 8-bit grid."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        off = ((x * 255).round() - x * 255).abs().flatten(1).amax(1)
        ctx.save_for_backward((off < 1e-3).to(x).view(-1, 1, 1, 1))
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (on_grid,) = ctx.saved_tensors
        return torch.as_tensor(grads[0] * on_grid)


class GradientAtDataOnly(Planted):
    """Has a gradient at 8-bit images only, so none after a random start."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to the template's logits."""
        return super().forward(torch.as_tensor(_OnGrid.apply(x)))


class Restoring(Planted):
    """Knows its test images, and restores inputs that are farther than ``reach`` from them.

    Args:
        known: The test images (n, c, h, w).
        reach: Distance in linf up to which an input is not restored.
    """

    known: Tensor

    def __init__(self, known: Tensor, reach: float) -> None:
        super().__init__()
        self.register_buffer("known", known.clone())
        self.reach = reach

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to logits; beyond ``reach``, to those of the nearest known image."""
        nearest = self.known[torch.cdist(x.flatten(1), self.known.flatten(1)).argmin(1)]
        far = (x - nearest).abs().flatten(1).amax(1) > self.reach + 1e-6
        return super().forward(torch.where(far.view(-1, 1, 1, 1), nearest, x))


class PathOutside(Planted):
    """Has two branches; which one runs is set from outside, by ``draw``."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        other = Template()
        other.weight.add_(0.05 * torch.randn(other.weight.shape, generator=generator))
        self.branches = nn.ModuleList([self.net, other])
        self.path = 0

    def draw(self, generator: torch.Generator) -> None:
        """Draws the branch for the following passes."""
        self.path = int(torch.randint(2, (), generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to the logits of the branch that was set last."""
        return torch.as_tensor(self.branches[self.path](x))


class Remembering(Planted):
    """Corrects brightness by a running mean that every forward pass updates."""

    level: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("level", template_images().x.mean())
        self.register_buffer("target", self.level.clone())

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to logits, and changes a buffer."""
        with torch.no_grad():
            self.level.lerp_(x.mean(), 0.1)
        return super().forward(x - self.level + torch.as_tensor(self.target))


class Purifying(Planted):
    """Takes a gradient step towards a more likely image before it classifies."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to the logits of the purified images."""
        with torch.enable_grad():
            copy = x.detach().clone().requires_grad_()
            (grad,) = torch.autograd.grad(super().forward(copy).logsumexp(1).sum(), copy)
        return super().forward((x + 0.05 * grad.sign()).clamp(0, 1))


ATTACKS = ("pgd", ("square", {"n_queries": 200}))


def _found(
    make: Callable[[], nn.Module], code: str, answer: Callable[[], float]
) -> Callable[[], Outcome]:
    """Returns a case in which the probe must find ``code``, and no accuracy is below the answer."""

    def run() -> Outcome:
        data, exact = images(), answer()
        result = evaluate(make(), data.x, data.y, THREAT, ATTACKS)
        numbers = _numbers(result)
        alarmed = all(f"probe_{code}" in alarm_codes(result, label) for label in result.cells)
        return Outcome(
            f"probe_{code}; at least {percent(exact)}",
            f"{', '.join(sorted(alarm_codes(result))) or 'no alarm'}; {_shown(result)}",
            alarmed and all(value >= exact - 1e-9 for value in numbers.values()),
        )

    return run


def _numbers(result: EvaluationResult) -> dict[str, float]:
    """Returns the robust accuracy under each attack with a complete cell."""
    return {
        label: result.robust_accuracy(label).value
        for label, cell in result.cells.items()
        if cell.info.complete
    }


def _shown(result: EvaluationResult) -> str:
    numbers = _numbers(result)
    return ", ".join(
        f"{label} {percent(numbers[label])}" if label in numbers else f"{label} incomplete"
        for label in result.cells
    )


def _template_answer() -> float:
    return exact_accuracy(Template(), images())


def saturated() -> Outcome:
    """Logits so far apart that the softmax has no gradient; the margin still has one."""
    data, net = images(), Template(SATURATING)
    result = evaluate(net, data.x, data.y, THREAT, ["pgd", SMALL_AUTOATTACK])
    exact, found = exact_accuracy(net, data), result.robust_accuracy("autoattack").value
    alarm = has_alarm(result, "probe_saturated_logits")
    return Outcome(
        f"{alarm.expected}; autoattack {percent(exact)}",
        f"{alarm.got}; {_shown(result)}",
        alarm.caught and found == exact,
    )


class _Dropping(Planted):
    """Applies dropout to its input, in train mode only."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to logits."""
        return super().forward(self.drop(x))


def train_mode() -> Outcome:
    """A model with dropout that was left in train mode."""
    data, model = images(), _Dropping().train()
    found = {f.code for f in probe(model, data.x[:16], data.y[:16], classes=10).findings}
    result = evaluate(model, data.x, data.y, THREAT, [SMALL_AUTOATTACK])
    robust, exact = result.robust_accuracy("autoattack").value, exact_accuracy(model.net, data)
    left = "train" if all(module.training for module in model.modules()) else "other"
    return Outcome(
        f"train_mode; evaluated in eval mode: {percent(exact)}; left in train mode",
        f"{', '.join(sorted(found)) or 'no finding'}; {percent(robust)}; left in {left} mode",
        "train_mode" in found and robust == exact and left == "train",
    )


def state_changes() -> Outcome:
    """A model whose forward pass updates a buffer."""
    data = images()
    result = evaluate(Remembering(), data.x, data.y, THREAT, ATTACKS)
    alarm = has_alarm(result, "probe_state_changes")
    done = _numbers(result)
    return Outcome(
        f"{alarm.expected}; no number",
        f"{alarm.got}; {_shown(result)}",
        alarm.caught and not done,
    )


def path_outside() -> Outcome:
    """A branch chosen outside forward, which looks deterministic."""
    data = images()
    result = evaluate(PathOutside(), data.x, data.y, THREAT, ["pgd"])
    return has_alarm(result, "probe_unused_branches")


def purifying() -> Outcome:
    """A model that uses autograd inside forward."""
    data = images()
    result = evaluate(Purifying(), data.x, data.y, THREAT, ["pgd"])
    return has_alarm(result, "probe_autograd_inside")


CASES = (
    Case("train-mode", 6, "dropout left in train mode", train_mode),
    Case(
        "probabilities",
        7,
        "softmax returned as logits",
        _found(Probabilities, "probabilities", _template_answer),
    ),
    Case("saturated", 7, "logits multiplied by 16384", saturated),
    Case("detached", 8, "x detached", _found(Detached, "detached_gradient", _template_answer)),
    Case(
        "quantized",
        8,
        "pixels rounded to 9 levels",
        _found(Quantized, "masked_gradient", lambda: exact_quantized(Quantized(), images(), EPS)),
    ),
    Case(
        "wrong-gradient",
        8,
        "a gradient with the opposite sign",
        _found(WrongGradient, "wrong_gradient", _template_answer),
    ),
    Case(
        "nan-gradient",
        8,
        "a square root at black pixels",
        _found(NaNGradient, "nonfinite_gradient", _template_answer),
    ),
    Case("path-outside", 11, "a random path set outside forward", path_outside),
    Case("state-changes", 6, "a buffer that every pass moves", state_changes),
    Case("autograd-inside", 8, "purification inside forward", purifying),
)
