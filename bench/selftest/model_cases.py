"""Planted models: what they hide is known, and the probe must find it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from bench.api import EvaluationResult, evaluate
from bench.selftest.attack_cases import SMALL_AUTOATTACK, THREAT
from bench.selftest.case import Case, Outcome, alarm_codes, has_alarm, percent
from bench.selftest.exact import EPS, Template, exact_accuracy, images
from bench.selftest.models import (
    SATURATING,
    Detached,
    NaNGradient,
    PathOutside,
    Planted,
    Probabilities,
    Purifying,
    Quantized,
    Remembering,
    WrongGradient,
    exact_quantized,
)
from bench.verify.probe import probe

ATTACKS = ("pgd", ("square", {"n_queries": 200}))


def _found(
    make: Callable[[], nn.Module], code: str, answer: Callable[[], float]
) -> Callable[[], Outcome]:
    """Returns a case in which the probe must find ``code``, and no number be below the answer."""

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
    """Returns the robust accuracy under each attack that is complete."""
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
    """Drops logits at random, in train mode only."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to logits."""
        return super().forward(self.drop(x))


def train_mode() -> Outcome:
    """A model with dropout that nobody has put into eval mode."""
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
    """A model whose forward pass moves a buffer."""
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
    """A branch chosen outside forward looks deterministic."""
    data = images()
    result = evaluate(PathOutside(), data.x, data.y, THREAT, ["pgd"])
    return has_alarm(result, "probe_unused_branches")


def purifying() -> Outcome:
    """A model that runs autograd inside forward."""
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
