"""APGD, FAB, Square, AutoAttack and auto: closed forms, their package, draws, batches, passes."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from attack_cases import SEARCHES, Case
from scipy.optimize import linprog, minimize
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from bench.attacks import Budget, get_attack, parse_params
from bench.attacks.declared_search import VERSIONS
from bench.norms.batch import BatchNorm
from bench.oracle import Oracle, QueryRules, frozen
from bench.verify import Scoring, judge, verify_batch

NAMES = SEARCHES
SHORT: dict[str, dict[str, object]] = {
    "apgd": {"n_iter": 20},
    "apgd_t": {"n_iter": 20},
    "fab_t": {"n_iter": 20},
    "square": {"n_queries": 150},
    "autoattack": {"n_iter": 10, "n_queries": 50},
    "auto": {"n_passes": 300},
}
TINY: dict[str, dict[str, object]] = {"square": {"n_queries": 60}, "auto": {"n_passes": 60}}
DUAL = {"linf": 1.0, "l2": 2.0, "l1": float("inf")}


def attack(
    name: str,
    case: Any,
    budget: Budget,
    seed: int = 3,
    rules: QueryRules | None = None,
    oracle: Oracle | None = None,
    **values: object,
) -> Tensor:
    entry = get_attack(name)
    oracle = oracle or Oracle(case.model, case.x, case.n_classes, rules or QueryRules())
    params = parse_params(entry, {**SHORT.get(name, {}), **values})
    with frozen(case.model):
        return entry.run(oracle, case.x, case.y, budget, params, seed)


def margins(case: Any, x: Tensor) -> Tensor:
    """Best other logit minus that of y."""
    with torch.no_grad():
        z = case.model(x)
    own = z.gather(1, case.y[:, None])[:, 0]
    return z.scatter(1, case.y[:, None], -torch.inf).amax(1) - own


def distances(case: Any, norm: str) -> Tensor:
    """Distance of each image of a linear model to the nearest boundary, far from the box's edge.

    In l1 the box cuts: there pixels go to their walls one after the other.
    """
    if norm == "l1":
        return torch.tensor([sparse_distance(case, i) for i in range(len(case.x))])
    logits, weight = case.model(case.x), case.model[1].weight
    gaps = logits.gather(1, case.y[:, None]) - logits
    slopes = (weight[None] - weight[case.y][:, None]).norm(p=DUAL[norm], dim=2)
    return (gaps / slopes).masked_fill(gaps == 0, torch.inf).amin(1).detach()


def sparse_distance(case: Any, i: int) -> float:
    """The l1 distance of an image of a linear model to the nearest boundary inside the box."""
    x, z = case.x[i].flatten().double().numpy(), case.model(case.x[i : i + 1])[0].detach().double()
    weight, y, best = case.model[1].weight.detach().double().numpy(), int(case.y[i]), np.inf
    for c in range(len(z)):
        slope = weight[c] - weight[y]
        room = np.where(slope > 0, 1 - x, x)
        order = np.argsort(-abs(slope))
        gap, length = float(z[y] - z[c]), 0.0
        for j in order if c != y else ():
            part = min(room[j], gap / abs(slope[j]))
            gap, length = gap - part * abs(slope[j]), length + part
            if gap <= 1e-12:
                best = min(best, length)
                break
    return float(best)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("n_classes", [2, 3, 10])
@pytest.mark.parametrize("name", NAMES)
def test_it_breaks_exactly_the_images_that_a_linear_model_cannot_hold(
    name: str, n_classes: int, norm: str, linear: Callable[..., Any]
) -> None:
    case = linear(n_classes, b=16)
    nearest = distances(case, norm)
    low, high = nearest.sort().values[7:9]
    radius = {"square": 1.3 * low if norm == "linf" else 2 * low}.get(name, (low + high) / 2)
    more = {"n_queries": 400} if name == "square" else {}
    if norm == "l1" and name != "square":
        # Cross-entropy climbs toward another class than the nearest, as it does in the package.
        radius = (1.5 if name == "apgd" else 1.05) * low
    x_adv = attack(name, case, Budget(norm, (float(radius),)), **more)
    lost = case.model(x_adv).argmax(1) != case.y
    assert bool(lost[nearest <= low].all())
    assert not bool(lost[nearest > radius].any())


@pytest.mark.parametrize("loss", ["ce", "dlr"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_apgd_reaches_the_optimal_loss_in_ball_and_box(
    norm: str, loss: str, linear: Callable[..., Any]
) -> None:
    case = linear(2, b=6, size=3)
    edge = torch.tensor([0.0, 0.02, 0.5, 0.97, 1.0, 0.4, 0.3, 0.99, 0.01]).view(1, 1, 3, 3)
    case.x[3:] = edge  # from here on the box cuts the ball
    eps = 0.05 if norm == "linf" else 0.1
    w = (case.model[1].weight[1] - case.model[1].weight[0]).detach().double().numpy()
    found = margins(case, attack("apgd", case, Budget(norm, (eps,)), n_iter=100, loss=loss))
    for i in range(6):
        x = case.x[i].flatten().double().numpy()
        slope = w if case.y[i] == 0 else -w
        low, high = np.maximum(-x, -eps), np.minimum(1 - x, eps)
        if norm == "linf":
            gain = np.maximum(slope * low, slope * high).sum()
        else:
            best = minimize(
                lambda d, slope=slope: -slope @ d,
                np.zeros(9),
                bounds=list(zip(low, high, strict=True)),
                constraints={"type": "ineq", "fun": lambda d: eps**2 - d @ d},
                method="SLSQP",
                options={"ftol": 1e-12, "maxiter": 300},
            )
            gain = -best.fun
        start = float(margins(case, case.x)[i])
        assert float(found[i]) - start == pytest.approx(gain, rel=0.02)


@pytest.mark.parametrize(("norm", "share"), [("linf", 0.9), ("l2", 0.6)])
def test_square_comes_close_to_the_optimal_loss(
    norm: str, share: float, linear: Callable[..., Any]
) -> None:
    case, eps = linear(2, b=6, size=5), 0.01 if norm == "linf" else 0.02
    slope = (case.model[1].weight[1] - case.model[1].weight[0]).detach().norm(p=DUAL[norm])
    x_adv = attack("square", case, Budget(norm, (eps,)), n_queries=600)
    gained = margins(case, x_adv) - margins(case, case.x)
    kept = margins(case, x_adv) < 0  # the search ends where it wins
    assert int(kept.sum()) >= 3
    assert float((gained[kept] / (eps * slope)).min()) > share


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_fab_finds_the_distance_within_five_percent_in_the_box(
    n_classes: int, norm: str, linear: Callable[..., Any]
) -> None:
    case = linear(n_classes, b=8, size=3)
    generator = torch.Generator().manual_seed(0)
    case.x[:] = torch.rand(case.x.shape, generator=generator).mul(1.4).sub(0.2).clamp(0, 1)
    y = case.model(case.x).argmax(1)
    case.y[:] = y
    x_adv = attack("fab_t", case, Budget(norm, (3.0,)), n_iter=60)
    order = torch.inf if norm == "linf" else 2
    found = torch.linalg.vector_norm((x_adv - case.x).flatten(1), order, dim=1)
    assert bool((case.model(x_adv).argmax(1) != y).all())
    expected = [nearest_in_box(case, i, norm) for i in range(8)]
    assert np.allclose(found.numpy(), expected, rtol=0.05)


def nearest_in_box(case: Any, i: int, norm: str) -> float:
    """Distance to the nearest boundary of a linear model inside the box, by solver."""
    weight, bias = (v.detach().double().numpy() for v in case.model[1].parameters())
    x, y = case.x[i].flatten().double().numpy(), int(case.y[i])
    bounds, found = [(-v, 1 - v) for v in x], []
    for t in set(range(len(bias))) - {y}:
        w, gap = weight[t] - weight[y], (weight[t] - weight[y]) @ x + bias[t] - bias[y]
        if norm == "linf":
            eye, one = np.eye(9), np.ones((9, 1))
            lp = linprog(
                np.r_[np.zeros(9), 1],
                A_ub=np.r_[np.c_[eye, -one], np.c_[-eye, -one], np.r_[-w, 0][None]],
                b_ub=np.r_[np.zeros(18), gap],
                bounds=[*bounds, (0, None)],
            )
            found += [lp.fun] if lp.success else []
        else:
            qp = minimize(
                lambda d: d @ d,
                np.where(w > 0, 1 - x, -x) / 2,
                jac=lambda d: 2 * d,
                bounds=bounds,
                constraints={"type": "ineq", "fun": lambda d, w=w, gap=gap: d @ w + gap},
                method="SLSQP",
                options={"ftol": 1e-12, "maxiter": 300},
            )
            found += [math.sqrt(qp.fun)] if qp.success else []
    return min(found)


@pytest.fixture(scope="module")
def trained() -> Any:
    """A small conv net trained for a moment, with 30 images of four classes."""
    generator = torch.Generator().manual_seed(0)
    shapes = torch.rand(4, 1, 8, 8, generator=generator)

    def sample(n: int) -> tuple[Tensor, Tensor]:
        y = torch.randint(4, (n,), generator=generator)
        noise = 0.25 * torch.randn(n, 1, 8, 8, generator=generator)
        return (0.35 * shapes[y] + 0.3 + noise).clamp(0, 1), y

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 8, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, 2, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64, 4),
        )
    parameters = list(model.parameters())
    for _ in range(150):
        x, y = sample(48)
        gradients = torch.autograd.grad(F.cross_entropy(model(x), y), parameters)
        with torch.no_grad():
            torch._foreach_add_(parameters, gradients, alpha=-0.3)
    return Case(model.eval(), *sample(30), 4)


PARITY: list[tuple[str, dict[str, object], str | None]] = [
    ("apgd", {"n_iter": 30}, "apgd-ce"),
    ("apgd", {"n_iter": 30, "loss": "dlr"}, "apgd-dlr"),
    ("apgd_t", {"n_iter": 30}, "apgd-t"),
    ("fab_t", {"n_iter": 30}, "fab-t"),
    ("autoattack", {"n_iter": 30, "version": "custom", "components": ["fab"]}, "fab"),
    ("square", {"n_queries": 400}, "square"),
    ("autoattack", {"n_iter": 30, "n_queries": 50}, None),
]


PARITY_CASES = [
    pytest.param(*case, norm, marks=[pytest.mark.slow] if slow else [])
    for case in PARITY
    for norm in ("linf", "l2", "l1")
    for slow in [case[2] in ("square", "fab", None) and norm != "linf"]
]


@pytest.mark.parametrize(("name", "values", "theirs", "norm"), PARITY_CASES)
def test_it_is_as_strong_as_the_authors_package(
    name: str, values: dict[str, object], theirs: str | None, norm: str, trained: Any
) -> None:
    budget = Budget(norm, ({"linf": 0.06, "l2": 0.3, "l1": 0.9}[norm],))
    same = {k: v for k, v in values.items() if k in ("n_iter", "n_queries")}
    version = {"version": "custom", "attacks_to_run": [theirs]} if theirs else {}
    expected = attack("pyautoattack", trained, budget, n_restarts=1, **same, **version)
    found = attack(name, trained, budget, **values)
    right = trained.model(trained.x).argmax(1) == trained.y
    a, b = (right & (trained.model(x).argmax(1) == trained.y) for x in (found, expected))
    assert 4 < int(b.sum()) < 25
    if name == "square":  # its squares differ, and the package does not rescale its schedule
        assert int(a.sum()) <= int(b.sum()) + 2
    else:
        assert abs(int(a.sum()) - int(b.sum())) <= 1 and int((a != b).sum()) <= 2


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("name", NAMES)
def test_x_adv_is_reproducible_and_inside_ball_and_box(
    name: str, norm: str, conv: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    case = conv()
    case.x[:, :, :2] = case.x[:, :, :2].round()  # pixels at both ends of the box
    budget = Budget(norm, (0.02, 0.04, 0.01) if norm == "linf" else (0.3,))
    modes = [module.training for module in case.model.modules()]
    state, x, y = torch.get_rng_state(), case.x.clone(), case.y.clone()
    x_adv = attack(name, case, budget)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(case.x, x) and torch.equal(case.y, y)
    assert torch.equal(attack(name, case, budget), x_adv)
    assert set(judge(x, x_adv, budget, "bounded")) == {"ok"} and not x_adv.requires_grad
    if name == "square":
        assert not torch.equal(attack(name, case, budget, seed=4), x_adv)
    assert [module.training for module in case.model.modules()] == modes
    assert all(p.grad is None for p in case.model.parameters())
    assert capfd.readouterr() == ("", "")


@pytest.mark.process
@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_attacked_alike_whatever_is_beside_it(
    name: str, conv: Callable[..., Any], trained: Any
) -> None:
    budget, n = Budget("linf", (0.03,)), 8
    one = type(trained)(trained.model, trained.x[:n], trained.y[:n], 4)
    other = type(trained)(trained.model, trained.x[-n:].clone(), trained.y[-n:].clone(), 4)
    other.x[4], other.y[4] = one.x[4], one.y[4]
    lone = QueryRules(max_pass=1)
    found = attack(name, one, budget)
    assert torch.allclose(attack(name, other, budget)[4], found[4], atol=1e-5)
    assert not torch.equal(attack(name, other, budget)[5], found[5])
    lost = trained.model(found).argmax(1) != one.y
    chunked = attack(name, one, budget, rules=lone)
    assert torch.equal(trained.model(chunked).argmax(1) != one.y, lost)


def spent(name: str, case: Any, budget: Budget, **values: object) -> tuple[list[Any], list[Any]]:
    oracle = Oracle(case.model, case.x, case.n_classes, QueryRules())
    attack(name, case, budget, oracle=oracle, **values)
    return oracle.passes.forwards.tolist(), oracle.passes.backwards.tolist()


def test_passes_are_counted_exactly(linear: Callable[..., Any]) -> None:
    case, tiny = linear(4), Budget("linf", (1e-6,))
    assert spent("apgd", case, tiny, n_iter=7, n_restarts=2) == ([16] * 8, [14] * 8)
    assert spent("apgd_t", case, tiny, n_iter=7) == ([1 + 3 * 8] * 8, [21] * 8)
    assert spent("square", case, tiny, n_queries=30) == ([30] * 8, [0] * 8)
    case.y[0] = (case.y[0] + 1) % 4  # wrong from the start
    assert spent("square", case, tiny, n_queries=30)[0] == [1] + [30] * 7
    assert spent("autoattack", case, tiny)[0][0] == 1
    assert max(spent("square", case, Budget("linf", (0.6,)))[0]) < 50


@pytest.mark.parametrize("name", ["apgd", "apgd_t", "fab_t"])
def test_an_early_stop_saves_passes_and_changes_no_verdict(name: str, trained: Any) -> None:
    budget = Budget("linf", (0.05,))
    full, short = (attack(name, trained, budget, early_stop=stop) for stop in (False, True))
    cost = [sum(spent(name, trained, budget, early_stop=stop)[0]) for stop in (False, True)]
    a, b = (trained.model(x).argmax(1) == trained.y for x in (full, short))
    assert torch.equal(a, b) and cost[1] < 0.8 * cost[0]


@pytest.mark.parametrize("version", sorted(VERSIONS))
def test_the_estimate_bounds_the_passes_of_autoattack(
    version: str, linear: Callable[..., Any]
) -> None:
    case, entry = linear(10, b=3), get_attack("autoattack")
    values: dict[str, object] = {"version": version, "n_iter": 5, "n_queries": 20, "n_restarts": 2}
    forwards, backwards = spent("autoattack", case, Budget("linf", (1e-6,)), **values)
    assert entry.passes is not None
    assert 0.4 * entry.passes(parse_params(entry, values)) < forwards[0] + backwards[0]
    assert forwards[0] + backwards[0] <= entry.passes(parse_params(entry, values))


class Coupled(nn.Module):
    """A linear model behind batch normalization on batch statistics."""

    def __init__(self, linear: nn.Module) -> None:
        super().__init__()
        self.norm, self.linear = BatchNorm(1, "batch"), linear
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.linear(self.norm(x))
        return z


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", NAMES)
def test_a_coupled_batch_is_kept_whole_and_returned_as_it_was_seen(
    name: str, norm: str, linear: Callable[..., Any], watch: Any
) -> None:
    case = linear(4, b=6)
    model = watch(Coupled(case.model))
    y = model(case.x).argmax(1)
    case = type(case)(model, case.x, y, 4)
    model.batches.clear()
    budget = Budget(norm, (0.06 if norm == "linf" else 0.6,))
    x_adv = attack(name, case, budget, rules=QueryRules(batch_dependent=True))
    eps = budget.eps[0]
    for batch in model.batches:
        assert len(batch) == 6
        assert name in ("fab_t", "autoattack") or float((batch - case.x).abs().max()) <= eps + 1e-6
    assert any(torch.equal(batch, x_adv) for batch in model.batches)
    assert set(judge(case.x, x_adv, budget, "bounded")) == {"ok"}
    assert float((model(x_adv).argmax(1) == y).float().mean()) <= 0.5


@pytest.mark.parametrize("name", NAMES)
def test_a_single_adversary_attacks_each_image_among_clean_ones(
    name: str, linear: Callable[..., Any], watch: Any
) -> None:
    case = linear(4, b=4)
    model = watch(Coupled(case.model))
    y = model(case.x).argmax(1)
    case = type(case)(model, case.x, y, 4)
    model.batches.clear()
    rules = QueryRules(batch_dependent=True, adversary="single")
    values = TINY.get(name, {"n_iter": 5})
    x_adv = attack(name, case, Budget("linf", (0.06,)), rules=rules, **values)
    assert all(int((b != case.x).flatten(1).any(1).sum()) <= 1 for b in model.batches)
    alone = [model(case.x.index_copy(0, torch.tensor([i]), x_adv[i][None]))[i] for i in range(4)]
    assert float((torch.stack(alone).argmax(1) == y).float().mean()) <= 0.5


class LabelNoise(nn.Module):
    """Right with probability 0.9, whatever the image: no attack can do anything."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, x: Tensor) -> Tensor:
        wrong = torch.rand(len(x), generator=self.generator) < 0.1
        return F.one_hot(wrong.long(), 4).float() * 5 + 0 * x.flatten(1)[:, :4]


