"""Native bounded attacks: closed forms, the libraries, draws, coupled batches, single images."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
import torchattacks
from attack_cases import NATIVE, SEARCHES
from pydantic import ValidationError
from torch import Tensor, nn

from bench.attacks import Attack, Budget, get_attack, parse_params
from bench.attacks.ball import ball_of
from bench.core.ball import norm_facts
from bench.core.errors import UserError
from bench.core.norm_spec import NormSpec
from bench.norms import norm_factory
from bench.norms.batch import BatchNorm
from bench.oracle import Memo, Oracle, QueryRules, cross_entropy

PLAIN = QueryRules()
BOUNDED = [name for name in NATIVE if get_attack(name).kind == "bounded" and name not in SEARCHES]
TABLE = [(name, norm) for name in BOUNDED for norm in get_attack(name).norms]
CLIMBERS = [row for row in TABLE if get_attack(row[0]).traits.steps != "none"]


def attack(
    name: str, case: Any, budget: Budget, seed: int = 3, rules: QueryRules = PLAIN, **values: object
) -> Tensor:
    entry = get_attack(name)
    oracle = Oracle(case.model, case.x, case.n_classes, rules)
    return entry.run(oracle, case.x, case.y, budget, parse_params(entry, values), seed)


def losses(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return nn.functional.cross_entropy(model(x), y, reduction="none")


def budget_of(norm: str) -> Budget:
    return Budget(norm, (0.03 if norm_facts(norm).per_pixel else 0.3,))


@pytest.mark.parametrize(("name", "norm"), TABLE)
def test_x_adv_stays_in_ball_and_box_and_repeats(
    name: str, norm: str, conv: Callable[..., Any]
) -> None:
    case, budget = conv(), budget_of(norm)
    case.x[:, :, :4] = (case.x[:, :, :4] > 0.45).float()  # pixels at both ends of the box
    state, x, y = torch.get_rng_state(), case.x.clone(), case.y.clone()
    x_adv = attack(name, case, budget)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(case.x, x) and torch.equal(case.y, y)
    assert torch.equal(attack(name, case, budget), x_adv)
    assert float(x_adv.min()) >= 0 and float(x_adv.max()) <= 1
    reach = torch.linalg.vector_norm((x_adv - x).flatten(1), norm_facts(norm).order, dim=1)
    assert float(reach.max()) <= budget.eps[0] + 1e-6 and float(reach.min()) > 0.1 * budget.eps[0]


@pytest.mark.parametrize("name", ["pgd", "noise", "cw_linf"])
def test_another_seed_gives_another_x_adv(name: str, conv: Callable[..., Any]) -> None:
    case, budget = conv(), budget_of("linf")
    assert not torch.equal(attack(name, case, budget, 1), attack(name, case, budget, 2))


@pytest.mark.parametrize(("name", "norm"), CLIMBERS)
def test_gradient_attacks_reach_the_best_loss_of_a_linear_model_of_two_classes(
    name: str, norm: str, linear: Callable[..., Any]
) -> None:
    case, eps = linear(2, channels=3), {"linf": 0.05, "l2": 0.4}.get(norm, 0.15)
    weight, logits = case.model[1].weight, case.model(case.x)
    slope = torch.stack([weight[1 - y] - weight[y] for y in case.y])
    gap = torch.stack([z[1 - y] - z[y] for z, y in zip(logits, case.y, strict=True)])
    steepness = torch.linalg.vector_norm(slope, norm_facts(norm).dual_order, dim=1)
    best = nn.functional.softplus(gap + eps * steepness).detach()
    least = best
    if norm == "l1":  # a step goes to the largest percent of the pixels, not to the largest one
        percent = slope.abs().topk(math.ceil(0.01 * slope.shape[1]), dim=1).values.mean(1)
        least = nn.functional.softplus(gap + eps * percent).detach()
    # A random start in l2 turns towards the optimum, by a share of the angle with each step.
    values: dict[str, object] = {"n_iter": 40, "alpha": eps / 4} if name == "pgd" else {}
    found = losses(case.model, attack(name, case, Budget(norm, (eps,)), **values), case.y)
    assert bool((found >= 0.99 * least).all()) and bool((found <= 1.001 * best + 1e-4).all())


@pytest.mark.parametrize("n_classes", [3, 10])
def test_iterations_find_the_best_margin_of_a_linear_model(
    n_classes: int, linear: Callable[..., Any]
) -> None:
    case, eps = linear(n_classes), 0.05
    weight, logits = case.model[1].weight.detach(), case.model(case.x).detach()
    gaps = logits - logits.gather(1, case.y[:, None])
    gains = eps * (weight[None] - weight[case.y][:, None]).abs().sum(2)
    best = (gaps + gains).masked_fill(gains == 0, -torch.inf).amax(1)
    x_adv = attack("cw_linf", case, Budget("linf", (eps,)), n_restarts=4)
    after = case.model(x_adv)
    others = after.scatter(1, case.y[:, None], -torch.inf).amax(1)
    found = others - after.gather(1, case.y[:, None])[:, 0]
    assert bool((found <= best + 1e-3).all())
    assert bool((found > 0).eq(best > 0).all())
    assert float((found - best).detach().abs().median()) < 0.05 * float(gains.max())


@pytest.mark.parametrize("n_classes", [2, 3, 10])
@pytest.mark.parametrize("loss", ["ce", "dlr", "margin"])
def test_pgd_climbs_each_loss_for_any_number_of_classes(
    loss: str, n_classes: int, linear: Callable[..., Any]
) -> None:
    case = linear(n_classes)
    x_adv = attack("pgd", case, Budget("linf", (0.2,)), loss=loss)
    # Two classes' ratio of logits is constant, so its gradient is 0 up to the added 1e-12.
    if (loss, n_classes) != ("dlr", 2):
        assert not (case.model(x_adv).argmax(1) == case.y).any()


@pytest.mark.parametrize("name", BOUNDED)
def test_a_radius_per_channel_scales_the_steps(name: str, conv: Callable[..., Any]) -> None:
    case, eps = conv(), (0.02, 0.04, 0.01)
    x_adv = attack(name, case, Budget("linf", eps), **({} if name != "bim" else {"n_iter": 1}))
    reach = (x_adv - case.x).abs().amax((0, 2, 3))
    share = 2.5 if name == "bim" else 1  # one step of 2.5 eps, cut to the ball
    assert torch.allclose(reach, torch.tensor(eps) * min(share, 1), atol=1e-6)
    if name in ("bim", "mim"):
        x_adv = attack(name, case, Budget("linf", eps), n_iter=1, alpha=0.01)
        reach = (x_adv - case.x).abs().amax((0, 2, 3))
        assert torch.allclose(reach, torch.tensor((0.005, 0.01, 0.0025)), atol=1e-6)


LIBRARY: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("fgsm", {}, "FGSM", {}),
    ("bim", {}, "BIM", {"alpha": 0.03 / 4, "steps": 10}),
    ("bim", {"alpha": 0.01, "n_iter": 7}, "BIM", {"alpha": 0.01, "steps": 7}),
    (
        "pgd",
        {"random_start": False, "keep": "last", "n_iter": 10},
        "PGD",
        {"random_start": False, "alpha": 0.03 / 4, "steps": 10},
    ),
    ("mim", {"decay": 0.9}, "MIFGSM", {"decay": 0.9, "alpha": 0.03 / 4, "steps": 10}),
    ("mim", {"n_iter": 5}, "MIFGSM", {"alpha": 0.03 / 2, "steps": 5}),
]


@pytest.mark.parametrize(("name", "ours", "library", "theirs"), LIBRARY)
def test_x_adv_is_that_of_torchattacks(
    name: str, ours: dict[str, Any], library: str, theirs: dict[str, Any], conv: Callable[..., Any]
) -> None:
    case = conv()
    x_adv = attack(name, case, Budget("linf", (0.03,)), **ours)
    expected = getattr(torchattacks, library)(case.model, eps=0.03, **theirs)(case.x, case.y)
    assert float((x_adv - expected).abs().max()) < 1e-6


def test_pgd_l2_is_that_of_torchattacks(conv: Callable[..., Any]) -> None:
    case = conv()
    values = {"random_start": False, "keep": "last", "n_iter": 8, "alpha": 0.1}
    x_adv = attack("pgd", case, Budget("l2", (0.5,)), **values)
    library = torchattacks.PGDL2(case.model, eps=0.5, alpha=0.1, steps=8, random_start=False)
    assert float((x_adv - library(case.x, case.y)).abs().max()) < 1e-5


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["fgsm", "bim", "mim", "pgd"])
def test_an_image_is_attacked_alike_in_any_batch(
    name: str, norm: str, conv: Callable[..., Any]
) -> None:
    case, budget = conv(), budget_of(norm)
    values: dict[str, object] = {"random_start": False} if name == "pgd" else {}
    together = attack(name, case, budget, **values)
    for i in range(len(case.x)):
        alone = type(case)(case.model, case.x[i : i + 1], case.y[i : i + 1], case.n_classes)
        x_adv = attack(name, alone, budget, **values)
        assert torch.allclose(x_adv[0], together[i], atol=1e-5)


class Saturated(nn.Module):
    """Two classes by the sign of the mean pixel, with logits so far apart that gradients vanish."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        score = self.scale * (x.mean((1, 2, 3)) - 0.5)
        return torch.stack([score, -score], 1)


