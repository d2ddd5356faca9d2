"""Pairs of paths that differ in exactly so many layers, and what is scored on them."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
import torch
from analysis_scenes import images, scene, uniform
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from bench.analysis.path_difference import path_ladder, run
from bench.core.analysis import AnalysisError
from bench.norms import Paths, RandomNormAggregation, pinned


class Scale(nn.Module):
    """A branch that multiplies."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


class Chain(nn.Module):
    """RNA layers in a row: a path multiplies by 1 or -1 a few times, then logits from the mean."""

    def __init__(self, n_layers: int, scope: str = "layer") -> None:
        super().__init__()
        paths = Paths(scope, "sample")
        branches = [[Scale(1.0), Scale(-1.0)] for _ in range(n_layers)]
        layers = [RandomNormAggregation(list(pair), paths) for pair in branches]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Parameter(torch.tensor([1.0, -1.0, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.layers(x - 0.5).flatten(1).mean(1)
        return z[:, None] * self.head


@given(
    sizes=st.lists(st.integers(2, 4), min_size=1, max_size=8),
    seed=st.integers(0, 2**20),
)
def test_a_ladder_differs_in_exactly_so_many_layers(sizes: list[int], seed: int) -> None:
    differences = list(range(len(sizes) + 1))
    path, scored = path_ladder(sizes, differences, torch.Generator().manual_seed(seed))
    assert [int((path != other).sum()) for other in scored] == differences
    for other in (path, *scored):
        assert bool(((other >= 0) & (other < torch.tensor(sizes))).all())
    for near, far in itertools.pairwise(scored):
        assert bool(((near == path) | (near == far)).all())  # what differs goes on differing


def test_pairs_are_drawn_uniformly() -> None:
    generator = torch.Generator().manual_seed(0)
    seen: Counter[tuple[tuple[int, ...], tuple[int, ...]]] = Counter()
    for _ in range(6000):
        path, (other,) = path_ladder([2, 3], [1], generator)
        seen[tuple(path.tolist()), tuple(other.tolist())] += 1
    # 6 paths, each with 1 neighbour in the first layer and 2 in the second; layers come equally.
    assert len(seen) == 18
    assert all(abs(count - 500) < 120 for (a, b), count in seen.items() if a[0] != b[0])
    assert all(abs(count - 250) < 90 for (a, b), count in seen.items() if a[0] == b[0])


def test_paths_are_held_in_attack_and_in_scoring() -> None:
    """On a path of opposite sign the attack helps: an odd difference turns its gradient round."""
    model = Chain(4)
    x = 0.5 + 0.02 * (uniform(6, 1, 2, 2) - 0.5)
    y = [0, 1, 0, 1, 0, 1]
    looked = scene(
        "path_difference",
        [model],
        images(x, y),
        params={"pairs": 5},
        attack={"n_iter": 3},
        stochastic=True,
    )
    found = run(looked)
    assert found.groupby("difference")["pair"].count().to_dict() == dict.fromkeys(range(5), 5)
    even = found[found["difference"] % 2 == 0]["accuracy"]
    odd = found[found["difference"] % 2 == 1]["accuracy"]
    assert even.eq(0).all() and odd.eq(1).all() and set(found["n"]) == {6}
    for record in found.to_dict("records"):
        pairs = zip(record["attacked"], record["scored"], strict=True)
        assert sum(a != b for a, b in pairs) == record["difference"]
    assert all(layer.paths.pinned is None for layer in model.layers)
    with pinned(model, torch.zeros(4, dtype=torch.int64)), torch.no_grad():
        assert model(x).shape == (6, 3)


def test_every_step_and_the_last() -> None:
    looked = scene(
        "path_difference",
        [Chain(5)],
        images(uniform(2, 1, 2, 2), [0, 1]),
        params={"pairs": 1, "step": 2},
        attack={"n_iter": 1},
        stochastic=True,
    )
    assert run(looked)["difference"].tolist() == [0, 2, 4, 5]


@pytest.mark.parametrize("model", [Chain(3, scope="network"), Scale(1.0)])
def test_models_without_paths_of_their_own_layers_are_refused(model: nn.Module) -> None:
    data = images(uniform(2, 1, 2, 2), [0, 1])
    with pytest.raises(AnalysisError, match="layers that each draw"):
        run(scene("path_difference", [model], data, attack={"n_iter": 1}, stochastic=True))