@pytest.mark.parametrize("name", NAMES)
def test_pure_label_noise_scores_its_expectation(name: str, linear: Callable[..., Any]) -> None:
    x, y = torch.full((150, 1, 2, 2), 0.5), torch.zeros(150, dtype=torch.int64)
    case = type(linear(4))(LabelNoise(), x, y, 4)
    budget = Budget("linf", (0.1,))
    values = TINY.get(name, {"n_iter": 5})
    x_adv = attack(name, case, budget, rules=QueryRules(stochastic=True, eot_iter=2), **values)
    rows = verify_batch(
        case.model, x, y, x_adv, budget, "bounded", Scoring(n_draws=20, seed=0, stochastic=True)
    )
    # 3,000 draws: a standard deviation of 0.55 points
    assert np.mean([row.robust for row in rows]) == pytest.approx(0.9, abs=0.02)


class NoisyLogits(nn.Module):
    """A model whose every draw adds its own noise to the logits of every image."""

    def __init__(self, model: nn.Module, scale: float) -> None:
        super().__init__()
        self.model, self.scale = model, scale
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.model(x)
        return z + self.scale * torch.randn(z.shape, generator=self.generator)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(
    ("name", "values", "scale", "share"),
    [
        ("apgd", {"n_iter": 40}, 0.3, 0.95),
        ("apgd_t", {"n_iter": 40}, 0.3, 0.95),
        ("fab_t", {"n_iter": 40}, 0.3, 0.8),
        ("square", {"n_queries": 300}, 0.1, 0.3),
        ("autoattack", {"version": "eot", "n_iter": 40, "n_queries": 10}, 0.3, 0.95),
        ("autoattack", {"version": "rand", "n_iter": 40}, 0.3, 0.95),
        ("auto", {}, 0.3, 0.95),
    ],
)
def test_lucky_draws_do_not_end_the_attack_on_a_stochastic_model(
    name: str,
    values: dict[str, object],
    scale: float,
    share: float,
    norm: str,
    linear: Callable[..., Any],
) -> None:
    """At the optimum about half of the draws are right, so single draws look broken long before."""
    case = linear(3, b=8)
    nearest, start = distances(case, norm), margins(case, case.x)
    eps = float(nearest.median())
    model = NoisyLogits(case.model, scale * float(start.abs().median()))
    noisy = type(case)(model, case.x, case.y, 3)
    rules = QueryRules(stochastic=True, eot_iter=4)
    x_adv = attack(name, noisy, Budget(norm, (eps,)), rules=rules, **values)
    best = start.abs() * eps / nearest
    assert float(((margins(case, x_adv) - start) / best).mean()) > share


