"""Stratified draws and the mean field: unbiased, sharper, cheaper, never the model."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.attacks import get_attack, parse_params
from bench.attacks.base import Budget
from bench.attacks.common import confirmed
from bench.attacks.search.lanes import appraise, decides, whole_batch
from bench.core.errors import UserError
from bench.core.norm_spec import NormSpec
from bench.norms import Paths, RandomNormAggregation, find_paths, mean_field, norm_factory, pinned
from bench.oracle import LOSSES, Evaluation, Oracle, QueryRules, cross_entropy

LAYERS, CLASSES = 3, 4


def network(stats: str = "population", layers: int = LAYERS) -> nn.Sequential:
    """A small RNA network whose branches differ, in eval mode."""
    pool = [{"name": "bn", "stats": stats}, {"name": "in"}]
    make = norm_factory(NormSpec.model_validate({"name": "rna", "pool": pool}))
    parts: list[nn.Module] = []
    for i in range(layers):
        parts += [nn.Conv2d(3 if i else 1, 3, 3, padding=1), make(3), nn.ReLU()]
    net = nn.Sequential(*parts, nn.Flatten(), nn.Linear(48, CLASSES))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d | nn.InstanceNorm2d) and module.affine:
                module.weight.copy_(0.5 + torch.rand(3, generator=generator))
                module.bias.copy_(0.3 * torch.randn(3, generator=generator))
            elif isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.copy_(0.4 * torch.randn(module.weight.shape, generator=generator))
                module.bias.zero_()
    return net.eval()


def images(n: int = 3) -> tuple[Tensor, Tensor]:
    x = torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    return x, torch.arange(n) % CLASSES


def oracle_for(model: nn.Module, x: Tensor, classes: int = CLASSES, **rules: Any) -> Oracle:
    return Oracle(model, x, classes, QueryRules(stochastic=True, **rules))


def gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(cross_entropy(model(x), y, None).sum(), x)
    return grad


def estimates(eot: Any, k: int, n: int) -> tuple[Tensor, Tensor]:
    """Returns n independent estimates of one image's gradient, and its mean over all paths."""
    model, (x, y) = network(), images(1)
    rows = torch.zeros(n, dtype=torch.int64)
    oracle = oracle_for(model, x, eot=eot, eot_iter=k)
    grad = oracle.query(x[rows], y[rows], cross_entropy, rows=rows).grad
    assert grad is not None
    paths = list(itertools.product((0, 1), repeat=LAYERS))
    exact = torch.zeros_like(x)
    for path in paths:
        with pinned(model, torch.tensor(path)):
            exact += gradient(model, x, y) / len(paths)
    return grad.double(), exact.double()


@pytest.mark.process
@pytest.mark.parametrize("k", [2, 3, 4])
def test_stratified_gradients_are_unbiased(k: int) -> None:
    grad, exact = estimates("stratified", k, 4000)
    error = (grad.mean(0) - exact[0]) / (grad.std(0) / 4000**0.5)
    assert grad.std(0).min() > 0 and error.abs().max() < 5


@pytest.mark.process
@pytest.mark.parametrize("k", [2, 4])
def test_stratified_gradients_vary_less_at_equal_passes(k: int) -> None:
    """Measured on 4000 estimates each; the ratio itself is below 0.6."""
    plain, _ = estimates("plain", k, 4000)
    stratified, _ = estimates("stratified", k, 4000)
    assert stratified.var(0).sum() < 0.75 * plain.var(0).sum()


def answers(oracle: Oracle, x: Tensor, y: Tensor) -> list[Tensor]:
    found = oracle.query(x, y, LOSSES["margin"])
    assert found.grad is not None
    logits, jacobian = oracle.jacobian(x)
    return [found.loss, found.grad, found.correct, found.logits, logits, jacobian]


