"""The parts of the native searches against independent solvers and the papers' formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize

from bench.attacks import Budget
from bench.attacks.search.ascent import checkpoints
from bench.attacks.search.projection import step_to_plane
from bench.attacks.search.square_shapes import corners, first_guess, next_guess, two_humps
from bench.attacks.search.squares import share
from bench.oracle import LOSSES


def problem(seed: int, reachable: float) -> tuple[np.ndarray, np.ndarray, float]:
    """A point, a normal and a gap that needs the share ``reachable`` of all room in the box."""
    rng = np.random.default_rng(seed)
    x, w = rng.random(7), rng.normal(size=7)
    x[0], w[1] = 0.0, 0.0  # a coordinate at its wall, and one that does not matter
    sign = rng.choice([-1.0, 1.0])
    room = np.where(sign * w > 0, x, 1 - x)
    return x, w, float(sign * reachable * (np.abs(w) * room).sum())


def solved(x: np.ndarray, w: np.ndarray, gap: float, pace: np.ndarray | None) -> np.ndarray:
    """One row of ``step_to_plane``."""
    x_, w_ = (torch.tensor(v, dtype=torch.float32)[None] for v in (x, w))
    pace_ = None if pace is None else torch.tensor(pace, dtype=torch.float32)[None]
    return step_to_plane(x_, w_, torch.tensor([gap]), pace_)[0].double().numpy()


@pytest.mark.parametrize("reachable", [0.05, 0.4, 0.9, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_the_linf_step_is_that_of_a_linear_program(seed: int, reachable: float) -> None:
    x, w, gap = problem(seed, reachable * 0.999)
    pace = np.random.default_rng(seed).uniform(0.5, 1.5, 7) if seed % 2 else np.ones(7)
    eye = np.eye(7)
    lp = linprog(
        np.r_[np.zeros(7), 1],
        A_ub=np.r_[np.c_[eye, -pace], np.c_[-eye, -pace]],
        b_ub=np.zeros(14),
        A_eq=np.r_[w, 0][None],
        b_eq=[-gap],
        bounds=[(-v, 1 - v) for v in x] + [(0, None)],
    )
    delta = solved(x, w, gap, pace)
    assert lp.success
    assert delta @ w == pytest.approx(-gap, abs=1e-5)
    assert (x + delta).min() >= -1e-6 and (x + delta).max() <= 1 + 1e-6
    assert (np.abs(delta) / pace).max() == pytest.approx(lp.fun, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("reachable", [0.05, 0.4, 0.9])
@pytest.mark.parametrize("seed", range(5))
def test_the_l2_step_is_that_of_a_quadratic_program(seed: int, reachable: float) -> None:
    x, w, gap = problem(seed, reachable)
    qp = minimize(
        lambda d: d @ d,
        np.zeros(7),
        jac=lambda d: 2 * d,
        bounds=[(-v, 1 - v) for v in x],
        constraints={"type": "eq", "fun": lambda d: d @ w + gap, "jac": lambda d: w},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    delta = solved(x, w, gap, None)
    assert qp.success
    assert delta @ w == pytest.approx(-gap, abs=1e-5)
    assert (x + delta).min() >= -1e-6 and (x + delta).max() <= 1 + 1e-6
    assert np.linalg.norm(delta) == pytest.approx(math.sqrt(qp.fun), rel=1e-3)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_plane_outside_the_box_is_approached_up_to_the_corner(norm: str) -> None:
    x, w, gap = problem(3, 1.5)
    delta = solved(x, w, gap, np.ones(7) if norm == "linf" else None)
    corner = np.where(w * gap > 0, 0.0, 1.0)
    moved = w != 0
    assert np.allclose((x + delta)[moved], corner[moved], atol=1e-6)
    assert np.allclose(delta[~moved], 0)


@pytest.mark.parametrize("pace", [None, np.ones(7)])
def test_tiny_and_zero_normals_give_finite_steps(pace: np.ndarray | None) -> None:
    x, w, gap = problem(1, 0.3)
    tiny = solved(x, w * 1e-20, gap * 1e-20, pace)
    assert np.allclose(tiny, solved(x, w, gap, pace), atol=1e-5)
    assert np.allclose(solved(x, w * 0, 1.0, pace), 0)


def test_checkpoints_are_those_of_the_paper() -> None:
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(1) == [1]
    assert all(1 <= mark <= n for n in range(1, 40) for mark in checkpoints(n))


def test_the_share_of_changed_pixels_is_halved_as_in_the_paper() -> None:
    marks = [0, 10, 11, 51, 201, 1001, 2001, 4001, 6001, 8001]
    expected = [0.8 / 2**k for k in (0, 0, 1, 2, 3, 4, 5, 6, 7, 8)]
    assert [share(i, 10_000, 0.8) for i in marks] == pytest.approx(expected)
    assert share(101, 1000, 0.8) == share(1010, 10_000, 0.8)


@pytest.mark.parametrize("size", [3, 4, 5, 9])
def test_the_l2_shape_follows_the_papers_sum(size: int) -> None:
    def hump(h1: int, h2: int) -> np.ndarray:
        n = h1 // 2
        values = np.zeros((h2, h1))
        for s in range(1, h2 + 1):
            for r in range(1, h1 + 1):
                m = n - max(abs(r - h1 // 2 - 1), abs(s - h2 // 2 - 1))
                values[s - 1, r - 1] = sum(1 / (n + 1 - k) ** 2 for k in range(m + 1))
        return values

    k = size // 2
    expected = np.concatenate([hump(size, k), -hump(size, size - k)])
    expected /= np.linalg.norm(expected)
    assert np.allclose(two_humps(size).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 1, 3, 3), (3, 3, 4, 7), (3, 1, 11, 11)])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_squares_fit_images_of_any_size_and_use_the_whole_radius(
    norm: str, shape: tuple[int, ...]
) -> None:
    x, rows = torch.full(shape, 0.5), torch.arange(3)
    budget, generator = Budget(norm, (0.1,)), torch.Generator().manual_seed(0)
    x_adv = first_guess(x, rows, 3, budget, generator)
    order = torch.inf if norm == "linf" else 2
    for size in (min(shape[2:]), 3, 3):
        length = torch.linalg.vector_norm((x_adv - x).flatten(1), order, dim=1)
        assert torch.allclose(length, torch.tensor(0.1), atol=1e-5)
        new = next_guess(x, x_adv, corners(x, budget), rows, 3, budget, size, generator)
        changed = (new != x_adv).flatten(1).sum(1)
        assert int(changed.max()) <= shape[1] * size**2 * (1 if norm == "linf" else 2)
        x_adv = new


@pytest.mark.parametrize(("n_classes", "aimed"), [(2, False), (2, True), (3, True)])
def test_the_dlr_loss_keeps_a_gradient_with_few_classes(n_classes: int, aimed: bool) -> None:
    """The ratio itself is constant there: +-1, or with 3 classes and the last as target, -1."""
    z = torch.tensor([[2.0, 1.0, -1.0][:n_classes]], requires_grad=True)
    y, target = torch.tensor([0]), torch.tensor([n_classes - 1])
    loss = LOSSES["dlr"](z, y, target if aimed else None)
    (gradient,) = torch.autograd.grad(loss.sum(), z)
    assert gradient[0, 0] < 0 < gradient[0, 1:].max()


def test_the_dlr_loss_is_the_papers_where_there_are_classes_enough() -> None:
    z, y, t = torch.tensor([[1.0, 4.0, 2.0, -3.0, 0.5]]), torch.tensor([1]), torch.tensor([3])
    assert float(LOSSES["dlr"](z, y, None)) == pytest.approx(-(4 - 2) / (4 - 1))
    assert float(LOSSES["dlr"](z, y, t)) == pytest.approx(-(4 + 3) / (4 - (1 + 0.5) / 2))