@pytest.mark.parametrize("name", NAMES)
def test_a_stochastic_coupled_batch_is_attacked_whole(
    name: str, linear: Callable[..., Any]
) -> None:
    case, budget = linear(4, b=6), Budget("linf", (0.06,))
    model = Coupled(case.model)
    noisy = type(case)(NoisyLogits(model, 1.0), case.x, model(case.x).argmax(1), 4)
    rules = QueryRules(stochastic=True, batch_dependent=True, eot_iter=3)
    x_adv = attack(name, noisy, budget, rules=rules)  # the oracle refuses anything else
    assert set(judge(case.x, x_adv, budget, "bounded")) == {"ok"}
    assert float((model(x_adv).argmax(1) == noisy.y).float().mean()) <= 0.5


def test_few_classes_are_said_in_the_log(
    linear: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        attack("apgd", linear(2), Budget("linf", (0.01,)), n_iter=1, loss="dlr")
        attack("apgd_t", linear(3), Budget("linf", (0.01,)), n_iter=1)
    text = caplog.text
    assert "needs 3 classes, the model has 2" in text and "needs 4 classes, the model has 3" in text
    assert "9 target classes were asked for, the model has 3" in text


def test_broken_images_are_left_to_no_further_component(linear: Callable[..., Any]) -> None:
    case = linear(4)
    low, high = distances(case, "linf").sort().values[3:5]
    forwards, _ = spent("autoattack", case, Budget("linf", (float(low + high) / 2,)))
    assert sorted(forwards)[3] < 20 < 100 < sorted(forwards)[4]
