"""Every planted case is caught, and would not be if the harness were broken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.core.errors import UserError
from bench.evaluation import cell, in_memory
from bench.oracle import Evaluation, Oracle
from bench.probe.findings import ProbeResult
from bench.selftest import CASES, TRAPS, Case, Outcome, pick, run_case
from bench.selftest.attack_cases import PLANTED
from bench.verify import ModelGuard, scoring, verifier
from bench.zoo import checkpoint

pytestmark = pytest.mark.process

SLOW = {
    *("label-noise", "too-few-draws", "sound-gn", "sound-in", "sound-ln"),
    *("proved-linf", "dropout", "python-noise", "own-torch-noise", "own-numpy-noise"),
    *("sine-middle", "sine-short", "off-grid-noise", "detached-ensemble"),
}

PLANTED_TRAPS = 18
"""Traps that the design names; the last two of ``TRAPS`` are about the harness itself."""


def _marked(case_id: str) -> Any:
    return pytest.param(case_id, marks=pytest.mark.slow) if case_id in SLOW else case_id


@pytest.mark.parametrize("case_id", [_marked(case.id) for case in CASES])
def test_it_is_caught(case_id: str) -> None:
    outcome = run_case(pick(CASES, case_id)).outcome
    assert outcome.caught, f"expected {outcome.expected}, got {outcome.got}"


def test_every_trap_is_planted_and_ids_are_unique() -> None:
    assert {case.trap for case in CASES} == set(TRAPS)
    assert len({case.id for case in CASES}) == len(CASES)
    assert {"dropped-samples", "one-batch", "closed-form", "batch-size"} <= {c.id for c in CASES}
    assert len([case for case in CASES if case.trap <= PLANTED_TRAPS]) >= 20


def test_an_unknown_case_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'label-noise'"):
        pick(CASES, "label-nois")


def test_a_case_that_raises_is_missed_and_shows_its_error() -> None:
    def broken() -> Outcome:
        raise KeyError("planted")

    outcome = run_case(Case("broken", 19, "", broken)).outcome
    assert not outcome.caught and "KeyError" in outcome.got and "planted" in outcome.got


def test_a_case_leaves_random_state_and_registry_as_they_were() -> None:
    from bench.attacks import ATTACKS

    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    run_case(pick(CASES, "crash"))
    assert torch.equal(torch.rand(3), expected)
    assert PLANTED not in ATTACKS


# --- sabotage: each takes one check away, and the cases behind it must be missed ---------------


def no_tolerance(patch: pytest.MonkeyPatch) -> None:
    """The verifier lets any distance pass."""
    patch.setattr(verifier, "TOLERANCE", 1e9)


def nothing_is_finite_checked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(verifier.torch, "isfinite", lambda x: torch.ones_like(x, dtype=torch.bool))


def no_alarms(patch: pytest.MonkeyPatch) -> None:
    from bench.evaluation import api as evaluation
    from bench.selftest import alarm_cases

    patch.setattr(evaluation, "find_alarms", lambda cells, classes: ())
    patch.setattr(alarm_cases, "find_alarms", lambda cells, classes: ())


def no_findings(patch: pytest.MonkeyPatch) -> None:
    """The probe sees nothing wrong."""
    from bench.selftest import model_cases

    real = in_memory.probe

    def blind(*args: Any, **kwargs: Any) -> ProbeResult:
        return real(*args, **kwargs).model_copy(update={"findings": ()})

    patch.setattr(in_memory, "probe", blind)
    patch.setattr(model_cases, "probe", blind)


def declarations_are_believed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ProbeResult, "disagreement", lambda self, **declared: "")


def broken_once_is_broken(patch: pytest.MonkeyPatch) -> None:
    """An image counts as right only if it is right on every draw."""
    patch.setattr(verifier, "fraction_correct", lambda draws, y: (draws == y).all(0).double())


def averaged_logits_are_scored(patch: pytest.MonkeyPatch) -> None:
    def predict(model: nn.Module, x: Tensor, n_draws: int, seed: int, **_: Any) -> Tensor:
        with torch.no_grad():
            mean = torch.stack([model(x) for _ in range(100)]).mean(0)
        return mean.argmax(1).expand(n_draws, -1)

    patch.setattr(verifier, "predict_draws", predict)
    patch.setattr(scoring, "predict_draws", predict)


def crashes_are_robust(patch: pytest.MonkeyPatch) -> None:
    real = cell._propose

    def forgiving(attack: Any, oracle: Any, batch: Any, *args: Any) -> Tensor:
        try:
            return real(attack, oracle, batch, *args)
        except cell.AttackError:
            return batch.x.clone()

    patch.setattr(cell, "_propose", forgiving)


def no_guard(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ModelGuard, "changes", lambda self: [])


def loose_loading(patch: pytest.MonkeyPatch) -> None:
    def load(net: nn.Module, weights: Any, *_: Any) -> None:
        net.load_state_dict(dict(weights), strict=False)

    patch.setattr(checkpoint, "_load_strict", load)


def hashes_are_not_compared(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(checkpoint, "verify_hash", lambda path, card: None)


def images_are_independent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(cell, "_clustered", lambda *_: False)


def gradients_are_averaged_over_the_batch(patch: pytest.MonkeyPatch) -> None:
    real = Oracle.query

    def query(self: Oracle, x: Tensor, *args: Any, **kwargs: Any) -> Evaluation:
        found = real(self, x, *args, **kwargs)
        grad = None if found.grad is None else found.grad / len(x)
        return Evaluation(found.loss, grad, found.correct, found.logits)

    patch.setattr(Oracle, "query", query)


def droppers_are_let_in(patch: pytest.MonkeyPatch) -> None:
    from bench.evaluation import api as evaluation

    real = evaluation.attack_info

    def keeps(*args: Any) -> Any:
        info = real(*args)
        return type(info)(**{**vars(info), "keeps_batch": True})

    patch.setattr(evaluation, "attack_info", keeps)


def success_on_all_images(patch: pytest.MonkeyPatch) -> None:
    from bench.metrics import robust_accuracy
    from bench.metrics.estimate import Estimate
    from bench.selftest import attack_cases

    def naive(rows: Any) -> Estimate:
        found = robust_accuracy(rows)
        return Estimate(1 - found.value, None, None, found.n, "naive")

    patch.setattr(attack_cases, "attack_success_rate", naive)


SABOTAGE: tuple[tuple[Callable[[pytest.MonkeyPatch], None], tuple[str, ...]], ...] = (
    (no_tolerance, ("out-of-ball", "out-of-box", "eps-space", "minimum-norm")),
    (nothing_is_finite_checked, ("nan-x-adv",)),
    (
        no_alarms,
        (
            *("huge-eps", "control", "single-step", "rises-with-eps", "permuted-labels"),
            *("cw-small-c", "one-batch"),
        ),
    ),
    (
        no_findings,
        (
            *("probabilities", "saturated", "detached", "quantized", "wrong-gradient"),
            *("nan-gradient", "path-outside", "state-changes", "autograd-inside", "train-mode"),
        ),
    ),
    (declarations_are_believed, ("declared-deterministic", "declared-per-sample")),
    (broken_once_is_broken, ("averaged-logits",)),
    (averaged_logits_are_scored, ("averaged-logits",)),
    (crashes_are_robust, ("crash",)),
    (no_guard, ("changed-model",)),
    (loose_loading, ("missing-tensor", "extra-tensor")),
    (hashes_are_not_compared, ("altered-tensor",)),
    (images_are_independent, ("shared-draw", "one-batch")),
    (gradients_are_averaged_over_the_batch, ("batch-size",)),
    (droppers_are_let_in, ("dropped-samples",)),
    (success_on_all_images, ("already-wrong",)),
)


@pytest.mark.parametrize(
    ("sabotage", "case_id"),
    [(sabotage, case_id) for sabotage, ids in SABOTAGE for case_id in ids],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_it_is_missed_without_the_check(
    sabotage: Callable[[pytest.MonkeyPatch], None], case_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = pick(CASES, case_id)
    sabotage(monkeypatch)
    outcome = run_case(case).outcome
    assert not outcome.caught and "the case failed" not in outcome.got


def test_a_false_alarm_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.alarms.shared import Alarm
    from bench.evaluation import api as evaluation

    def nervous(cells: Any, classes: int) -> tuple[Alarm, ...]:
        return tuple(Alarm(c.info.cell_id, "not_converged", "planted") for c in cells)

    monkeypatch.setattr(evaluation, "find_alarms", nervous)
    outcome = run_case(pick(CASES, "sound-linear")).outcome
    assert not outcome.caught and "not_converged" in outcome.got


@pytest.mark.slow
def test_label_noise_is_missed_where_broken_once_is_broken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken_once_is_broken(monkeypatch)
    assert not run_case(pick(CASES, "label-noise")).outcome.caught