def test_a_gradient_of_zero_gives_no_nan_and_leaves_other_images_alone(
    conv: Callable[..., Any],
) -> None:
    x = torch.full((2, 1, 4, 4), 0.55)
    x[0] = 0.9
    case = type(conv())(Saturated(200.0), x, torch.zeros(2).long(), 2)
    for norm in ("linf", "l2"):
        x_adv = attack("mim", case, Budget(norm, (0.1 if norm == "linf" else 0.4,)), n_iter=5)
        assert torch.equal(x_adv[0], x[0])
        assert float(x_adv[1].mean()) < 0.46


@pytest.mark.parametrize("scale", [1e-20, 1e-38])
def test_the_direction_of_a_vanishing_gradient_keeps_length_one(scale: float) -> None:
    grad = torch.randn(3, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    ball = ball_of(Budget("l2", (1.0,)))
    found = ball.ascent_direction(grad * scale)
    assert torch.allclose(found.flatten(1).norm(dim=1), torch.ones(3), atol=1e-3)
    assert torch.equal(ball.ascent_direction(0 * grad), 0 * grad)


class Ridge(nn.Module):
    """Three classes along one pixel: class 0 is right, and its loss peaks where it still wins."""

    def forward(self, x: Tensor) -> Tensor:
        t = x[:, 0, 0, 0]
        flat = torch.zeros_like(t)
        # At t < 0.5 all classes are nearly level; beyond, class 1 wins and class 2 falls away.
        beyond = (t - 0.5).clamp(min=0)
        return torch.stack([flat + 0.01, flat - 0.1 + beyond * 8, flat - 80 * beyond], 1)


def test_the_best_iterate_is_a_wrong_one_even_if_a_right_one_has_the_higher_loss(
    conv: Callable[..., Any],
) -> None:
    model, y = Ridge(), torch.zeros(1).long()
    right, wrong = torch.full((1, 1, 1, 1), 0.5), torch.full((1, 1, 1, 1), 0.52)
    assert model(right).argmax(1) == 0 and model(wrong).argmax(1) == 1
    assert losses(model, right, y) > losses(model, wrong, y)
    case = type(conv())(model, right, y, 3)
    x_adv = attack("noise", case, Budget("linf", (0.02,)), n_trials=10)
    assert float(x_adv) == pytest.approx(0.52)


def test_restarts_and_the_best_iterate_never_lower_the_score(conv: Callable[..., Any]) -> None:
    case, budget = conv(), Budget("linf", (0.1,))
    best = attack("pgd", case, budget, alpha=0.09, n_iter=6)
    last = attack("pgd", case, budget, alpha=0.09, n_iter=6, keep="last")
    many = attack("pgd", case, budget, alpha=0.09, n_iter=6, n_restarts=3)
    wrong = [case.model(x_adv).argmax(1) != case.y for x_adv in (last, best, many)]
    loss = [losses(case.model, x_adv, case.y) for x_adv in (last, best, many)]
    for less, more in ((0, 1), (1, 2)):
        assert bool((wrong[more] | ~wrong[less]).all())
        same = wrong[more] == wrong[less]
        assert bool((loss[more] >= loss[less] - 1e-6)[same].all())
    assert float((loss[1] - loss[0]).max()) > 1e-4  # the last of large steps is not the best


def test_restarts_without_a_random_start_are_refused() -> None:
    with pytest.raises(ValidationError, match="needs random_start"):
        get_attack("pgd").params.model_validate({"n_restarts": 2, "random_start": False})


# name, parameters, forwards and backwards per image, and forwards with 5 draws of a random model,
# where the end of each of several runs is measured on at least 20 draws
COSTS: list[tuple[str, dict[str, Any], int, int, int]] = [
    ("fgsm", {}, 1, 1, 5),
    ("bim", {"n_iter": 4}, 4, 4, 20),
    ("mim", {"n_iter": 4}, 4, 4, 20),
    ("pgd", {"n_iter": 4, "keep": "last"}, 4, 4, 20),
    ("pgd", {"n_iter": 4}, 5, 4, 20),
    ("pgd", {"n_iter": 4, "n_restarts": 3, "keep": "last"}, 15, 12, 120),
    ("cw_linf", {"n_iter": 4, "n_restarts": 2}, 10, 8, 80),
    ("noise", {"n_trials": 6}, 6, 0, 30),
]


def random_case(make: Any, b: int = 12) -> Any:
    """A linear model behind one of two normalizations, drawn in each pass; right on clean images.

    The branches weigh the two halves of the pixels differently, so each path has a gradient of
    its own.
    """
    generator = torch.Generator().manual_seed(5)
    pool = [{"name": "bn"}, {"name": "gn", "groups": 2}]
    norm = norm_factory(NormSpec.model_validate({"name": "rna", "pool": pool}))(4)
    head = nn.Linear(4 * 16, 3)
    with torch.no_grad():
        head.weight.copy_(torch.randn(head.weight.shape, generator=generator))
        head.bias.zero_()  # its own start would hang on the global generator
        for branch, weight in zip(norm.branches, ([3, 0.1, 3, 0.1], [0.1, 3, 0.1, 3]), strict=True):
            branch.weight.copy_(torch.tensor(weight))
    model = nn.Sequential(norm, nn.Flatten(), head).eval()
    x = 0.2 + 0.6 * torch.rand(200, 4, 4, 4, generator=generator)
    paths = norm.paths
    answers = []
    for branch in (0, 1):
        paths.pinned = torch.tensor([branch])
        answers.append(model(x).argmax(1))
    paths.pinned = None
    agreed = (answers[0] == answers[1]).nonzero()[:b, 0]
    return make(model, x[agreed], answers[0][agreed], 3)


@pytest.mark.parametrize(("name", "values", "forwards", "backwards", "drawn_forwards"), COSTS)
def test_passes_are_exact_and_fold_the_draws(
    name: str,
    values: dict[str, Any],
    forwards: int,
    backwards: int,
    drawn_forwards: int,
    conv: Callable[..., Any],
) -> None:
    entry: Attack = get_attack(name)
    params = parse_params(entry, values)
    assert entry.passes is not None and entry.passes(params) == forwards + backwards
    case = conv()
    plain = Oracle(case.model, case.x, 10, QueryRules())
    entry.run(plain, case.x, case.y, budget_of("linf"), params, 0)
    assert plain.passes.forwards.tolist() == [forwards] * len(case.x)
    assert plain.passes.backwards.tolist() == [backwards] * len(case.x)
    case = random_case(type(case))
    drawn = Oracle(case.model, case.x, 3, QueryRules(stochastic=True, eot_iter=5))
    entry.run(drawn, case.x, case.y, budget_of("linf"), params, 0)
    assert drawn.passes.forwards.tolist() == [drawn_forwards] * len(case.x)
    assert drawn.passes.backwards.tolist() == [5 * backwards] * len(case.x)


def expected_accuracy(case: Any, x_adv: Tensor) -> float:
    """The mean over both paths, exactly."""
    paths, right = case.model[0].paths, []
    for branch in (0, 1):
        paths.pinned = torch.tensor([branch])
        right.append((case.model(x_adv).argmax(1) == case.y).float().mean())
    paths.pinned = None
    return float(torch.stack(right).mean())


def test_more_draws_make_pgd_stronger_on_a_stochastic_model(conv: Callable[..., Any]) -> None:
    case, budget, found = random_case(type(conv()), b=60), Budget("linf", (0.03,)), {}
    for eot_iter in (1, 8):
        rules = QueryRules(stochastic=True, eot_iter=eot_iter)
        x_adv = attack("pgd", case, budget, rules=rules, n_iter=3)
        assert torch.equal(attack("pgd", case, budget, rules=rules, n_iter=3), x_adv)
        found[eot_iter] = expected_accuracy(case, x_adv)
    assert found[8] < found[1] - 0.02 < expected_accuracy(case, case.x) - 0.2


class NoisyLogits(nn.Module):
    """A linear model with noise on its logits that no step can outweigh."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 2, bias=False)
        with torch.no_grad():
            self.linear.weight.copy_(torch.linspace(-1, 1, 32).view(2, 16))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x.flatten(1))
        return logits + torch.randn(len(x), 2)


@pytest.mark.parametrize("n_restarts", [1, 3])
def test_pgd_climbs_a_noisy_loss_to_its_end(n_restarts: int, conv: Callable[..., Any]) -> None:
    """The highest of many noisy losses belongs to a lucky iterate on the way."""
    torch.manual_seed(3)
    model, eps = NoisyLogits().eval(), 0.1
    x, y = 0.2 + 0.6 * torch.rand(40, 1, 4, 4), torch.zeros(40).long()
    rules = QueryRules(stochastic=True, eot_iter=2)
    x_adv = attack(
        "pgd",
        type(conv())(model, x, y, 2),
        Budget("linf", (eps,)),
        rules=rules,
        n_iter=20,
        n_restarts=n_restarts,
    )
    slope = (model.linear.weight[1] - model.linear.weight[0]).detach()
    rise = (x_adv - x).flatten(1) @ slope
    assert rise == pytest.approx(eps * float(slope.abs().sum()), abs=1e-4)


@pytest.fixture
def coupled(conv: Callable[..., Any], watch: Any) -> Any:
    """A conv net whose images share batch statistics, and which watches what it is asked."""
    case = conv(b=6)
    norm = BatchNorm(8, stats="batch")
    norm.load_state_dict(case.model[1].state_dict())
    case.model[1] = norm.eval()
    model = watch(case.model)
    with torch.no_grad():
        y = model.model(case.x).argmax(1)
    return type(case)(model, case.x, y, 10)


@pytest.mark.parametrize("name", BOUNDED)
def test_images_that_share_statistics_are_attacked_as_whole_batches(
    name: str, coupled: Any
) -> None:
    rules = QueryRules(batch_dependent=True)
    x_adv = attack(name, coupled, Budget("linf", (0.1,)), rules=rules)
    batches = coupled.model.batches
    assert batches and all(batch.shape == coupled.x.shape for batch in batches)
    means = [batch.mean((1, 2, 3)) for batch in batches]
    assert all(bool((m - coupled.x.mean((1, 2, 3))).abs().max() < 0.1 + 1e-6) for m in means)
    before = losses(coupled.model, coupled.x, coupled.y).mean()
    assert float(losses(coupled.model, x_adv, coupled.y).mean()) > float(before)
    if name in ("noise", "pgd", "cw_linf"):  # they keep a batch that was evaluated as it is
        assert any(torch.equal(x_adv, batch) for batch in batches)


def test_one_image_in_a_clean_batch_is_attacked_among_clean_images(coupled: Any) -> None:
    rules = QueryRules(batch_dependent=True, adversary="single")
    x_adv = attack("pgd", coupled, Budget("linf", (0.1,)), rules=rules, n_iter=3)
    for batch in coupled.model.batches:
        changed = (batch != coupled.x).flatten(1).any(1)
        assert int(changed.sum()) <= 1
    oracle = Oracle(coupled.model, coupled.x, 10, rules)
    clean = oracle.query(coupled.x, coupled.y, cross_entropy, grad=False).loss
    assert bool((oracle.query(x_adv, coupled.y, cross_entropy, grad=False).loss > clean).all())


@pytest.mark.parametrize("batch_dependent", [False, True])
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("pgd", {"keep": "last"}),
        ("pgd", {"keep": "best"}),
        ("bim", {}),
        ("mim", {"decay": 0.9}),
    ],
)
def test_a_longer_ascent_goes_on_from_a_shorter_one(
    name: str, values: dict[str, object], batch_dependent: bool
) -> None:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4)).eval()
    x, y, budget = torch.rand(6, 1, 8, 8), torch.arange(6) % 4, Budget("linf", (0.1,))
    calls: list[int] = []
    net.register_forward_hook(lambda _, images, __: calls.append(len(*images)))
    entry = get_attack(name)

    def run(n_iter: int, memo: Memo | None, **other: object) -> tuple[Tensor, Oracle]:
        oracle = Oracle(net, x, 4, QueryRules(batch_dependent=batch_dependent), memo)
        params = parse_params(entry, {**values, "alpha": 0.01, "n_iter": n_iter, **other})
        return entry.run(oracle, x.clone(), y, budget, params, 5), oracle

    alone, without = run(12, None)
    memo = Memo()
    run(3, memo)
    before = sum(calls)
    together, shared = run(12, memo)
    assert torch.equal(alone, together)
    assert sum(calls) - before <= len(x) * (12 - 3 + 1)
    for kind in ("forwards", "backwards"):
        assert torch.equal(getattr(without.passes, kind), getattr(shared.passes, kind))
    assert torch.equal(run(3, memo)[0], run(3, None)[0]), "a shorter one begins anew"
    assert torch.equal(run(12, memo, alpha=0.02)[0], run(12, None, alpha=0.02)[0])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_stopping_early_changes_no_verdict_and_saves_passes(norm: str) -> None:
    torch.manual_seed(2)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4)).eval()
    x = torch.rand(60, 1, 8, 8)
    y = net(x).argmax(1)
    y[:3] = (y[:3] + 1) % 4
    budget = Budget(norm, (0.03 if norm == "linf" else 0.25,))
    entry, found, spent = get_attack("pgd"), [], []
    for early_stop in (False, True):
        oracle = Oracle(net, x, 4, QueryRules())
        params = parse_params(entry, {"n_iter": 10, "n_restarts": 2, "early_stop": early_stop})
        found.append(net(entry.run(oracle, x.clone(), y, budget, params, 5)).argmax(1) == y)
        spent.append(oracle.passes.backwards)
    assert 0 < found[0].sum() < 57, "some break, some do not"
    assert torch.equal(*found)
    assert bool((spent[1][found[1]] == 20).all()) and bool((spent[1][:3] == 1).all())
    with pytest.raises(UserError, match="keep best"):
        parse_params(entry, {"keep": "last", "early_stop": True})


def test_ascents_are_shared_only_where_they_would_be_the_same() -> None:
    """One adversary perturbs the whole batch, the other one image in a clean one."""
    torch.manual_seed(3)
    norm = nn.BatchNorm2d(1, affine=False, track_running_stats=False)
    net = nn.Sequential(norm, nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4))
    net = net.eval()
    x, y, budget = torch.rand(4, 1, 8, 8), torch.arange(4), Budget("linf", (0.2,))
    entry = get_attack("pgd")
    params = parse_params(entry, {"alpha": 0.05, "n_iter": 5, "keep": "last"})

    def run(adversary: Literal["joint", "single"], memo: Memo | None) -> Tensor:
        rules = QueryRules(batch_dependent=True, adversary=adversary)
        return entry.run(Oracle(net, x, 4, rules, memo), x.clone(), y, budget, params, 5)

    memo = Memo()
    for adversary in ("joint", "single"):
        assert torch.equal(run(adversary, memo), run(adversary, None))
    assert not torch.equal(run("joint", None), run("single", None)), "the case must tell them apart"
