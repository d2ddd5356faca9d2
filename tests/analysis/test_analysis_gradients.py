"""Gradient similarity and loss surfaces of models whose gradients are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from analysis_scenes import Linear, images, scene, uniform
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from bench.analysis import gradient_similarity, loss_surface
from bench.analysis.declared import LossSurfaceParams
from bench.analysis.loss_surface import directions
from bench.attacks import Budget
from bench.attacks.ball import ball_of
from bench.core.errors import UserError
from bench.core.threat import ThreatModel


def test_linear_models_are_as_alike_as_their_gradients() -> None:
    """The gradient of the cross-entropy of ``w x`` is ``w^T (softmax(w x) - onehot(y))``."""
    x, y = uniform(6, 1, 2, 2), [0, 1, 2, 0, 1, 2]
    weights = [torch.randn(3, 4, generator=torch.Generator().manual_seed(s)) for s in (1, 2)]
    found = gradient_similarity.run(
        scene("gradient_similarity", [Linear(w) for w in weights], images(x, y))
    )
    flat, targets = x.flatten(1).double(), F.one_hot(torch.tensor(y), 3).double()
    a, b = (((flat @ w.double().T).softmax(1) - targets) @ w.double() for w in weights)
    expected = F.cosine_similarity(a, b)
    assert found["index"].tolist() == list(range(100, 106))
    assert found["cosine"].tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_equal_opposite_and_dead_models() -> None:
    w = torch.randn(2, 4, generator=torch.Generator().manual_seed(1))
    two = [Linear(w), Linear(3 * w), Linear(-w), Linear(0 * w)]
    x = torch.zeros(2, 1, 2, 2)  # softmax is uniform for all: only w decides
    data = images(x, [0, 1])
    found = gradient_similarity.run(scene("gradient_similarity", two, data))
    pairs = {key: group["cosine"].tolist() for key, group in found.groupby(["first", "second"])}
    assert pairs[0, 1] == pytest.approx([1, 1])
    assert pairs[0, 2] == pytest.approx([-1, -1])
    assert all(map(math.isnan, pairs[0, 3]))
    assert len(pairs) == 6


@given(seed=st.integers(0, 1000), norm=st.sampled_from(["linf", "l2"]), odd=st.booleans())
def test_directions_are_orthogonal_and_as_long_as_eps(seed: int, norm: str, odd: bool) -> None:
    size = 3 if odd else 4
    grad = torch.randn(3, 1, size, size, generator=torch.Generator().manual_seed(seed))
    up, random = directions(grad, ball_of(Budget(norm, (0.1,))), seed)
    dots = (up * random).flatten(1).sum(1)
    assert bool((up * grad).flatten(1).sum(1).gt(0).all())
    if norm == "linf":
        assert set(up.unique().tolist()) | set(random.unique().tolist()) <= {-1.0, 1.0}
        assert dots.abs().max() <= (1 if odd else 0)
    else:
        assert dots.abs().max() < 1e-5
        for direction in (up, random):
            assert direction.flatten(1).norm(dim=1).tolist() == pytest.approx([1] * 3, abs=1e-5)


def test_pixels_without_gradient_move_at_random_only() -> None:
    grad = torch.tensor([0.0, 1.0, -2.0, 0.0, 3.0, 4.0]).view(1, 1, 1, 6)
    up, random = directions(grad, ball_of(Budget("linf", (0.1,))), 0)
    assert up.flatten().tolist() == [0, 1, -1, 0, 1, 1]
    assert set(random.flatten().tolist()) == {-1.0, 1.0}
    assert float((up * random).sum()) == 0


class Quadratic(nn.Module):
    """Two classes whose difference of logits is the squared distance from grey."""

    def forward(self, x: Tensor) -> Tensor:
        distance = (x - 0.5).square().flatten(1).sum(1)
        return torch.stack([-distance, torch.zeros_like(distance)], 1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_surface_of_a_loss_in_closed_form(norm: str) -> None:
    """Along either direction the squared distance is known, and so is the loss of class 0."""
    x = 0.5 + 0.1 * torch.tensor([1.0, -1.0, 1.0, 1.0]).view(1, 1, 2, 2).repeat(3, 1, 1, 1)
    eps = 0.05
    looked = scene(
        "loss_surface",
        [Quadratic()],
        images(x, [0, 0, 0]),
        params={"points": 5, "extent": 2},
        threat=ThreatModel(norm=norm, eps=eps),
    )
    found = loss_surface.run(looked)
    assert len(found) == 25 and set(found["n"]) == {3}
    assert sorted(set(found["along_gradient"])) == [-2, -1, 0, 1, 2]
    for point in found.to_dict("records"):
        u, v = eps * point["along_gradient"], eps * point["along_random"]
        # The gradient points away from grey; four pixels of 0.1 make a vector of length 0.2.
        distance = 4 * ((0.1 + u) ** 2 + v**2) if norm == "linf" else (0.2 + u) ** 2 + v**2
        assert point["loss"] == pytest.approx(math.log1p(math.exp(distance)), abs=1e-6)
        assert point["sd"] == pytest.approx(0, abs=1e-6)


def test_images_stay_in_the_box_and_are_averaged() -> None:
    x = torch.stack([torch.zeros(1, 2, 2), torch.full((1, 2, 2), 0.9)])
    looked = scene("loss_surface", [Quadratic()], images(x, [0, 0]), params={"points": 3})
    found = loss_surface.run(looked).set_index(["along_gradient", "along_random"])
    at_ends = [math.log1p(math.exp(4 * d**2)) for d in (0.5, 0.5)]  # 0 stays, 0.9 reaches 1
    assert found.loc[(1.0, 0.0), "loss"] == pytest.approx(np.mean(at_ends), abs=1e-6)
    at_start = [math.log1p(math.exp(4 * d**2)) for d in (0.5, 0.4)]
    assert found.loc[(0.0, 0.0), "loss"] == pytest.approx(np.mean(at_start), abs=1e-6)
    assert found.loc[(0.0, 0.0), "sd"] == pytest.approx(np.std(at_start, ddof=1), abs=1e-5)


@pytest.mark.parametrize("points", [1, 4])
def test_the_image_itself_must_be_on_the_grid(points: int) -> None:
    from bench.analysis.declared import analysis_kind

    with pytest.raises(UserError, match="points: expected an odd number of at least 3"):
        analysis_kind("loss_surface", {"points": points})
    assert LossSurfaceParams(points=5, extent=2).positions() == [-2, -1, 0, 1, 2]
