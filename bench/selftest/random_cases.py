"""Planted stochastic models."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bench.evaluation.api import AttackLike, evaluate
from bench.metrics.estimate import wilson
from bench.oracle import Oracle, QueryRules
from bench.selftest.attack_cases import THREAT
from bench.selftest.case import Case, Outcome, alarm_codes, has_alarm, percent, refused
from bench.selftest.exact import (
    N_CLASSES,
    Images,
    Template,
    exact_robust,
    images,
    template_images,
)
from bench.selftest.model_cases import Planted


class LabelNoise(Planted):
    """Predicts another class in a share of the draws, whatever the image.

    Args:
        accuracy: Share of the draws with the template's prediction.
    """

    def __init__(self, accuracy: float) -> None:
        super().__init__()
        self.accuracy = accuracy

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to logits, shifted by one class in some draws."""
        z = super().forward(x)
        wrong = torch.rand(len(x), 1, device=x.device) >= self.accuracy
        return torch.where(wrong, z.roll(1, dims=1), z)


class Lottery(Planted):
    """Is right by a margin of 1 in most draws, and wrong by 100 in the others.

    Its mean logits are those of a model that is always wrong.

    Args:
        accuracy: Share of the draws with the template's prediction.
    """

    def __init__(self, accuracy: float) -> None:
        super().__init__()
        self.accuracy = accuracy

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to these logits, plus a little of the template's for a gradient."""
        z = super().forward(x)
        answer = F.one_hot(z.argmax(1), N_CLASSES).to(z)
        wrong = torch.rand(len(x), 1, device=x.device) >= self.accuracy
        return torch.where(wrong, 100 * answer.roll(1, dims=1), answer) + 1e-3 * z


class NoisySlope(Planted):
    """Multiplies each pixel's distance from grey by a random factor.

    The gradient of a single draw often points the wrong way.

    Args:
        spread: Standard deviation of the factors around 1.
    """

    def __init__(self, spread: float) -> None:
        super().__init__()
        self.spread = spread

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to noisy logits."""
        gain = 1 + self.spread * torch.randn_like(x)
        return super().forward(gain * (x - 0.5) + 0.5)


class SharedDraw(Planted):
    """Flips one coin per pass: either all images of the batch are predicted right, or none."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to logits, all shifted by one class in half of the draws."""
        z = super().forward(x)
        return z.roll(1, dims=1) if float(torch.rand(())) < 0.5 else z


class CentredOnBatch(Planted):
    """Subtracts the mean of the batch, like layers on batch statistics."""

    centre: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", template_images().x.mean(0, keepdim=True))

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to logits that depend on the other images."""
        return super().forward(x - x.mean(0, keepdim=True) + self.centre)


NOISE_ACCURACY = 0.9
SAFE_EPS = 0.02

CLOSE = 0.02
"""Allowed distance of a mean of thousands of draws from its expectation: over 3 sigma."""


def safe_images() -> Images:
    """Returns images that no perturbation within ``SAFE_EPS`` can break."""
    data = images(256)
    return data.where(exact_robust(Template(), data, SAFE_EPS))


def label_noise() -> Outcome:
    """A model that is right in 90 % of the draws, whatever the attack."""
    data = safe_images()
    attacks: list[AttackLike] = ["pgd", ("autoattack", {"version": "rand", "n_iter": 5})]
    result = evaluate(
        LabelNoise(NOISE_ACCURACY),
        data.x,
        data.y,
        f"linf:{SAFE_EPS}",
        attacks,
        batch_size=16,
        eot_iter=5,
    )
    shown, right = [], []
    for label in result.cells:
        found = result.robust_accuracy(label)
        assert found.interval is not None
        shown.append(f"{label} {percent(found.value)} {found.brackets()}")
        inside = found.interval[0] <= NOISE_ACCURACY <= found.interval[1]
        right.append(inside and abs(found.value - NOISE_ACCURACY) < CLOSE)
    return Outcome(f"{percent(NOISE_ACCURACY)} in its interval", ", ".join(shown), all(right))


def averaged_logits() -> Outcome:
    """Right by 1 in 90 % of the draws, wrong by 100 in the others: the mean is always wrong."""
    data, model = safe_images(), Lottery(NOISE_ACCURACY)
    result = evaluate(model, data.x, data.y, f"linf:{SAFE_EPS}", ["pgd"], batch_size=16, eot_iter=5)
    oracle = Oracle(model, data.x, 10, QueryRules(stochastic=True, eot_iter=200))
    with torch.no_grad():
        averaged = float((oracle.logits(data.x).argmax(1) == data.y).double().mean())
    found = result.robust_accuracy("pgd").value
    return Outcome(
        f"{percent(NOISE_ACCURACY)}, not {percent(averaged)} as of averaged logits",
        percent(found),
        abs(found - NOISE_ACCURACY) < CLOSE,
    )


def too_few_draws() -> Outcome:
    """One draw's gradient often points the wrong way; the mean of 20 does not."""
    data = images(128)
    attacks = [
        {"attack": "pgd", "params": {"n_iter": 5}, "eot_iter": k, "label": f"eot {k}"}
        for k in (1, 20)
    ]
    result = evaluate(NoisySlope(2.0), data.x, data.y, THREAT, attacks, batch_size=4)
    alarm = has_alarm(result, "not_converged", "eot 1")
    shown = ", ".join(f"{k} {percent(result.robust_accuracy(k).value)}" for k in result.cells)
    quiet = "not_converged" not in alarm_codes(result, "eot 20")
    return Outcome(f"{alarm.expected} on eot 1", f"{alarm.got}; {shown}", alarm.caught and quiet)


def shared_draw() -> Outcome:
    """Every draw is right for a whole batch or for none of it."""
    data = images(128)
    result = evaluate(SharedDraw(), data.x, data.y, THREAT, ["natural"], batch_size=8, n_draws=2)
    found = result.robust_accuracy("natural")
    low, high = wilson(found.value * found.n, found.n)
    assert found.interval is not None
    ratio = (found.interval[1] - found.interval[0]) / (high - low)
    return Outcome(
        "batches as clusters; an interval wider than Wilson's for independent images",
        f"{found.method}; {ratio:.1f} times as wide",
        result["natural"].info.cluster == "batch" and ratio > 1.2,
    )


def declared_deterministic() -> Outcome:
    """A model with label noise that is declared deterministic."""
    data, model = images(), LabelNoise(NOISE_ACCURACY)
    return refused(
        lambda: evaluate(model, data.x, data.y, THREAT, ["fgsm"], stochastic=False),
        "declared deterministic and per-sample",
        "found it stochastic and per-sample",
    )


CASES = (
    Case("label-noise", 1, "90 % label noise", label_noise),
    Case("too-few-draws", 12, "a gradient that one draw gets wrong", too_few_draws),
    Case("averaged-logits", 12, "right by 1 at 90 %, wrong by 100 at 10 %", averaged_logits),
    Case("shared-draw", 18, "one coin for each batch", shared_draw),
    Case("declared-deterministic", 1, "a stochastic model declared away", declared_deterministic),
)
