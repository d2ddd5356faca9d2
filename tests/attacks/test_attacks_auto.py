"""The budgeted attack: AutoAttack's verdicts for fewer passes, and where its passes go."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from attack_cases import Case
from torch import Tensor, nn

from bench.attacks import Budget, get_attack, parse_params
from bench.attacks.ball import ball_of
from bench.attacks.search.lanes import whole_batch
from bench.attacks.search.rounds import diversified_starts, nearest_targets
from bench.oracle import Oracle, QueryRules, frozen
from bench.verify import judge


def attacked(
    name: str, case: Any, ball: Budget, rules: QueryRules | None = None, **values: object
) -> tuple[Tensor, Tensor]:
    """Returns where an attack (b,) leaves images right, and the passes that each cost."""
    entry = get_attack(name)
    oracle = Oracle(case.model, case.x, case.n_classes, rules or QueryRules())
    with frozen(case.model):
        x_adv = entry.run(oracle, case.x, case.y, ball, parse_params(entry, values), 0)
    assert set(judge(case.x, x_adv, ball, "bounded")) == {"ok"}
    with torch.no_grad():
        return case.model(x_adv).argmax(1) == case.y, oracle.passes.forwards + (
            oracle.passes.backwards
        )


@pytest.fixture(scope="module")
def trained() -> Case:
    """A conv net of five classes trained for a moment, with 60 images near its boundaries."""
    generator = torch.Generator().manual_seed(2)
    shapes = torch.rand(5, 1, 8, 8, generator=generator)

    def sample(n: int) -> tuple[Tensor, Tensor]:
        y = torch.randint(5, (n,), generator=generator)
        noise = 0.25 * torch.randn(n, 1, 8, 8, generator=generator)
        return (0.35 * shapes[y] + 0.3 + noise).clamp(0, 1), y

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            *(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(64, 5)),
        )
    parameters = list(model.parameters())
    for _ in range(150):
        x, y = sample(48)
        gradients = torch.autograd.grad(nn.functional.cross_entropy(model(x), y), parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(gradient, alpha=0.3)
    return Case(model.eval(), *sample(60), 5)


@pytest.mark.process
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.04), ("l2", 0.25)])
def test_it_reaches_autoattacks_verdicts_for_a_fraction_of_its_passes(
    norm: str, eps: float, trained: Case
) -> None:
    ball = Budget(norm, (eps,))
    full, dear = attacked("autoattack", trained, ball, n_queries=1000)
    found, cheap = attacked("auto", trained, ball)
    assert 10 < int(full.sum()) < 45
    assert torch.equal(found, full)
    assert float(cheap.sum()) < 0.3 * float(dear.sum())  # with fewer targets and queries than usual


@pytest.mark.parametrize("n_classes", [2, 4, 10])
@pytest.mark.parametrize("n_passes", [50, 300, 1800])
def test_an_image_never_costs_more_than_the_budget(
    n_passes: int, n_classes: int, linear: Callable[..., Any]
) -> None:
    case, entry = linear(n_classes, b=12), get_attack("auto")
    ball = Budget("linf", (0.03 if n_classes == 2 else 0.02,))
    _, cost = attacked("auto", case, ball, n_passes=n_passes)
    assert entry.passes is not None
    bound = entry.passes(parse_params(entry, {"n_passes": n_passes}))
    assert float(cost.max()) <= bound == n_passes


class Brightness(nn.Module):
    """Class 1 where the mean of an image is above 0.5: an ascent comes as far as any other."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(20.0))

    def forward(self, x: Tensor) -> Tensor:
        z = (x.mean((1, 2, 3)) - 0.5) * self.slope
        return torch.stack([-z, z], 1)


def test_passes_go_to_images_that_lack_little() -> None:
    distance = 0.02 * torch.arange(1, 13)
    x = (0.5 + distance).view(-1, 1, 1, 1).expand(12, 1, 4, 4).clone()
    case = Case(Brightness(), x, torch.ones(12, dtype=torch.int64), 2)
    right, cost = attacked("auto", case, Budget("linf", (0.11,)))
    assert right.tolist() == [False] * 5 + [True] * 7
    assert float(cost[:5].max()) < 40
    worth = 1800 / (1 + 2 * (distance[5:] - 0.11) / 0.11)  # need and gain are distances here
    trial = 420  # what each image gets that stands
    assert bool((cost[5:] <= worth.clamp(min=trial) + 42).all())  # a last climb in small steps
    assert bool((cost[5:] >= worth.clamp(max=1800) - 70).all())  # the cheapest round


def test_wrong_images_cost_one_pass(linear: Callable[..., Any]) -> None:
    case = linear(4)
    case.y[:3] = (case.y[:3] + 1) % 4
    _, cost = attacked("auto", case, Budget("linf", (1e-6,)))
    assert cost[:3].tolist() == [1, 1, 1] and float(cost[3:].min()) > 50


