"""The closed form against brute force, and what the planted models promise."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from bench.selftest.exact import (
    EPS,
    Images,
    Template,
    bounds,
    exact_accuracy,
    exact_robust,
    images,
    worst_images,
    worst_margins,
)
from bench.selftest.model_cases import NaNGradient, Planted, Quantized, Restoring, WrongGradient
from bench.selftest.random_cases import CentredOnBatch, LabelNoise

PIXELS, CLASSES = 4, 3


def margins(net: nn.Linear, x: Tensor, y: Tensor) -> Tensor:
    z = x.flatten(1).double() @ net.weight.detach().double().T + net.bias.detach().double()
    own = z.gather(1, y[:, None])
    return (own - z.scatter(1, y[:, None], -torch.inf)).amin(1)


@given(st.integers(0, 10_000), st.floats(0.01, 1.0))
def test_the_closed_form_is_the_lowest_corner(seed: int, eps: float) -> None:
    """The margin is concave in x, so the corners of the reachable box hold its minimum."""
    generator = torch.Generator().manual_seed(seed)
    net = nn.Linear(PIXELS, CLASSES)
    with torch.no_grad():
        net.weight.copy_(torch.randn(CLASSES, PIXELS, generator=generator))
        net.bias.copy_(torch.randn(CLASSES, generator=generator))
    x = torch.rand(1, 1, 2, 2, generator=generator)
    y = torch.randint(CLASSES, (1,), generator=generator)
    low, high = (end.flatten() for end in bounds(x, eps))
    corners = torch.stack(
        [torch.where(torch.tensor(which), high, low) for which in product([True, False], repeat=4)]
    )
    brute = float(margins(net, corners, y.expand(len(corners))).min())
    inside = low + torch.rand(200, PIXELS, generator=generator) * (high - low)
    with torch.no_grad():
        found = float(worst_margins(net, y, *bounds(x, eps))[0])
    assert found == pytest.approx(brute, abs=1e-9)
    assert found <= float(margins(net, inside, y.expand(200)).min()) + 1e-9


def test_the_worst_images_reach_the_closed_form() -> None:
    data, net = images(), Template()
    x_adv = worst_images(net, data)
    assert float((x_adv - data.x).abs().max()) <= EPS + 1e-6
    assert float(x_adv.min()) >= 0 and float(x_adv.max()) <= 1
    right = net(x_adv).argmax(1) == data.y
    assert torch.equal(right, exact_robust(net, data))


def test_the_answer_is_neither_trivial_nor_close_to_rounding() -> None:
    data, net = images(), Template()
    clean = exact_accuracy(net, data, 0.0)
    assert clean == float((net(data.x).argmax(1) == data.y).double().mean())
    assert 0.2 < exact_accuracy(net, data) < clean - 0.2
    assert float(worst_margins(net, data.y, *bounds(data.x, EPS)).abs().min()) > 1e-2


@pytest.mark.parametrize("make", [Planted, WrongGradient, NaNGradient])
def test_masks_change_no_prediction(make: type[Planted]) -> None:
    x = images().x
    assert torch.equal(make()(x).argmax(1), Template()(x).argmax(1))


def test_planted_models_are_what_they_say() -> None:
    data = images()
    x = data.x
    assert len(Quantized()(x).unique()) and torch.equal(Quantized()(x), Quantized()(x + 1e-4))
    restoring, near, far = Restoring(x, EPS), (x + 0.9 * EPS).clamp(0, 1), (x + 2 * EPS).clamp(0, 1)
    assert torch.equal(restoring(far), restoring(x))
    assert not torch.equal(restoring(near), restoring(x))
    noisy, clean = LabelNoise(0.9), Template()(x).argmax(1)
    kept = torch.stack([noisy(x).argmax(1) == clean for _ in range(100)]).double().mean()
    assert 0.88 < float(kept) < 0.92
    alone = torch.cat([CentredOnBatch()(one) for one in x.split(1)])
    assert not torch.allclose(alone, CentredOnBatch()(x), atol=1e-2)


def test_images_can_be_chosen() -> None:
    data = images(8)
    mask = torch.arange(8) < 3
    assert isinstance(data.where(mask), Images)
    assert torch.equal(data.where(mask).x, data.first(3).x)
