"""Planted randomness."""

from __future__ import annotations

import torch

from bench.api import AttackLike, evaluate
from bench.metrics.estimate import wilson
from bench.oracle import Access, Oracle
from bench.selftest.attack_cases import THREAT
from bench.selftest.case import Case, Outcome, alarm_codes, has_alarm, percent, refused
from bench.selftest.exact import (
    Images,
    Template,
    exact_robust,
    images,
)
from bench.selftest.random_models import (
    LabelNoise,
    Lottery,
    NoisySlope,
    SharedDraw,
)

NOISE_ACCURACY = 0.9
SAFE_EPS = 0.02

CLOSE = 0.02
"""How far a mean of thousands of draws may lie from its expectation: more than 3 sigma."""


def safe_images() -> Images:
    """Returns images that no perturbation within ``SAFE_EPS`` can break."""
    data = images(256)
    return data.where(exact_robust(Template(), data, SAFE_EPS))


def label_noise() -> Outcome:
    """A model that is right in 90 % of the draws, whatever the attack does."""
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
        assert found.low is not None and found.high is not None
        interval = f"[{100 * found.low:.1f}, {100 * found.high:.1f}]"
        shown.append(f"{label} {percent(found.value)} {interval}")
        inside = found.low <= NOISE_ACCURACY <= found.high
        right.append(inside and abs(found.value - NOISE_ACCURACY) < CLOSE)
    return Outcome(f"{percent(NOISE_ACCURACY)} in its interval", ", ".join(shown), all(right))


def averaged_logits() -> Outcome:
    """Right by 1 in 90 % of the draws, wrong by 100 in the others: the mean is always wrong."""
    data, model = safe_images(), Lottery(NOISE_ACCURACY)
    result = evaluate(model, data.x, data.y, f"linf:{SAFE_EPS}", ["pgd"], batch_size=16, eot_iter=5)
    oracle = Oracle(model, data.x, 10, Access(stochastic=True, eot_iter=200))
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
    assert found.low is not None and found.high is not None
    ratio = (found.high - found.low) / (high - low)
    return Outcome(
        "batches as clusters; an interval wider than Wilson's for independent images",
        f"{found.method}; {ratio:.1f} times as wide",
        result["natural"].info.cluster == "batch" and ratio > 1.2,
    )


def declared_deterministic() -> Outcome:
    """Label noise that is declared away."""
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