def test_cutting_a_stratified_query_changes_nothing() -> None:
    x, y = images(5)
    whole = oracle_for(network(), x, eot="stratified", eot_iter=3)
    cut = oracle_for(network(), x, eot="stratified", eot_iter=3, max_pass=4)
    for _ in range(2):
        for a, b in zip(answers(whole, x, y), answers(cut, x, y), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert torch.equal(whole.passes.forwards, cut.passes.forwards)


def paths_of_passes(model: nn.Module) -> list[Tensor]:
    """Returns a list to which every pass of the model adds its path."""
    seen: list[Tensor] = []
    paths = find_paths(model)
    assert paths is not None

    def note(*_: object) -> None:
        assert paths.pinned is not None
        seen.append(paths.pinned)

    model.register_forward_pre_hook(note)
    return seen


def balanced(paths: list[Tensor]) -> bool:
    return bool((torch.stack(paths).sum(0) * 2 == len(paths)).all())


def test_batches_that_share_statistics_have_their_passes_balanced() -> None:
    model, (x, y) = network("batch"), images(3)
    rules = {"batch_dependent": True, "eot": "stratified", "eot_iter": 4}
    seen = paths_of_passes(model)
    oracle = oracle_for(model, x, **rules)
    two = torch.arange(3).repeat(2)
    oracle.query(x[two], y[two], cross_entropy, rows=two)
    assert len(seen) == 8 and {path.shape for path in seen} == {(LAYERS,)}
    assert balanced(seen[::2]) and balanced(seen[1::2])  # each batch of candidates by itself
    seen.clear()
    oracle.logits(x)
    assert len(seen) == 4 and balanced(seen)
    seen.clear()
    alone = oracle_for(model, x, adversary="single", **rules)
    alone.query(x[:2], y[:2], cross_entropy, rows=torch.arange(2))
    assert len(seen) == 8
    assert balanced(seen[::2]) and balanced(seen[1::2])  # each candidate by itself


def test_every_image_of_a_library_attack_is_balanced() -> None:
    model, (x, _) = network(), images(3)
    seen = paths_of_passes(model)
    oracle_for(model, x, eot="stratified", eot_iter=4).logits(x)
    assert balanced(list(torch.cat(seen, 1).view(LAYERS, 4, 3).unbind(1)))


def test_the_mean_field_answers_for_one_pass() -> None:
    model, (x, y) = network(), images(3)
    oracle = oracle_for(model, x, eot="mean_field")
    with mean_field(model):
        expected = model(x)
        grad = gradient(model, x, y)
    found = oracle.query(x, y, cross_entropy)
    assert found.grad is not None
    torch.testing.assert_close(found.logits, expected)
    torch.testing.assert_close(found.loss, cross_entropy(expected, y, None))
    torch.testing.assert_close(found.grad, grad)
    assert torch.equal(found.correct, (expected.argmax(1) == y).float())
    assert oracle.passes.forwards.tolist() == oracle.passes.backwards.tolist() == [1] * 3
    torch.testing.assert_close(oracle.module()(x), expected)
    logits, jacobian = oracle.jacobian(x)
    torch.testing.assert_close(logits, expected)
    assert jacobian.shape == (3, CLASSES, 1, 4, 4)
    assert oracle.n_draws == 1 and oracle.mean_field and not decides(oracle)
    assert oracle.passes.forwards.tolist() == [3] * 3


def test_a_path_that_is_held_stays() -> None:
    model, (x, y) = network(), images(3)
    path = torch.tensor([1, 0, 1])
    with pinned(model, path):
        expected = model(x)
        for eot in ("stratified", "mean_field"):
            oracle = oracle_for(model, x, eot=eot)
            torch.testing.assert_close(oracle.query(x, y, cross_entropy).logits, expected)


class Shift(nn.Module):
    """A branch that adds a constant to what it normalizes."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        return x + self.by


class Square(nn.Module):
    """Logits of which class 0 is the square of the brightness, class 1 a constant."""

    def __init__(self, level: float) -> None:
        super().__init__()
        self.level = level

    def forward(self, x: Tensor) -> Tensor:
        z = x.mean((1, 2, 3)) ** 2
        return torch.stack([z, torch.full_like(z, self.level)], 1)


def trap(level: float = 0.25) -> nn.Sequential:
    """Images near 0 are right on either branch, where z is +-1, and wrong on their mean, 0."""
    layer = RandomNormAggregation([Shift(-1.0), Shift(1.0)], Paths("layer", "sample"))
    return nn.Sequential(layer, Square(level)).eval()


def test_what_only_the_mean_field_gets_wrong_is_not_broken() -> None:
    x, y = 0.05 * torch.rand(4, 1, 2, 2), torch.zeros(4, dtype=torch.int64)
    oracle = oracle_for(trap(), x, 2, eot="mean_field")
    assert oracle.query(x, y, cross_entropy).correct.tolist() == [0] * 4
    found = appraise(oracle, whole_batch(x, y), x)
    assert found.correct.tolist() == [1] * 4
    assert oracle.passes.forwards.tolist() == [21] * 4
    wrong = torch.ones(4, dtype=torch.bool)
    assert not confirmed(oracle, x, y, torch.arange(4), wrong).any()
    with oracle.real_draws():
        assert oracle.query(x, y, cross_entropy).correct.tolist() == [1] * 4
        assert not oracle.mean_field
    assert oracle.mean_field


def attacked(name: str, oracle: Oracle, x: Tensor, y: Tensor, **params: Any) -> Tensor:
    attack = get_attack(name)
    budget = Budget("linf", (0.02,))
    return attack.run(oracle, x, y, budget, parse_params(attack, params), 0)


def test_square_leaves_alone_what_is_wrong_on_the_models_own_draws() -> None:
    x, y = 0.05 * torch.rand(4, 1, 4, 4), torch.zeros(4, dtype=torch.int64)
    fooled = oracle_for(trap(), x, 2, eot="mean_field")
    attacked("square", fooled, x, y, n_queries=30)
    assert fooled.passes.forwards.min() >= 30
    broken = oracle_for(trap(level=9.0), x, 2, eot="mean_field")
    attacked("square", broken, x, y, n_queries=30)
    assert broken.passes.forwards.tolist() == [2 + 20] * 4


def test_attacks_pick_on_the_models_own_draws() -> None:
    model, (x, y) = network(), images(3)
    plain, surrogate = oracle_for(model, x), oracle_for(model, x, eot="mean_field")
    trials = {"n_trials": 6}
    expected = attacked("noise", plain, x, y, **trials)
    assert torch.equal(attacked("noise", surrogate, x, y, **trials), expected)
    one = oracle_for(model, x, eot="mean_field")
    attacked("pgd", one, x, y, n_iter=3)
    assert one.passes.forwards.tolist() == [4] * 3
    runs = oracle_for(model, x, eot="mean_field")
    attacked("pgd", runs, x, y, n_iter=3, n_restarts=2)
    assert runs.passes.forwards.tolist() == [2 * (4 + 20)] * 3
    x, y = 0.05 * torch.rand(4, 1, 2, 2), torch.zeros(4, dtype=torch.int64)
    cw = oracle_for(trap(), x, 2, eot="mean_field")
    attacked("cw", cw, x, y, n_iter=3, binary_search_steps=1)
    assert cw.passes.backwards.min() > 0, "took the surrogate's word for a clean image"


@pytest.mark.process
@pytest.mark.parametrize("eot", ["stratified", "mean_field"])
@pytest.mark.parametrize("stats", ["population", "batch"])
@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("autoattack", {"n_iter": 3, "n_queries": 22, "n_target_classes": 2}),
        ("deepfool", {"n_iter": 2}),
        ("cw", {"n_iter": 2, "binary_search_steps": 2}),
        ("cw_linf", {"n_iter": 3, "n_restarts": 2}),
    ],
)
def test_native_attacks_stay_in_the_box_and_repeat_themselves(
    name: str, params: dict[str, Any], stats: str, eot: str
) -> None:
    model, (x, y) = network(stats, layers=2), images(3)
    rules = {"eot": eot, "eot_iter": 2, "batch_dependent": stats == "batch"}
    found = [attacked(name, oracle_for(model, x, **rules), x, y, **params) for _ in range(2)]
    assert torch.equal(found[0], found[1])
    assert found[0].min() >= 0 and found[0].max() <= 1
    if name == "autoattack":
        assert (found[0] - x).abs().max() <= 0.02 + 1e-6


def test_only_models_with_paths_can_be_asked_for_more_than_plain_draws() -> None:
    x = torch.rand(2, 1, 1, 2)
    for eot in ("stratified", "mean_field"):
        with pytest.raises(UserError, match=f"eot {eot} is for models with layers that draw"):
            Oracle(nn.Flatten(), x, 2, QueryRules(stochastic=True, eot=eot))
        answer = Oracle(nn.Flatten(), x, 2, QueryRules(eot=eot)).query(
            x, torch.tensor([0, 1]), cross_entropy
        )
        assert isinstance(answer, Evaluation)


@pytest.mark.parametrize("eot", ["plain", "stratified"])
def test_how_a_query_is_cut_into_passes_does_not_change_its_draws(
    eot: Any,
) -> None:
    x, y = images(6)
    found = []
    for size in (100, 4, 1):
        oracle = oracle_for(network(), x, eot_iter=3, eot=eot, seed=7)
        oracle._runner._cutter.fits = size
        found.append(oracle.query(x, y, cross_entropy).loss)
    torch.testing.assert_close(found[1], found[0])
    torch.testing.assert_close(found[2], found[0])
