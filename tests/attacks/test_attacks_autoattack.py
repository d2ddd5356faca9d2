"""The AutoAttack adapter: against the library itself, and against closed forms."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pyautoattack
import pytest
import torch
from torch import Tensor, nn

from bench.attacks import Budget, get_attack, parse_params
from bench.attacks.declared_libraries import VERSIONS
from bench.core.errors import UserError
from bench.oracle import Oracle, QueryRules, frozen

SHORT: dict[str, object] = {"n_iter": 10, "n_queries": 50}


def attack(case: Any, budget: Budget, seed: int = 3, **values: object) -> Tensor:
    entry = get_attack("pyautoattack")
    with frozen(case.model):
        oracle = Oracle(case.model, case.x, case.n_classes, QueryRules())
        params = parse_params(entry, values)
        return entry.run(oracle, case.x, case.y, budget, params, seed)


@pytest.mark.process
@pytest.mark.parametrize(
    ("version", "norm"),
    [
        ("standard", "linf"),
        ("rand", "l2"),
        pytest.param("standard", "l2", marks=pytest.mark.slow),
        pytest.param("plus", "linf", marks=pytest.mark.slow),
        pytest.param("plus", "l2", marks=pytest.mark.slow),
    ],
)
def test_the_adapter_agrees_bitwise_with_the_library(
    version: Any, norm: str, linear: Callable[..., Any]
) -> None:
    case = linear(4)
    eps = 0.02 if norm == "linf" else 0.2
    x_adv = attack(case, Budget(norm, (eps,)), version=version, n_queries=20)
    theirs: Any = {"linf": "Linf", "l2": "L2"}
    direct = pyautoattack.AutoAttack(
        case.model, eps=eps, norm=theirs[norm], seed=3, version=version
    )
    direct.square.n_queries = 20
    direct.fab.n_target_classes = direct.apgd_targeted.n_target_classes = 3  # it assumes 10 classes
    with torch.random.fork_rng(devices=[]):
        expected = direct.run_standard_evaluation(case.x, case.y, batch_size=len(case.x))[0]
    assert torch.equal(x_adv, expected)
    broken = case.model(x_adv).argmax(1) != case.y
    assert bool(broken.any()) and not bool(broken.all())
    assert tuple(direct.attacks_to_run) == VERSIONS[version]


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1.0), ("l2", 2.0)])
@pytest.mark.parametrize("n_classes", [4, 5])
def test_it_breaks_exactly_the_images_that_a_linear_model_cannot_hold(
    n_classes: int, norm: str, dual: float, linear: Callable[..., Any]
) -> None:
    case = linear(n_classes, b=16)
    logits, weight = case.model(case.x), case.model[1].weight
    gaps = logits.gather(1, case.y[:, None]) - logits
    slopes = (weight[None] - weight[case.y][:, None]).norm(p=dual, dim=2)
    nearest = (gaps / slopes).masked_fill(gaps == 0, float("inf")).amin(1)
    low, high = nearest.sort().values[7:9]
    x_adv = attack(case, Budget(norm, ((low + high).item() / 2,)), **SHORT)
    assert torch.equal(case.model(x_adv).argmax(1) != case.y, nearest <= low)


@pytest.mark.process
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("version", ["standard", "rand"])
def test_x_adv_is_reproducible_and_inside_ball_and_box(
    version: str, norm: str, conv: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    case, eps = conv(), 0.01
    modes = [module.training for module in case.model.modules()]
    state = {k: v.clone() for k, v in case.model.state_dict().items()}
    before = (torch.get_rng_state(), str(np.random.get_state()), random.getstate())
    values = {"version": version, "n_iter": 5, "n_queries": 20, "eot_iter": 2}
    x_adv = attack(case, Budget(norm, (eps,)), **values)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (str(np.random.get_state()), random.getstate()) == before[1:]
    assert torch.equal(attack(case, Budget(norm, (eps,)), **values), x_adv)
    order = {"linf": float("inf"), "l2": 2.0}[norm]
    delta = (x_adv - case.x).flatten(1)
    assert float(torch.linalg.vector_norm(delta, order, dim=1).max()) <= eps + 1e-6
    assert float(x_adv.min()) >= 0 and float(x_adv.max()) <= 1 and not x_adv.requires_grad
    assert [module.training for module in case.model.modules()] == modes
    assert all(torch.equal(v, state[k]) for k, v in case.model.state_dict().items())
    assert all(p.grad is None for p in case.model.parameters())
    assert capfd.readouterr() == ("", "")


def test_the_seed_reaches_the_components(conv: Callable[..., Any]) -> None:
    case = conv()
    values = {"version": "custom", "attacks_to_run": ["square"], "n_queries": 30}
    found = [attack(case, Budget("linf", (0.3,)), seed, **values) for seed in (0, 1)]
    assert not torch.equal(*found)


def test_the_restarts_and_eot_of_each_version() -> None:
    parse = get_attack("pyautoattack").params.model_validate
    found = {
        version: (params.restarts, params.eot)  # type: ignore[attr-defined]
        for version in VERSIONS
        for params in [parse({"version": version})]
    }
    assert found == {"standard": (1, 1), "plus": (5, 1), "rand": (1, 20)}


@pytest.mark.parametrize(
    ("n_classes", "values", "expected"),
    [
        (3, {}, "component 'apgd-t' needs at least 4 classes, the model has 3"),
        (2, {"version": "rand"}, "component 'apgd-dlr' needs at least 3 classes"),
    ],
)
def test_too_few_classes_for_the_dlr_loss_are_refused(
    n_classes: int, values: dict[str, object], expected: str, linear: Callable[..., Any]
) -> None:
    with pytest.raises(UserError) as caught:
        attack(linear(n_classes), Budget("linf", (0.1,)), **values)
    assert expected in str(caught.value) and "attacks_to_run: [apgd-ce" in str(caught.value)


def test_the_components_named_in_that_refusal_run_on_two_classes(
    linear: Callable[..., Any],
) -> None:
    case = linear(2)
    components = ["apgd-ce", "fab-t", "square"]
    values = {"version": "custom", "attacks_to_run": components, **SHORT}
    x_adv = attack(case, Budget("linf", (0.25,)), **values)
    assert bool((case.model(x_adv).argmax(1) != case.y).all())


def test_a_radius_per_channel_is_refused(conv: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match="needs a native attack"):
        attack(conv(), Budget("linf", (0.1, 0.1, 0.2)), **SHORT)


def test_the_trace_function_survives(conv: Callable[..., Any]) -> None:
    def tracer(frame: Any, event: str, argument: Any) -> None:
        return None

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        attack(conv(), Budget("linf", (0.01,)), version="custom", attacks_to_run=["apgd-ce"])
        found = sys.gettrace()
    finally:
        sys.settrace(before)
    assert found is tracer


def test_the_librarys_doubts_are_logged_and_not_printed(
    conv: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    case = conv()
    case.model.append(nn.Softmax(1))
    attack(case, Budget("linf", (0.01,)), version="custom", attacks_to_run=["apgd-ce"])
    assert any("probability distribution" in record.message for record in caplog.records)
    assert capfd.readouterr() == ("", "")


@pytest.mark.process
def test_the_estimate_bounds_the_passes_of_unbroken_images(linear: Callable[..., Any]) -> None:
    case, entry = linear(10), get_attack("pyautoattack")
    for values in (SHORT, {"version": "plus", **SHORT}, {"version": "rand", "n_iter": 5}):
        oracle, params = Oracle(case.model, case.x, 10, QueryRules()), parse_params(entry, values)
        entry.run(oracle, case.x, case.y, Budget("linf", (1e-6,)), params, 0)
        spent = float((oracle.passes.forwards + oracle.passes.backwards).mean())
        assert entry.passes is not None
        assert 0.9 * entry.passes(params) <= spent <= entry.passes(params)
