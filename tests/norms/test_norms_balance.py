"""Stratified paths use branches equally often and stay fair; the mean field averages branches."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from bench.core.norm_spec import NormSpec
from bench.norms import Paths, RandomNormAggregation, find_paths, mean_field, norm_factory, pinned

CHANNELS = 3


def paths_of(sizes: list[int], scope: str = "layer") -> Paths:
    paths = Paths(scope, "sample")
    for size in sizes:
        paths.join(size)
    return paths


def network(pool: list[Any], layers: int = 3, **options: Any) -> nn.Sequential:
    """Alternates RNA layers and ReLUs, each branch with affine parameters of its own."""
    make = norm_factory(NormSpec.model_validate({"name": "rna", "pool": pool, **options}))
    net = nn.Sequential(*[m for _ in range(layers) for m in (make(CHANNELS), nn.ReLU())])
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(1 + 0.3 * torch.randn(parameter.shape, generator=generator))
    return net.eval()


def images(n: int = 5) -> Tensor:
    return torch.randn(n, CHANNELS, 3, 3, generator=torch.Generator().manual_seed(0)) + 0.5


@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    n=st.none() | st.integers(0, 6),
    k=st.integers(1, 11),
    scope=st.sampled_from(["layer", "network"]),
    seed=st.integers(0, 2**32),
)
def test_every_image_and_layer_sees_its_branches_equally_often(
    sizes: list[int], n: int | None, k: int, scope: str, seed: int
) -> None:
    path = paths_of(sizes, scope).sample_stratified(n, k, torch.Generator().manual_seed(seed))
    assert path.dtype == torch.int64
    assert path.shape == (len(sizes), k if n is None else k * n)
    by_draw = path.view(len(sizes), k, 1 if n is None else n)
    for layer, size in enumerate([min(sizes)] * len(sizes) if scope == "network" else sizes):
        for image in by_draw[layer].T.tolist():
            counts = [image.count(branch) for branch in range(size)]
            assert sum(counts) == k
            assert set(counts) <= {k // size, math.ceil(k / size)}
    if scope == "network":
        assert bool((path == path[0]).all())


@pytest.mark.parametrize("k", [2, 3])
def test_each_draw_alone_is_as_fair_as_an_independent_one(k: int) -> None:
    """Of every draw, all paths are equally likely, also those of three branches or an odd k."""
    n = 12_000
    sizes = [2, 3]
    path = paths_of(sizes).sample_stratified(n, k, torch.Generator().manual_seed(1)).view(2, k, n)
    for draw in range(k):
        for a, b in itertools.product(range(2), range(3)):
            share = ((path[0, draw] == a) & (path[1, draw] == b)).double().mean()
            assert abs(float(share) - 1 / 6) < 5 * math.sqrt(1 / 6 * 5 / 6 / n)


def test_images_and_layers_are_balanced_independently() -> None:
    """Of 4 draws over 2 branches, 6 orders are possible; two images or layers share one in 6."""
    n = 6000
    path = paths_of([2, 2]).sample_stratified(n, 4, torch.Generator().manual_seed(2)).view(2, 4, n)
    same_layers = (path[0] == path[1]).all(0).double().mean()
    same_images = (path[0, :, 1:] == path[0, :, :-1]).all(0).double().mean()
    bound = 5 * math.sqrt(1 / 6 * 5 / 6 / n)
    assert abs(float(same_layers) - 1 / 6) < bound
    assert abs(float(same_images) - 1 / 6) < bound


def test_stratified_paths_do_not_disturb_a_foreign_generator() -> None:
    paths, twin = paths_of([2, 2, 2]), paths_of([2, 2, 2])
    paths.sample_stratified(3, 2, torch.Generator().manual_seed(0))
    assert torch.equal(paths.sample(4), twin.sample(4))
    paths.seed(5)
    twin.seed(5)
    assert torch.equal(paths.sample_stratified(3, 2), twin.sample_stratified(3, 2))


@pytest.mark.parametrize("scope", ["layer", "network"])
def test_the_mean_field_averages_the_branches_of_each_layer(scope: str) -> None:
    net = network(["bn", "in", {"name": "gn", "groups": 1}], scope=scope)
    expected = images()
    for layer in net:
        if isinstance(layer, RandomNormAggregation):
            expected = torch.stack([branch(expected) for branch in layer.branches]).mean(0)
        else:
            expected = layer(expected)
    with mean_field(net):
        torch.testing.assert_close(net(images()), expected)
        assert torch.equal(net(images()), net(images()))


def test_the_mean_field_of_equal_branches_is_the_model() -> None:
    net = network(["bn", "bn"])
    for layer in net:
        if isinstance(layer, RandomNormAggregation):
            layer.branches[1].load_state_dict(layer.branches[0].state_dict())
    expected = net(images())
    with mean_field(net):
        torch.testing.assert_close(net(images()), expected)


def test_the_mean_field_ends_draws_nothing_and_goes_with_copies() -> None:
    net = network(["bn", "in"])
    paths = find_paths(net)
    assert paths is not None
    paths.seed(7)
    expected = [net(images()) for _ in range(4)]
    paths.seed(7)
    found = []
    for _ in range(4):
        with mean_field(net):
            averaged = net(images())
            assert torch.equal(copy.deepcopy(net)(images()), averaged)
            with pinned(net, torch.zeros(3, dtype=torch.int64)):
                assert torch.equal(net(images()), averaged)
        found.append(net(images()))
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    with pytest.raises(RuntimeError, match="stop"), mean_field(net):
        raise RuntimeError("stop")
    assert not paths.averaged


def test_there_is_no_mean_field_without_branches_or_in_training() -> None:
    with pytest.raises(ValueError, match="no RNA layers"), mean_field(nn.Sequential()):
        pass
    net = network(["bn", "in"]).train()
    with pytest.raises(ValueError, match="training mode"), mean_field(net):
        pass
