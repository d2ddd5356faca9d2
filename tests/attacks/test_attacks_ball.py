"""The geometry of each norm's ball, and that no norm is ever taken for another."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from attack_cases import NATIVE
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.optimize import minimize
from torch import Tensor, nn

from bench.attacks import Budget, get_attack
from bench.attacks.ball import BALLS, ball_of
from bench.attacks.registry import attack_info
from bench.attacks.search.square_shapes import shapes_in
from bench.core.ball import NORMS, norm_facts
from bench.core.errors import UserError
from bench.core.threat import ThreatModel
from bench.oracle import Oracle, QueryRules
from bench.verify import judge

PACKAGE = Path(__file__).parents[2] / "bench"


def order_of(norm: str) -> float:
    return norm_facts(norm).order


def size(delta: Tensor, norm: str) -> Tensor:
    """Lengths (n,) in float64."""
    return torch.linalg.vector_norm(delta.double().flatten(1), order_of(norm), dim=1)


@given(seed=st.integers(0, 10_000), norm=st.sampled_from(NORMS), eps=st.floats(0.01, 2))
def test_what_a_ball_returns_lies_in_it(seed: int, norm: str, eps: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(4, 2, 3, 3, generator=generator)
    far = x + 5 * torch.randn(x.shape, generator=generator)
    ball, rounding = ball_of(Budget(norm, (eps,))), 1e-6 * norm_facts(norm).diameter(2 * 3 * 3)
    for point in (ball.project(far, x), ball.random_point(x, generator)):
        assert bool((size(point - x, norm) <= eps + rounding).all())
        assert float(point.min()) >= 0 and float(point.max()) <= 1
        assert bool((ball.excess((point - x).double()) <= rounding).all())
    assert bool((ball.excess((far - x).double()) > 0).eq(size(far - x, norm) > eps).all())
    inside = x + 0.5 * (ball.project(far, x) - x)
    assert torch.allclose(ball.project(inside, x), inside, atol=1e-6)


@given(seed=st.integers(0, 10_000), eps=st.floats(0.01, 8))
def test_l1_projects_onto_ball_and_box_together(seed: int, eps: float) -> None:
    rng = np.random.default_rng(seed)
    x, u = rng.random(6).round(int(rng.integers(1, 3))), rng.normal(0.5, 1.5, 6)
    nearest = minimize(  # positive and negative parts
        lambda d: float(((x + d[:6] - d[6:] - u) ** 2).sum()),
        np.zeros(12),
        jac=lambda d: np.r_[2 * (x + d[:6] - d[6:] - u), -2 * (x + d[:6] - d[6:] - u)],
        bounds=[(0, 1 - v) for v in x] + [(0, v) for v in x],
        constraints={"type": "ineq", "fun": lambda d: eps - d.sum(), "jac": lambda d: -np.ones(12)},
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 300},
    )
    of_torch = torch.tensor(x).view(1, 1, 2, 3), torch.tensor(u).view(1, 1, 2, 3)
    found = ball_of(Budget("l1", (eps,))).project(of_torch[1], of_torch[0])[0].flatten().numpy()
    assert np.abs(found - x).sum() <= eps + 1e-9
    assert ((found - u) ** 2).sum() == pytest.approx(nearest.fun, abs=1e-5, rel=1e-5)


@given(seed=st.integers(0, 10_000), norm=st.sampled_from(NORMS))
def test_the_step_to_the_surface_is_the_best_for_a_linear_function(seed: int, norm: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(3, 2, 3, 3, generator=generator)
    ball = ball_of(Budget(norm, (0.3,)))
    step = ball.surface_step(w) * ball.ascent_direction(w)
    assert torch.allclose(size(step, norm), torch.full((3,), 0.3).double(), rtol=1e-4)
    dual = torch.linalg.vector_norm(w.flatten(1), norm_facts(norm).dual_order, dim=1)
    assert torch.allclose((w * step).flatten(1).sum(1), 0.3 * dual, rtol=1e-4)
    radii = ball.radii(w)
    flat = w.flatten(1)
    assert torch.allclose(ball.dual_norm(flat, radii), dual, rtol=1e-4)
    along = ball.along(flat, radii)
    assert torch.allclose((flat * along).sum(1), ball.rise(dual), rtol=1e-4)
    assert torch.allclose(ball.rise(dual) / ball.size(along, radii), dual, rtol=1e-4)
    assert torch.allclose(ball.relative_size(step), torch.ones(3), rtol=1e-4)


@pytest.mark.parametrize("norm", NORMS)
def test_the_facts_of_a_norm_fit_its_ball(norm: str) -> None:
    assert BALLS[norm].norm == norm
    facts = norm_facts(norm)
    assert 1 / facts.order + 1 / facts.dual_order == 1
    assert float(size(torch.ones(1, 3, 8, 8), norm)) == pytest.approx(facts.diameter(3 * 8 * 8))
    assert facts.per_pixel == math.isinf(facts.order)


@pytest.mark.parametrize("norm", NORMS)
def test_half_a_ball_has_half_the_radius(norm: str) -> None:
    assert ball_of(Budget(norm, (0.2, 0.4))).scaled(0.5) == ball_of(Budget(norm, (0.1, 0.2)))


def unknown() -> Iterator[object]:
    budget, x = Budget("l7", (0.1,)), torch.full((2, 1, 4, 4), 0.5)
    yield lambda: norm_facts("l7")
    yield lambda: ball_of(budget)
    yield lambda: judge(x, x, budget, "bounded")
    yield lambda: attack_info("natural", {}, "l7")
    y, model = torch.zeros(2, dtype=torch.long), nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    for name in NATIVE:
        attack = get_attack(name)
        if attack.kind == "bounded" or name == "deepfool":
            oracle = Oracle(model, x, 3, QueryRules())
            yield lambda attack=attack, oracle=oracle: attack.run(
                oracle, x, y, budget, attack.params(), 0
            )


@pytest.mark.parametrize("call", list(unknown()))
def test_a_made_up_norm_is_refused_by_name(call: object) -> None:
    assert callable(call)
    with pytest.raises(UserError, match="l7"):
        call()


def test_a_made_up_norm_is_refused_in_a_threat_model() -> None:
    with pytest.raises(ValidationError, match="input_value='l7'"):
        ThreatModel.model_validate({"norm": "l7", "eps": 0.1})


def test_a_norm_without_shapes_of_its_own_has_no_square_attack() -> None:
    class Other(BALLS["linf"]):  # type: ignore[misc, name-defined]
        norm = "l7"

    with pytest.raises(UserError, match="linf, l2, l1, found norm 'l7'"):
        shapes_in(Other((0.1,)))


def falls_through(node: ast.AST) -> bool:
    """Whether code compares with the name of a norm and goes on for all others."""
    if not isinstance(node, ast.If | ast.IfExp) or not isinstance(node.test, ast.Compare):
        return False
    names = {n.value for n in ast.walk(node.test) if isinstance(n, ast.Constant)}
    refuses = isinstance(node, ast.If) and all(isinstance(n, ast.Raise) for n in node.body)
    return bool(names & set(NORMS)) and not refuses


@pytest.mark.process
def test_no_code_takes_one_norm_for_another() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.If | ast.IfExp) and falls_through(node)
    ]
    assert found == []