class Steps(nn.Module):
    """Rounds pixels to a grid, and so passes no gradient on."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.model((x * 16).round() / 16)
        return z + 0 * x.flatten(1)[:, :1]


def test_masked_gradients_hand_over_to_random_search(
    linear: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    case, ball = linear(4, b=12), Budget("linf", (0.06,))
    sound, _ = attacked("auto", case, ball)
    assert not caplog.text
    masked = Case(Steps(case.model), case.x, Steps(case.model)(case.x).argmax(1), 4)
    climbed, _ = attacked("apgd_t", masked, ball)
    with caplog.at_level(logging.WARNING):
        found, cost = attacked("auto", masked, ball)
    assert "gradients look masked on" in caplog.text and "random search" in caplog.text
    assert int(climbed.sum()) >= 6 and int(found.sum()) <= int(sound.sum()) + 1
    assert float(cost.max()) <= 1800


@pytest.mark.process
def test_what_is_found_for_an_image_does_not_depend_on_its_neighbours(trained: Case) -> None:
    entry, ball = get_attack("auto"), Budget("linf", (0.03,))
    found = []
    for broken in (0, 20):
        y = trained.y.clone()
        y[:broken] = (y[:broken] + 1) % 5  # wrong from the start, and so left alone
        oracle = Oracle(trained.model, trained.x, 5, QueryRules())
        with frozen(trained.model):
            x_adv = entry.run(oracle, trained.x, y, ball, parse_params(entry, {}), 0)
        found.append((x_adv[20:], oracle.passes.forwards[20:]))
    assert torch.equal(found[0][1], found[1][1])
    assert torch.allclose(found[0][0], found[1][0], atol=1e-6)


class Rippled(nn.Module):
    """Adds a ripple to the pixels: a gradient that is exact, and useless."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.model(x + 0.002 * (5000 * x).sin()))


def test_the_kind_of_step_that_pays_gets_the_budget(linear: Callable[..., Any]) -> None:
    case, ball = linear(4, b=12), Budget("linf", (0.06,))
    sound, _ = attacked("auto", case, ball)
    y = Rippled(case.model)(case.x).argmax(1)
    rippled = Case(Rippled(case.model), case.x, y, 4)
    climbed, _ = attacked("pgd", rippled, ball)
    found, _ = attacked("auto", rippled, ball)
    assert int(climbed.sum()) >= int(sound.sum()) + 3
    assert int(found.sum()) <= int(sound.sum()) + 1


def test_targets_are_ranked_by_distance_not_by_logit(linear: Callable[..., Any]) -> None:
    case = linear(6, b=5)
    with torch.no_grad():
        case.model[1].weight[2] *= 8  # far off by its logit, and near by its slope
    y = case.model(case.x).argmax(1)
    images = whole_batch(case.x, y)
    weight = case.model[1].weight.detach()
    for norm, order in (("linf", 1), ("l2", 2)):
        oracle = Oracle(case.model, case.x, 6, QueryRules())
        found = nearest_targets(oracle, images, case.x, ball_of(Budget(norm, (0.1,))), 3)
        z = case.model(case.x).detach()
        slopes = torch.linalg.vector_norm(weight[None] - weight[y][:, None], order, dim=2)
        gaps = (z.gather(1, y[:, None]) - z) / slopes.clamp(min=1e-9)
        expected = gaps.scatter(1, y[:, None], torch.inf).argsort(1)[:, :3]
        assert torch.equal(found, expected)
        by_logit = z.scatter(1, y[:, None], -torch.inf).argsort(1, descending=True)[:, :3]
        assert not torch.equal(found, by_logit)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_diversified_starts_differ_in_what_the_model_says(
    norm: str, linear: Callable[..., Any]
) -> None:
    case, budget = linear(6, b=8), Budget(norm, (0.05 if norm == "linf" else 0.4,))
    oracle, ball = Oracle(case.model, case.x, 6, QueryRules()), ball_of(budget)
    images = whole_batch(case.x, case.y)
    one, two = (
        diversified_starts(oracle, images, ball, torch.Generator().manual_seed(seed))
        for seed in (0, 1)
    )
    assert set(judge(case.x, one, budget, "bounded")) == {"ok"}
    moved, noise = (
        (case.model(a) - case.model(b)).detach().abs().amax(1).mean()
        for a, b in ((one, two), (case.x, case.x + ball.eps[0] * torch.randn_like(case.x) / 8))
    )
    assert float(moved) > 2 * float(noise)
    some = images.pick(torch.tensor([5, 2]))
    alone = diversified_starts(oracle, some, ball, torch.Generator().manual_seed(0))
    assert torch.allclose(alone, one[[5, 2]], atol=1e-6)
