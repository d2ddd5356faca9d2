"""RNA: where a path comes from, what it does, and that it can be held, copied and repeated."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.core.norm_spec import NormSpec
from bench.norms import Paths, RandomNormAggregation, find_paths, norm_factory, pinned, set_stats

CHANNELS, LAYERS = 4, 6
BN_IN = [{"name": "bn"}, {"name": "in"}]


def network(pool: list[Any] = BN_IN, **options: Any) -> nn.Sequential:
    """A chain of RNA layers in eval mode, each branch with affine parameters of its own."""
    make = norm_factory(NormSpec.model_validate({"name": "rna", "pool": pool, **options}))
    net = nn.Sequential(*[make(CHANNELS) for _ in range(LAYERS)])
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(1 + 0.3 * torch.randn(parameter.shape, generator=generator))
    net.train()
    for branch in range(len(pool)):
        with pinned(net, torch.full((LAYERS,), branch)):
            net(images(seed=branch))
    return net.eval()


def images(n: int = 6, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, CHANNELS, 3, 3, generator=generator) * 2 + 1


def drawn(net: nn.Module) -> list[Tensor]:
    """Records the branch that each layer takes in one pass, from outside the module."""
    paths = find_paths(net)
    assert paths is not None
    chosen: list[Tensor] = []
    original = paths.choose

    def spy(layer: int, batch: int) -> Tensor:
        choice = original(layer, batch)
        chosen.append(choice)
        return choice

    paths.choose = spy  # type: ignore[method-assign]
    try:
        net(images())
    finally:
        del paths.choose
    return chosen


def branches_of(net: nn.Module) -> list[nn.ModuleList]:
    return [m.branches for m in net.modules() if isinstance(m, RandomNormAggregation)]


def test_a_path_runs_through_the_branches_it_names() -> None:
    net = network([{"name": "bn"}, {"name": "in"}, {"name": "gn", "groups": 2}])
    path = torch.tensor([0, 1, 2, 2, 1, 0])
    expected = images()
    for branches, index in zip(branches_of(net), path.tolist(), strict=True):
        expected = branches[index](expected)
    with pinned(net, path):
        assert torch.equal(net(images()), expected)


def test_each_branch_learns_its_own_affine_parameters() -> None:
    net = network()
    with pinned(net, torch.tensor([0, 1, 0, 1, 0, 1])):
        net(images()).square().sum().backward()
    for layer, branches in enumerate(branches_of(net)):
        used, unused = branches[layer % 2], branches[1 - layer % 2]
        assert used.weight is not unused.weight
        assert used.weight.grad is not None and used.weight.grad.abs().sum() > 0
        assert used.bias.grad is not None and unused.weight.grad is unused.bias.grad is None


@pytest.mark.parametrize("scope", ["layer", "network"])
@pytest.mark.parametrize("per", ["batch", "sample"])
def test_a_seed_repeats_the_outputs(scope: str, per: str) -> None:
    net = network(scope=scope, per=per)
    paths = find_paths(net)
    assert paths is not None
    runs = []
    for _ in range(2):
        paths.seed(11)
        runs.append([net(images()) for _ in range(8)])
    for first, second in zip(*runs, strict=True):
        assert torch.equal(first, second)
    assert any(not torch.equal(runs[0][0], other) for other in runs[0][1:]), "never drew afresh"


@pytest.mark.parametrize("scope", ["layer", "network"])
@pytest.mark.parametrize("per", ["batch", "sample"])
def test_the_draw_has_its_scope_and_shape_and_is_fair(scope: str, per: str) -> None:
    net = network(scope=scope, per=per)
    seen = torch.stack([torch.stack(drawn(net)).float() for _ in range(200)])
    assert seen.shape == ((200, LAYERS, 6) if per == "sample" else (200, LAYERS))
    assert seen.mean(0).sub(0.5).abs().max() < 0.18  # 5 standard errors of 200 fair coins
    layers_agree = bool((seen == seen[:, :1]).all())
    assert layers_agree == (scope == "network")
    if per == "sample":
        assert bool((seen != seen[:, :, :1]).any())


def test_the_global_generator_neither_steers_nor_feels_the_draw() -> None:
    first, second = network(), network()
    before = torch.get_rng_state()
    y = first(images())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(999)
    assert torch.equal(second(images()), y)
    torch.set_rng_state(before)


def through_pickle(net: nn.Module) -> nn.Module:
    loaded: nn.Module = pickle.loads(pickle.dumps(net))
    return loaded


def through_torch_save(net: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(net, buffer)
    buffer.seek(0)
    loaded: nn.Module = torch.load(buffer, weights_only=False)
    return loaded


@pytest.mark.parametrize("duplicate", [copy.deepcopy, through_pickle, through_torch_save])
@pytest.mark.parametrize("scope", ["layer", "network"])
def test_copies_keep_the_state_of_the_generator(duplicate: Any, scope: str) -> None:
    net = network(scope=scope, per="sample")
    find_paths(net).seed(4)  # type: ignore[union-attr]
    net(images())
    twin = duplicate(net)
    ours, theirs = [net(images()) for _ in range(6)], [twin(images()) for _ in range(6)]
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)
    assert find_paths(twin) is not find_paths(net)
    assert {id(layer.paths) for layer in twin} == {id(find_paths(twin))}


def test_a_pinned_path_per_sample_equals_each_sample_alone() -> None:
    net = network([{"name": "bn"}, {"name": "in"}, {"name": "ln"}])
    paths = find_paths(net)
    assert paths is not None
    path = paths.sample(6, torch.Generator().manual_seed(8))
    assert path.shape == (LAYERS, 6) and len(set(path.flatten().tolist())) == 3
    x = images().requires_grad_()
    with pinned(net, path):
        together = net(x)
    (grad,) = torch.autograd.grad(together.square().sum(), x)
    for i in range(6):
        alone = images()[i : i + 1].requires_grad_()
        with pinned(net, path[:, i]):
            y = net(alone)
        torch.testing.assert_close(together[i : i + 1], y, rtol=1e-5, atol=1e-5)
        (g,) = torch.autograd.grad(y.square().sum(), alone)
        torch.testing.assert_close(grad[i : i + 1], g, rtol=1e-4, atol=1e-4)


def test_gradients_under_a_path_per_sample() -> None:
    net = network().double()
    path = torch.tensor([[0, 1, 1], [1, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0], [1, 1, 1]])
    with pinned(net, path):
        x = images(3).double()[:, :, :2, :2].requires_grad_()
        assert torch.autograd.gradcheck(net, (x,))


@pytest.mark.parametrize("per", ["batch", "sample"])
def test_network_scope_survives_an_interrupted_pass(per: str) -> None:
    net = network(scope="network", per=per)

    def fail(*_: object) -> None:
        raise RuntimeError("interrupted")

    for stop in [*range(LAYERS), 0, 3, LAYERS - 1] * 3:
        handle = net[stop].register_forward_hook(fail)
        with pytest.raises(RuntimeError, match="interrupted"):
            net(images())
        handle.remove()
        choice = torch.stack(drawn(net))
        assert bool((choice == choice[0]).all())


@pytest.mark.parametrize("batch", [1, 6, 2])
def test_network_scope_follows_a_changing_batch_size(batch: int) -> None:
    net = network(scope="network", per="sample")
    net(images(4))
    assert net(images(batch)).shape[0] == batch


def test_pinning_nests_ends_and_survives_errors() -> None:
    net = network()
    paths = find_paths(net)
    assert paths is not None
    zeros, ones = torch.zeros(LAYERS, dtype=torch.int64), torch.ones(LAYERS, dtype=torch.int64)
    with pytest.raises(RuntimeError, match="stop"), pinned(net, zeros):
        with pinned(net, ones):
            assert torch.equal(torch.stack(drawn(net)), ones)
        assert torch.equal(torch.stack(drawn(net)), zeros)
        raise RuntimeError("stop")
    assert paths.pinned is None


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (torch.zeros(LAYERS - 1, dtype=torch.int64), "over 6 layers"),
        (torch.zeros(LAYERS), "int64"),
        (torch.zeros(LAYERS, 2, 2, dtype=torch.int64), "shape"),
        (torch.full((LAYERS,), 2), "branch beyond"),
        (torch.full((LAYERS, 3), -1), "branch beyond"),
    ],
)
def test_a_path_that_does_not_fit_is_refused(path: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message), pinned(network(), path):
        pass


@pytest.mark.filterwarnings("error")
def test_a_path_for_another_batch_size_is_refused() -> None:
    net = network()
    with pinned(net, torch.zeros(LAYERS, 4, dtype=torch.int64)):
        net(images(4))
        with pytest.raises(ValueError, match="path for 4 samples met a batch of 6"):
            net(images(6))
    with pinned(net, torch.zeros(LAYERS, dtype=torch.int64)):
        net(images(6))


def test_a_model_without_rna_has_no_path() -> None:
    net = nn.Sequential(nn.BatchNorm2d(4))
    assert find_paths(net) is None
    with pytest.raises(ValueError, match="no RNA layers"), pinned(net, torch.zeros(1)):
        pass


def test_sampled_paths_do_not_disturb_a_foreign_generator() -> None:
    paths = Paths("layer", "batch", seed=1)
    for _ in range(LAYERS):
        paths.join(3)
    own = paths.sample(), paths.sample(5)
    assert own[0].shape == (LAYERS,) and own[1].shape == (LAYERS, 5)
    paths.seed(1)
    paths.sample(7, torch.Generator().manual_seed(2))
    assert torch.equal(paths.sample(), own[0]), "drawing elsewhere moved the model's own stream"


@pytest.mark.parametrize("per", ["batch", "sample"])
def test_layouts_and_precisions_agree(per: str) -> None:
    net = network(per=per)
    paths = find_paths(net)
    assert paths is not None
    path = paths.sample(6 if per == "sample" else None, torch.Generator().manual_seed(1))
    x = images()
    with pinned(net, path):
        y = net(x)
        nhwc = net(x.contiguous(memory_format=torch.channels_last))
        with torch.autocast("cpu", torch.bfloat16):
            half = net(x.bfloat16())
    torch.testing.assert_close(nhwc, y, rtol=1e-5, atol=1e-5)
    assert (half.float() - y).abs().max() < 0.05 * (1 + y.abs().max())


def test_the_statistics_of_the_pool_can_be_switched() -> None:
    net = network([{"name": "bn"}, {"name": "rn", "stats": "population"}, {"name": "in"}])
    assert set_stats(net, "batch") == 2 * LAYERS
    with pinned(net, torch.zeros(LAYERS, dtype=torch.int64)):
        whole, part = net(images()), net(images()[:2])
    assert not torch.allclose(whole[:2], part)


def test_training_with_a_path_per_sample_takes_statistics_of_each_branchs_own_samples() -> None:
    net = network()
    net.train()
    layer = net[0]
    before = layer.branches[0].running_mean.clone()
    x = images()
    path = torch.zeros(LAYERS, 6, dtype=torch.int64)
    path[0] = torch.tensor([0, 1, 1, 0, 1, 1])
    with pinned(net, path):
        net(x)
    expected = 0.9 * before + 0.1 * x[[0, 3]].mean((0, 2, 3))
    torch.testing.assert_close(layer.branches[0].running_mean, expected)
