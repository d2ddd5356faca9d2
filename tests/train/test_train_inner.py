"""The training attack: inside ball and box, and optimal where the optimum is known."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bench.core.threat import ThreatModel
from bench.train.inner import perturb
from bench.train.recipe import InnerAttack


def noise(x: Tensor, seed: int = 0) -> Tensor:
    return torch.rand(x.shape, generator=generator(seed))


def attack(eps: float, alpha: float, n_iter: int) -> InnerAttack:
    return InnerAttack(threat_model=ThreatModel(eps=eps), alpha=alpha, n_iter=n_iter)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear(seed: int = 0) -> nn.Module:
    """A linear model of images (b, 1, 4, 4) with 2 classes, without gradients of its own."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.randn(2, 16, generator=generator(seed)))
        model[1].bias.zero_()
    return model.requires_grad_(False)


def images(n: int = 5) -> tuple[Tensor, Tensor]:
    x = torch.rand(n, 1, 4, 4, generator=generator(1))
    x[:, :, 0] = (x[:, :, 0] > 0.5).float()  # some pixels sit on the border of the box
    return x, torch.arange(n) % 2


@given(st.floats(0.001, 1), st.floats(0.0001, 3), st.integers(1, 4), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_it_stays_in_ball_and_box(eps: float, alpha: float, n_iter: int, seed: int) -> None:
    x, y = images()
    x_adv = perturb(linear(), x, y, attack(eps, alpha, n_iter), noise(x, seed))
    assert x_adv.shape == x.shape and x_adv.dtype == x.dtype and not x_adv.requires_grad
    assert x_adv.min() >= 0 and x_adv.max() <= 1
    assert (x_adv - x).abs().max() <= eps + 1e-6


def test_it_finds_the_optimum_of_a_linear_model() -> None:
    model, (x, y), eps = linear(), images(), 0.1
    weight = model[1].weight  # type: ignore[index]
    x_adv = perturb(model, x, y, attack(eps, 0.05, 5), noise(x))
    for i, label in enumerate(y.tolist()):
        uphill = (weight[1 - label] - weight[label]).view(1, 4, 4).sign()
        torch.testing.assert_close(x_adv[i], (x[i] + eps * uphill).clamp(0, 1))


def test_its_strength_does_not_depend_on_the_batch() -> None:
    model, (x, y) = linear(), images(6)
    strong = perturb(model, x, y, attack(0.1, 0.05, 5), noise(x))
    for i in range(6):
        alone = perturb(model, x[i : i + 1], y[i : i + 1], attack(0.1, 0.05, 5), noise(x[:1], i))
        torch.testing.assert_close(alone, strong[i : i + 1])


def test_the_start_is_random_inside_the_ball_and_seeded() -> None:
    x, y = images()
    flat = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).requires_grad_(False)
    nn.init.zeros_(flat[1].weight)  # no gradient: what comes back is the start
    spec = attack(0.1, 0.05, 1)
    first, again, other = (perturb(flat, x, y, spec, noise(x, s)) for s in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)
    inner = (x > 0.1) & (x < 0.9)
    delta = (first - x)[inner]
    assert delta.min() < -0.05 and delta.max() > 0.05 and delta.abs().max() <= 0.1 + 1e-6


def test_the_clean_images_and_the_global_generator_are_untouched() -> None:
    model, (x, y) = linear(), images()
    copy, state = x.clone(), torch.get_rng_state()
    perturb(model, x, y, attack(0.1, 0.05, 2), noise(x))
    assert torch.equal(x, copy) and x.grad is None
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_layout_makes_no_difference(layout: torch.memory_format) -> None:
    x = torch.rand(3, 3, 4, 4, generator=generator())
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2)).requires_grad_(False)
    y = torch.tensor([0, 1, 0])
    expected = perturb(model, x, y, attack(0.1, 0.05, 2), noise(x, 1))
    given = perturb(model, x.contiguous(memory_format=layout), y, attack(0.1, 0.05, 2), noise(x, 1))
    torch.testing.assert_close(given, expected)


def test_n_fgsm_takes_one_step_from_wide_noise_and_is_not_cut_to_the_ball() -> None:
    model, (x, y), eps = linear(), images(), 0.1
    weight = model[1].weight  # type: ignore[index]
    spec = InnerAttack(method="n-fgsm", threat_model=ThreatModel(eps=eps), alpha=eps)
    x_adv = perturb(model, x, y, spec, noise(x))
    start = (x + (2 * noise(x) - 1) * 2 * eps).clamp(0, 1)
    for i, label in enumerate(y.tolist()):
        uphill = (weight[1 - label] - weight[label]).view(1, 4, 4).sign()
        torch.testing.assert_close(x_adv[i], (start[i] + eps * uphill).clamp(0, 1))
    assert 2.5 * eps < (x_adv - x).abs().max() <= 3 * eps + 1e-6


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"method": "n-fgsm", "n_iter": 3}, "takes one step"), ({}, "needs n_iter")],
)
def test_methods_and_their_steps_must_fit(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        InnerAttack.model_validate({"threat_model": {"eps": 0.1}, "alpha": 0.1} | changes)
