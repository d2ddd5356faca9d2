"""Numbers that contradict another number, or themselves."""

from __future__ import annotations

from bench.api import AttackLike, evaluate
from bench.metrics import robust_accuracy
from bench.selftest.case import Case, Outcome, has_alarm, percent
from bench.selftest.exact import EPS, Template, exact_accuracy, images
from bench.selftest.models import GradientAtDataOnly, Quantized, Restoring, exact_quantized
from bench.verify.alarm_base import CellResult
from bench.verify.alarms import find_alarms

HUGE_EPS = 0.5


def huge_eps() -> Outcome:
    """PGD leaves most images right where every image can be turned grey."""
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
    """A model that restores images which went too far looks robust at the larger eps."""
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
    """No trap: the closed form itself, at several radii."""
    data, net, attack = images(), Template(), ("apgd_t", {"n_iter": 20})
    radii = (EPS / 4, EPS / 2, EPS, 2 * EPS)
    expected = [exact_accuracy(net, data, eps) for eps in radii]
    got = [
        evaluate(net, data.x, data.y, f"linf:{eps}", [attack]).robust_accuracy("apgd_t").value
        for eps in radii
    ]
    return Outcome(", ".join(map(percent, expected)), ", ".join(map(percent, got)), expected == got)


CASES = (
    Case("closed-form", 19, "nothing: a linear classifier at four eps", closed_form),
    Case("huge-eps", 19, "masked gradients at eps 0.5", huge_eps),
    Case("control", 19, "masked gradients, and Square beside PGD", control_beats_gradient),
    Case("single-step", 19, "a gradient at the data only", single_step),
    Case("rises-with-eps", 19, "a model that restores what it knows", rises_with_eps),
    Case("permuted-labels", 19, "labels in another order", permuted_labels),
)
