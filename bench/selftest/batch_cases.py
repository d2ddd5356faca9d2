"""Planted dependence between the images of a batch, and batches of several sizes."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from bench.api import evaluate
from bench.metrics.estimate import ONE_CLUSTER
from bench.selftest.attack_cases import THREAT
from bench.selftest.attacks import Recorded, planted
from bench.selftest.case import Case, Outcome, has_alarm, percent, refused
from bench.selftest.exact import Template, cut, images
from bench.selftest.random_models import CentredOnBatch


def declared_per_sample() -> Outcome:
    """Batch statistics that are declared away."""
    data, model = images(), CentredOnBatch()
    return refused(
        lambda: evaluate(model, data.x, data.y, THREAT, ["fgsm"], batch_dependent=False),
        "deterministic and per-sample",
        "deterministic and batch-dependent",
    )


def dropped_samples() -> Outcome:
    """Attacks that drop images are refused; the number holds in the batch it was found in."""
    data, model, size = images(), CentredOnBatch(), 32
    refusals = [
        refused(
            partial(evaluate, model, data.x, data.y, THREAT, [name], batch_size=size),
            "drops samples",
        ).caught
        for name in ("pyautoattack", "torchattacks:DeepFool")
    ]
    attack = Recorded("autoattack", version="custom", components=("apgd_ce", "apgd_t"), n_iter=10)
    with planted(attack) as name:
        result = evaluate(model, data.x, data.y, THREAT, [name], batch_size=size)
    found = result.robust_accuracy(name).value
    in_batch = _accuracy(model, attack.x_adv, data.y, size)
    alone = _accuracy(model, attack.x_adv, data.y, 1)
    refusal = "refused" if all(refusals) else "accepted"
    return Outcome(
        f"pyautoattack refused; {percent(in_batch)} as in the fixed batch",
        f"{refusal}; {percent(found)} (one by one it would be {percent(alone)})",
        all(refusals) and found == in_batch != alone,
    )


def _accuracy(model: nn.Module, x: Tensor, y: Tensor, size: int) -> float:
    with torch.no_grad():
        right = [
            (model(part).argmax(1) == labels).double()
            for part, labels in zip(cut(x, size), cut(y, size), strict=True)
        ]
    return float(torch.cat(right).mean())


def one_batch() -> Outcome:
    """Images of one batch that share statistics say nothing of other batches."""
    data = images()
    result = evaluate(CentredOnBatch(), data.x, data.y, THREAT, ["fgsm"], batch_size=64)
    found, alarm = result.robust_accuracy("fgsm"), has_alarm(result, "no_interval")
    return Outcome(
        f"{alarm.expected}; {ONE_CLUSTER}",
        f"{alarm.got}; {found.method}",
        alarm.caught and found.low is None and found.high is None and found.method == ONE_CLUSTER,
    )


STRENGTHS: tuple[tuple[str, dict[str, object], str], ...] = (
    ("fgsm", {}, THREAT),
    ("pgd", {"random_start": False}, THREAT),
    ("mim", {}, THREAT),
    ("deepfool", {}, THREAT),
    ("pgd", {"random_start": False}, "l2:1.5"),
    ("cw", {"n_iter": 20, "binary_search_steps": 3, "c": 1.0}, "l2:1.5"),
)
"""Attacks without anything random, with their parameters and threat model."""

ROUNDED = 0.001
"""Share of the pixels that may differ: rounding turns the sign of a gradient that is nearly 0."""


def batch_size() -> Outcome:
    """The same images one by one and all at once."""
    data, net = images(16), Template()
    off = []
    for name, params, threat in STRENGTHS:
        found = []
        for size in (1, 16):
            attack = Recorded(name, **params)
            with planted(attack, attack.attack.kind) as planted_name:
                result = evaluate(net, data.x, data.y, threat, [planted_name], batch_size=size)
            verdicts = [row.robust for row in result[planted_name].rows]
            found.append((attack.x_adv, verdicts))
        (alone, one), (together, all_of_them) = found
        differ = float(((alone - together).abs() > 1e-3).double().mean())
        if differ > ROUNDED or one != all_of_them:
            off.append(f"{name} {threat}")
    return Outcome(
        f"the same x_adv and verdicts for {len(STRENGTHS)} attacks",
        f"differ: {', '.join(off)}" if off else f"the same for {len(STRENGTHS)}",
        not off,
    )


CASES = (
    Case("dropped-samples", 2, "attacks that drop images from the batch", dropped_samples),
    Case("declared-per-sample", 2, "a batch-dependent model declared away", declared_per_sample),
    Case("one-batch", 15, "one batch of dependent images", one_batch),
    Case("batch-size", 13, "batches of 1 and of 16", batch_size),
)
