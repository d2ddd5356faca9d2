"""The parts of the native searches against independent solvers and the papers' formulas."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from attack_cases import Case
from scipy.optimize import linprog, minimize
from torch import Tensor, nn

from bench.attacks import Budget, get_attack, parse_params
from bench.attacks.ball import ball_of
from bench.attacks.common import put_rows
from bench.attacks.declared_search import checkpoints
from bench.attacks.planes import sparse_step_to_plane, step_to_plane
from bench.attacks.search.square_shapes import AHEAD, Draws, shapes_in, two_humps
from bench.attacks.search.squares import share
from bench.oracle import LOSSES, Memo, Oracle, QueryRules


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


@pytest.mark.parametrize("reachable", [0.05, 0.4, 0.9, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_the_l1_step_is_that_of_a_linear_program(seed: int, reachable: float) -> None:
    x, w, gap = problem(seed, reachable * 0.999)
    lp = linprog(
        np.ones(14),
        A_eq=np.r_[w, -w][None],
        b_eq=[-gap],
        bounds=[(0, 1 - v) for v in x] + [(0, v) for v in x],
    )
    x_, w_ = (torch.tensor(v, dtype=torch.float32)[None] for v in (x, w))
    delta = sparse_step_to_plane(x_, w_, torch.tensor([gap]))[0].double().numpy()
    assert lp.success
    assert delta @ w == pytest.approx(-gap, abs=1e-5)
    assert (x + delta).min() >= -1e-6 and (x + delta).max() <= 1 + 1e-6
    assert np.abs(delta).sum() == pytest.approx(lp.fun, rel=1e-4, abs=1e-6)


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


def chosen_step(x: Tensor, w: Tensor, gap: Tensor, pace: Tensor | None) -> Tensor:
    """``step_to_plane`` written with conditions where it multiplies with zeros and ones."""
    toward = -gap.sign()[:, None] * w.sign()
    size = w.abs()
    scale = size.amax(1).clamp(min=1e-30)
    size, gap = size / scale[:, None], gap.abs() / scale
    pace = size if pace is None else pace.expand_as(size)
    room = torch.where(toward > 0, 1 - x, x)
    speed, wall = torch.where(room > 0, size * pace, 0), size * room
    time = gap / speed.sum(1).clamp(min=1e-30)
    for _ in range(x.shape[1]):
        met = pace * time[:, None] >= room
        rate, closed = speed.masked_fill(met, 0).sum(1), torch.where(met, wall, 0).sum(1)
        later = torch.where(rate > 0, (gap - closed) / rate.clamp(min=1e-30), torch.inf)
        time = torch.where(later > time * (1 + 1e-6), later, time)
    return toward * torch.minimum(time.clamp(max=1e30)[:, None] * pace, room)


@pytest.mark.parametrize("norm", ["linf", "channels", "l2"])
@pytest.mark.parametrize("seed", range(6))
def test_a_step_does_not_depend_on_how_walls_are_chosen(seed: int, norm: str) -> None:
    rng = torch.Generator().manual_seed(seed)
    x, w = torch.rand(20, 30, generator=rng), torch.randn(20, 30, generator=rng)
    x[:, :10], w[torch.rand(20, 30, generator=rng) < 0.3] = x[:, :10].round(), 0
    gap = torch.randn(20, generator=rng) * w.abs().sum(1) * 10.0 ** -(seed % 3)
    w[0], gap[1], w[2] = 0, 0, w[2] * 1e-25
    pace = None if norm == "l2" else torch.ones(1, 30)
    pace = torch.rand(1, 30, generator=rng) + 0.1 if norm == "channels" else pace
    step = step_to_plane(x, w, gap, pace)
    assert torch.equal(step, chosen_step(x, w, gap, pace))
    alone = torch.cat(
        [step_to_plane(*(v[i : i + 1] for v in (x, w, gap)), pace) for i in range(20)]
    )
    assert torch.equal(step, alone), "an image's step depends on its neighbours"


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
    assert np.allclose(two_humps(size, 2, 2).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 1, 3, 3), (3, 3, 4, 7), (3, 1, 11, 11)])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_squares_fit_images_of_any_size_and_use_the_whole_radius(
    norm: str, shape: tuple[int, ...]
) -> None:
    x, rows = torch.full(shape, 0.5), torch.arange(3)
    shapes = shapes_in(ball_of(Budget(norm, (0.1,))))
    generator = torch.Generator().manual_seed(0)
    x_adv = shapes.first_guess(x, rows, 3, generator)
    order, draws = {"linf": torch.inf, "l2": 2, "l1": 1}[norm], Draws(x, 3, generator)
    for size in (min(shape[2:]), 3, 3):
        length = torch.linalg.vector_norm((x_adv - x).flatten(1), order, dim=1)
        assert torch.allclose(length, torch.tensor(0.1), atol=1e-5)
        new = shapes.next_guess(x, x_adv, shapes.ends(x), rows, size, draws)
        changed = (new != x_adv).flatten(1).sum(1)
        assert int(changed.max()) <= shape[1] * size**2 * (1 if norm == "linf" else 2)
        x_adv = new


def test_squares_are_those_that_each_query_would_draw() -> None:
    """Also where the size changes, or images are left out, between what is drawn at once."""
    shapes = shapes_in(ball_of(Budget("linf", (0.1,))))
    x, rows = torch.rand(4, 3, 9, 7), torch.arange(4)
    low, high = (x - 0.1).clamp(0, 1), (x + 0.1).clamp(0, 1)
    assert torch.allclose(shapes.ends(x), torch.stack([low, high], 1))
    draws, alike = (torch.Generator().manual_seed(3) for _ in range(2))
    ahead, ends, x_adv = Draws(x, 4, draws), shapes.ends(x), x
    for query in range(3 * AHEAD):
        size = 5 if query < 40 else 2
        if query == 50:
            rows, x_adv, ends = rows[[0, 2]], x_adv[[0, 2]], ends[[0, 2]]
        u = torch.rand(4, 5 + 3, generator=alike)[rows]
        expected = x_adv.clone()
        for i, (of_image, corner) in enumerate(zip(u, ends, strict=True)):
            top, left = int(of_image[0] * (9 - size + 1)), int(of_image[2] * (7 - size + 1))
            for c in range(3):
                bright = int(of_image[5 + c] >= 0.5)
                window = (c, slice(top, top + size), slice(left, left + size))
                expected[i][window] = corner[bright][window]
        new = shapes.next_guess(x[rows], x_adv, ends, rows, size, ahead)
        assert torch.equal(new, expected)
        x_adv = new


def test_rows_are_put_where_they_are_better_and_nowhere_else() -> None:
    kept, new = torch.zeros(3, 1, 2, 2), torch.ones(3, 1, 2, 2)
    other = kept.clone()
    put_rows(torch.tensor([False, True, False]), (kept, new), (other, new * 2))
    assert kept.flatten(1).sum(1).tolist() == [0, 4, 0]
    assert other.flatten(1).sum(1).tolist() == [0, 8, 0]
    put_rows(torch.tensor([False, False, False]), (kept, new))
    assert kept.sum() == 4


@pytest.mark.parametrize("budget", [Budget("linf", (0.1,)), Budget("linf", (0.1, 0.2))])
def test_a_projection_that_spends_its_point_is_the_same(budget: Budget) -> None:
    x, far = torch.rand(3, 2, 4, 4), torch.rand(3, 2, 4, 4) * 3 - 1
    eps = torch.tensor(budget.eps).view(1, -1, 1, 1)
    expected = (x + (far - x).clamp(-eps, eps)).clamp(0, 1)
    assert torch.equal(ball_of(budget).project(far, x), expected)
    assert torch.equal(ball_of(budget).project(far, x, spend=True), expected)


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


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["pgd", "mim", "apgd", "apgd_t", "fab_t", "square", "auto"])
def test_no_search_writes_into_the_images_it_is_given(
    name: str, norm: str, linear: Callable[..., Case]
) -> None:
    case, attack = linear(5), get_attack(name)
    x = case.x.clone()
    budget = Budget(norm, (0.02,) if norm == "linf" else (0.1,))
    oracle = Oracle(case.model, x, 5, QueryRules())
    few = {"square": {"n_queries": 60}, "auto": {"n_passes": 200}, "apgd": {"n_iter": 12}}
    params = parse_params(attack, few.get(name, {"n_iter": 6}))
    x_adv = attack.run(oracle, x, case.y, budget, params, 0)
    assert torch.equal(x, case.x) and not torch.equal(x_adv, x)
    assert x_adv.data_ptr() != x.data_ptr()


def test_a_gradient_that_is_one_number_for_all_pixels_is_followed() -> None:
    """Autograd returns it expanded, which must not be written into."""

    class Sum(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            total = x.flatten(1).sum(1)
            return torch.stack([total - 8.5, torch.zeros_like(total)], 1)

    x, y = torch.full((3, 1, 4, 4), 0.6), torch.zeros(3, dtype=torch.long)
    attack = get_attack("apgd")
    params = parse_params(attack, {"n_iter": 5})
    x_adv = attack.run(Oracle(Sum(), x, 2, QueryRules()), x, y, Budget("linf", (0.1,)), params, 0)
    assert torch.allclose(x_adv, torch.full_like(x, 0.5))


def test_what_one_ascent_leaves_to_a_longer_one_is_not_changed_by_its_own_end(
    linear: Callable[..., Case],
) -> None:
    case, attack, budget = linear(5), get_attack("pgd"), Budget("linf", (0.01,))

    def attacked(memo: Memo | None, n_iter: int) -> Tensor:
        oracle = Oracle(case.model, case.x, 5, QueryRules(), memo)
        params = parse_params(attack, {"n_iter": n_iter, "alpha": 0.004})
        return attack.run(oracle, case.x, case.y, budget, params, 0)

    memo = Memo()
    attacked(memo, 3)
    (ascents,) = memo.ascents.values()
    (state,) = ascents.values()
    assert state.best is not None
    # The last iterate is better, and is kept by the attack that ended there, not by the state.
    assert not torch.equal(state.best[0], state.x_adv)
    assert torch.equal(attacked(memo, 6), attacked(None, 6))
