"""Cases about batches, and about numbers that contradict another number or themselves."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from bench.alarms.rules import find_alarms
from bench.alarms.shared import CellResult
from bench.evaluation.api import AttackLike, evaluate
from bench.metrics import robust_accuracy
from bench.metrics.estimate import ONE_CLUSTER
from bench.selftest.attack_cases import THREAT, Recorded, planted
from bench.selftest.case import Case, Outcome, has_alarm, percent, refused
from bench.selftest.exact import EPS, Template, exact_accuracy, images, split
from bench.selftest.model_cases import GradientAtDataOnly, Quantized, Restoring, exact_quantized
from bench.selftest.random_cases import CentredOnBatch


def declared_per_sample() -> Outcome:
    """A model on batch statistics that is declared per-sample."""
    data, model = images(), CentredOnBatch()
    return refused(
        lambda: evaluate(model, data.x, data.y, THREAT, ["fgsm"], batch_dependent=False),
        "deterministic and per-sample",
        "deterministic and batch-dependent",
    )


def dropped_samples() -> Outcome:
    """Attacks that drop images are refused; a number is confirmed in its fixed batches."""
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
            for part, labels in zip(split(x, size), split(y, size), strict=True)
        ]
    return float(torch.cat(right).mean())


def one_batch() -> Outcome:
    """A single batch of dependent images has no interval."""
    data = images()
    result = evaluate(CentredOnBatch(), data.x, data.y, THREAT, ["fgsm"], batch_size=64)
    found, alarm = result.robust_accuracy("fgsm"), has_alarm(result, "no_interval")
    return Outcome(
        f"{alarm.expected}; {ONE_CLUSTER}",
        f"{alarm.got}; {found.method}",
        alarm.caught and found.low is None and found.high is None and found.method == ONE_CLUSTER,
    )


HUGE_EPS = 0.5

STRENGTHS: tuple[tuple[str, dict[str, object], str], ...] = (
    ("fgsm", {}, THREAT),
    ("pgd", {"random_start": False}, THREAT),
    ("mim", {}, THREAT),
    ("deepfool", {}, THREAT),
    ("pgd", {"random_start": False}, "l2:1.5"),
    ("cw", {"n_iter": 20, "binary_search_steps": 3, "c": 1.0}, "l2:1.5"),
)
"""Deterministic attacks, with their parameters and threat model."""

ROUNDED = 0.001
"""Share of pixels that may differ: rounding can flip the sign of a gradient near 0."""


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


def huge_eps() -> Outcome:
    """PGD leaves most images right at an eps that can turn any image grey."""
    data, model = images(), Quantized()
    result = evaluate(model, data.x, data.y, f"linf:{HUGE_EPS}", ["pgd"])
    alarm = has_alarm(result, "large_eps_not_near_zero", "pgd")
    exact = exact_quantized(model, data, HUGE_EPS)
    found = result.robust_accuracy("pgd").value
    return Outcome(
        f"{alarm.expected}; exact {percent(exact)}",
        f"{alarm.got}; pgd {percent(found)}",
        alarm.caught and exact < 0.1,
    )


def control_beats_gradient() -> Outcome:
    """Square needs no gradient, and so breaks what PGD cannot."""
    data, model = images(128), Quantized()
    attacks: list[AttackLike] = ["pgd", "apgd", ("square", {"n_queries": 200})]
    result = evaluate(model, data.x, data.y, f"linf:{EPS}", attacks)
    alarms = [has_alarm(result, "control_beats_gradient", label) for label in ("pgd", "apgd")]
    found = {label: result.robust_accuracy(label).value for label in result.cells}
    return Outcome(
        f"{alarms[0].expected} on pgd and apgd",
        f"{alarms[0].got}; {', '.join(f'{k} {percent(v)}' for k, v in found.items())}",
        all(alarm.caught for alarm in alarms),
    )


def single_step() -> Outcome:
    """PGD starts at a random point, where this model has no gradient; FGSM starts at the image."""
    data, model = images(128), GradientAtDataOnly()
    result = evaluate(model, data.x, data.y, f"linf:{EPS}", ["fgsm", "pgd"])
    alarm = has_alarm(result, "single_step_beats_iterative", "pgd")
    found = [percent(result.robust_accuracy(label).value) for label in ("fgsm", "pgd")]
    return Outcome(alarm.expected, f"{alarm.got}; fgsm {found[0]}, pgd {found[1]}", alarm.caught)


def rises_with_eps() -> Outcome:
    """A model that restores images beyond a distance looks robust at the larger eps."""
    data = images(128)
    radii = (EPS, 3 * EPS)
    model = Restoring(data.x, EPS)
    results = [evaluate(model, data.x, data.y, f"linf:{eps}", ["pgd"])["pgd"] for eps in radii]
    cells = [CellResult(result.info, result.rows) for result in results]
    found = {
        alarm.code for alarm in find_alarms(cells, 10) if alarm.cell_id == cells[1].info.cell_id
    }
    small, large = (percent(robust_accuracy(result.rows).value) for result in results)
    return Outcome(
        "alarm rises_with_eps",
        f"{', '.join(sorted(found)) or 'no alarm'}; {small} at {radii[0]:g}, {large} at "
        f"{radii[1]:g}",
        "rises_with_eps" in found,
    )


def permuted_labels() -> Outcome:
    """Labels in another order than the model's classes."""
    data = images(256)
    result = evaluate(Template(), data.x, (data.y + 1) % 10, f"linf:{EPS}", ["natural"])
    alarm = has_alarm(result, "clean_below_chance")
    return Outcome(
        alarm.expected, f"{alarm.got}; {result.clean_accuracy().value:.1%}", alarm.caught
    )


def closed_form() -> Outcome:
    """No trap: a linear classifier with a closed form, at several radii."""
    data, net, attack = images(), Template(), ("apgd_t", {"n_iter": 20})
    radii = (EPS / 4, EPS / 2, EPS, 2 * EPS)
    expected = [exact_accuracy(net, data, eps) for eps in radii]
    got = [
        evaluate(net, data.x, data.y, f"linf:{eps}", [attack]).robust_accuracy("apgd_t").value
        for eps in radii
    ]
    return Outcome(", ".join(map(percent, expected)), ", ".join(map(percent, got)), expected == got)


CASES = (
    Case("dropped-samples", 2, "attacks that drop images from the batch", dropped_samples),
    Case("declared-per-sample", 2, "a batch-dependent model declared away", declared_per_sample),
    Case("one-batch", 15, "one batch of dependent images", one_batch),
    Case("batch-size", 13, "batches of 1 and of 16", batch_size),
    Case("closed-form", 19, "nothing: a linear classifier at four eps", closed_form),
    Case("huge-eps", 19, "masked gradients at eps 0.5", huge_eps),
    Case("control", 19, "masked gradients, and Square beside PGD", control_beats_gradient),
    Case("single-step", 19, "a gradient at the data only", single_step),
    Case("rises-with-eps", 19, "a model that restores what it knows", rises_with_eps),
    Case("permuted-labels", 19, "labels in another order", permuted_labels),
)
