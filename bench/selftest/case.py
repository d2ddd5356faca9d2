"""Planted cases, and how one is run."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bench.attacks.randomness import seeded
from bench.core.errors import UserError, did_you_mean
from bench.evaluation.result import EvaluationResult

SEED = 0
"""Seed of torch's, numpy's and Python's global generators for each case."""

SHOWN = 160
"""Characters of a message that are shown."""

TRAPS = {
    1: "a stochastic model's image counted as broken after one unlucky draw",
    2: "images dropped from the batch of a batch-dependent model",
    3: "a crash or a NaN counted as robust",
    4: "images that were misclassified already counted as attack successes",
    5: "eps applied in the wrong space, or not at all",
    6: "a model left in train mode, or changed by the attack",
    7: "probabilities taken for logits; saturated logits without a gradient",
    8: "gradient masking: detached, quantized, replaced or missing gradients",
    9: "minimum-norm attacks compared with bounded ones as if they knew eps",
    10: "CW with a c so small that it changes no image",
    11: "a random path set outside forward",
    12: "too few draws behind a gradient; scores of averaged logits",
    13: "attack strength that depends on the batch size",
    14: "weights loaded although they do not fit",
    15: "a number without n or interval",
    16: "results that cannot be read back",
    17: "x_adv rounded to 8 bits, and no longer adversarial",
    18: "draws that a batch shares counted as independent",
    19: "a number that contradicts another, or itself",
    20: "a false alarm on a sound model",
}
"""Mistakes in evaluations of robustness; each case plants one of them."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a case.

    Attributes:
        expected: The right answer, in a few words.
        got: The harness's answer.
        caught: Whether it is right.
    """

    expected: str
    got: str
    caught: bool


@dataclass(frozen=True)
class Case:
    """A trap with a known right answer.

    Attributes:
        id: Name on the command line.
        trap: Number in ``TRAPS``.
        planted: The planted mistake, in a few words.
        run: Runs the case.
    """

    id: str
    trap: int
    planted: str
    run: Callable[[], Outcome]


@dataclass(frozen=True)
class CaseResult:
    """A case with its outcome and duration."""

    case: Case
    outcome: Outcome
    seconds: float


def run_case(case: Case) -> CaseResult:
    """Runs a case; if it raises, it is missed and its outcome holds the error."""
    started = time.monotonic()
    try:
        with seeded(SEED):
            outcome = case.run()
    except Exception as error:  # the selftest continues, whatever breaks in the harness
        text = textwrap.shorten(f"{type(error).__name__}: {error}", SHOWN)
        outcome = Outcome("an answer", f"the case failed: {text}", False)
    return CaseResult(case, outcome, time.monotonic() - started)


def pick(cases: Iterable[Case], case_id: str) -> Case:
    """Returns a case by id; raises ``UserError``, with the closest id, if there is none."""
    by_id = {case.id: case for case in cases}
    if case_id not in by_id:
        raise UserError(f"no case is called '{case_id}'{did_you_mean(case_id, by_id)}")
    return by_id[case_id]


def percent(value: float) -> str:
    """Returns for example ``"35.9 %"``."""
    return f"{100 * value:.1f} %"


def alarm_codes(result: EvaluationResult, label: str | None = None) -> set[str]:
    """Returns the codes of the alarms on one attack, or on all."""
    cells = result.cells.values() if label is None else [result[label]]
    return {alarm.partition(":")[0] for cell in cells for alarm in cell.info.alarms}


def has_alarm(result: EvaluationResult, code: str, label: str | None = None) -> Outcome:
    """Returns the outcome of a case in which an alarm must be raised."""
    found = alarm_codes(result, label)
    got = ", ".join(sorted(found)) or "no alarm"
    return Outcome(f"alarm {code}", got, code in found)


def is_incomplete(result: EvaluationResult, label: str, reason: str) -> Outcome:
    """Returns the outcome of a case in which a cell must be incomplete, for a given reason."""
    info = result[label].info
    got = f"incomplete: {info.error}" if not info.complete else _number(result, label)
    caught = not info.complete and reason in info.error and _refuses_number(result, label)
    return Outcome(f"incomplete: ... {reason}", got, caught)


def _refuses_number(result: EvaluationResult, label: str) -> bool:
    try:
        result.robust_accuracy(label)
    except UserError:
        return True
    return False


def _number(result: EvaluationResult, label: str) -> str:
    return f"complete, {percent(result.robust_accuracy(label).value)}"


def refused(call: Callable[[], object], *words: str) -> Outcome:
    """Returns the outcome of a case that must raise a ``UserError`` with certain words."""
    expected = f"refused, naming {' and '.join(words)}"
    try:
        call()
    except UserError as error:
        text = str(error)
        caught = all(word in text for word in words)
        return Outcome(expected, f"refused: {textwrap.shorten(text, SHOWN)}", caught)
    return Outcome(expected, "accepted", False)
