"""Every norm against a reference written from the papers' equations in plain numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from bench.core.errors import UserError
from bench.core.norm_spec import NormSpec
from bench.norms import norm_factory

Array = NDArray[np.float64]
EPS, TAU, CHANNELS = 1e-5, 0.1, 8

SPECS: dict[str, dict[str, Any]] = {
    "none": {"name": "none"},
    "fixup": {"name": "fixup"},
    "bn-population": {"name": "bn", "stats": "population"},
    "bn-batch": {"name": "bn", "stats": "batch"},
    "gn4": {"name": "gn", "groups": 4},
    "gn-size-4": {"name": "gn", "group_size": 4},
    "in": {"name": "in"},
    "ln": {"name": "ln"},
    "bgn2-population": {"name": "bgn", "groups": 2, "stats": "population"},
    "bgn4-batch": {"name": "bgn", "groups": 4, "stats": "batch"},
    "bgn-size-1": {"name": "bgn", "group_size": 1},
    "rn-batch": {"name": "rn", "stats": "batch"},
    "rn-tracked-mean": {"name": "rn", "stats": "tracked-mean"},
    "rn-population": {"name": "rn", "stats": "population"},
    "rn-power-1": {"name": "rn", "power": 1},
    "rn-power-0.5": {"name": "rn", "power": "1/2", "stats": "tracked-mean"},
}
all_norms = pytest.mark.parametrize("key", SPECS)


def images(seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Draws activations (5, 8, 3, 4) whose channels differ in mean and spread."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(5, CHANNELS, 3, 4, generator=generator, dtype=torch.float64)
    spread = torch.linspace(0.5, 2, CHANNELS).view(1, -1, 1, 1)
    return (x * spread + torch.linspace(-1, 2, CHANNELS).view(1, -1, 1, 1)).to(dtype)


def make(key: str, dtype: torch.dtype = torch.float64) -> tuple[NormSpec, nn.Module]:
    """Builds a layer with random scale and shift."""
    spec = NormSpec.model_validate(SPECS[key])
    layer = norm_factory(spec)(CHANNELS)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(1 + 0.5 * torch.randn(parameter.shape, generator=generator))
    return spec, layer.to(dtype)


def n_groups(spec: NormSpec) -> int:
    if spec.name in ("gn", "bgn"):
        return spec.groups or CHANNELS // (spec.group_size or 1)
    return 1 if spec.name == "ln" else CHANNELS


def affine(layer: nn.Module, z: Array) -> Array:
    """Applies the learned scale and shift of each channel (RobustNorm paper, equation 2)."""
    found = {name: p.detach().double().numpy() for name, p in layer.named_parameters()}
    weight = found.get("weight", np.ones(CHANNELS))
    y = np.empty_like(z)
    for i in range(z.shape[1]):
        y[:, i] = weight[i] * z[:, i] + found["bias"][i]
    return y


def reference(
    spec: NormSpec, layer: nn.Module, x: Array, tracked: dict[str, Array], training: bool
) -> Array:
    """Evaluates the papers' equations; in training, moves ``tracked`` on (equation 3)."""
    if spec.name == "fixup":
        scale, bias = (p.item() for p in (layer.scale, layer.bias))
        return np.asarray(scale * x + bias)
    z = np.empty_like(x)
    s = n_groups(spec)
    for i in range(CHANNELS):
        # Channel i belongs to group floor(i * s / d): RNA paper, below equation 3.
        members = [k for k in range(CHANNELS) if k * s // CHANNELS == i * s // CHANNELS]
        if spec.name == "none":
            z[:, i] = x[:, i]
        elif spec.name in ("gn", "in", "ln"):
            for n in range(len(x)):
                mean, variance = moments(x[n, members])
                z[n, i] = (x[n, i] - mean) / np.sqrt(variance + EPS)
        else:
            z[:, i] = over_batch(spec, x, i, members, tracked, training)
    return affine(layer, z)


def over_batch(
    spec: NormSpec,
    x: Array,
    i: int,
    members: list[int],
    tracked: dict[str, Array],
    training: bool,
) -> Array:
    values = x[:, members]
    mean, variance = moments(values)
    if spec.name == "rn":
        extent = float(values.max() - values.min())  # equation 5
        if training:
            tracked["mean"][i] = (1 - TAU) * tracked["mean"][i] + TAU * mean
            tracked["range"][i] = (1 - TAU) * tracked["range"][i] + TAU * extent
        elif spec.inference_stats != "batch":
            mean = tracked["mean"][i]
            extent = tracked["range"][i] if spec.inference_stats == "population" else extent
        return np.asarray((x[:, i] - mean) / (extent + EPS) ** spec.power)  # equation 6
    g = i // len(members)
    if not training and spec.inference_stats == "population":
        mean, variance = tracked["mean"][g], tracked["var"][g]  # equation 4
    elif training and i == members[0]:
        m = values.size  # the tracked variance is unbiased: Ioffe & Szegedy, algorithm 2
        tracked["mean"][g] = (1 - TAU) * tracked["mean"][g] + TAU * mean
        tracked["var"][g] = (1 - TAU) * tracked["var"][g] + TAU * variance * m / (m - 1)
    return np.asarray((x[:, i] - mean) / np.sqrt(variance + EPS))


def moments(values: Array) -> tuple[float, float]:
    mean = values.sum() / values.size
    return float(mean), float(((values - mean) ** 2).sum() / values.size)


@all_norms
def test_values_and_tracked_statistics(key: str) -> None:
    spec, layer = make(key)
    size = n_groups(spec)
    tracked = {"mean": np.zeros(size), "var": np.ones(size), "range": np.ones(size)}
    for step in range(4):
        x = images(step)
        expected = reference(spec, layer, x.numpy(), tracked, training=True)
        np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=1e-9, atol=1e-9)
    layer.eval()
    before = {name: buffer.clone() for name, buffer in layer.named_buffers()}
    x = images(9) + 0.7
    expected = reference(spec, layer, x.numpy(), tracked, training=False)
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=1e-9, atol=1e-9)
    for name, buffer in layer.named_buffers():
        assert torch.equal(buffer, before[name]), f"{name} moved in eval mode"
        if name.startswith("running_"):
            wanted = tracked[name.removeprefix("running_")]
            np.testing.assert_allclose(buffer.numpy(), wanted, rtol=1e-9)


@all_norms
@pytest.mark.parametrize("training", [True, False])
def test_gradients(key: str, training: bool) -> None:
    _, layer = make(key)
    layer(images(1))
    layer.train(training)
    names = [name for name, _ in layer.named_parameters()]
    parameters = [p.detach().clone().requires_grad_() for p in layer.parameters()]

    def call(x: Tensor, *given: Tensor) -> Tensor:
        y: Tensor = torch.func.functional_call(layer, dict(zip(names, given, strict=True)), (x,))
        return y

    x = images(2)[:3, :, :2, :2].requires_grad_()
    assert torch.autograd.gradcheck(call, (x, *parameters))


def torch_version(key: str, x: Tensor, layer: Any) -> Tensor:
    """Calls torch's own functional norm in training mode."""
    weight, bias = layer.weight, layer.bias
    if key == "in":
        return F.instance_norm(x, None, None, weight, bias, eps=EPS)
    if key == "ln":
        z = F.layer_norm(x, x.shape[1:], eps=EPS)
        return z * weight.view(1, -1, 1, 1) + bias.view(1, -1, 1, 1)
    if key == "gn4":
        return F.group_norm(x, 4, weight, bias, EPS)
    return F.batch_norm(x, None, None, weight, bias, True, 0.0, EPS)


@pytest.mark.parametrize("key", ["in", "ln", "gn4", "bn-population", "bn-batch", "bgn-size-1"])
def test_agrees_with_torch(key: str) -> None:
    _, layer = make(key, torch.float32)
    x = images(3, torch.float32)
    torch.testing.assert_close(layer(x), torch_version(key, x, layer), rtol=1e-5, atol=1e-5)


def test_batch_statistics_equal_population_statistics_of_the_same_batch() -> None:
    for key in ("bn-batch", "bgn4-batch", "rn-batch"):
        spec, layer = make(key)
        trained = layer(images(4))
        layer.eval()
        torch.testing.assert_close(layer(images(4)), trained)
        assert spec.batch_dependent
        with pytest.raises(AssertionError):
            torch.testing.assert_close(layer(images(4)[:2]), trained[:2])


@all_norms
@pytest.mark.parametrize("training", [True, False])
def test_layouts_and_precisions_agree(key: str, training: bool) -> None:
    _, layer = make(key, torch.float32)
    layer(images(5, torch.float32))
    layer.train(training)
    x = images(6, torch.float32)
    y = layer(x)
    nhwc = layer(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(nhwc, y, rtol=1e-5, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        half = layer(x.bfloat16())
    assert (half.float() - y).abs().max() < 0.03 * (1 + y.abs().max())


@pytest.mark.parametrize("power", ["1/10", "1/5", 1])
def test_robust_norm_survives_a_constant_channel(power: object) -> None:
    layer = norm_factory(NormSpec.model_validate({"name": "rn", "power": power}))(2)
    x = torch.full((3, 2, 4, 4), 7.0, requires_grad=True)
    y = layer(x)
    y.square().sum().backward()
    assert y.abs().max() < 1e-4
    assert x.grad is not None and x.grad.isfinite().all()


def test_group_of_every_size_divides_or_is_refused() -> None:
    wide = norm_factory(NormSpec.model_validate({"name": "gn", "group_size": 32}))(16)
    assert wide.num_groups == 1, "a group size beyond the layer's channels means one group"
    with pytest.raises(UserError, match=r"20 channels does not divide into groups of 8"):
        norm_factory(NormSpec.model_validate({"name": "gn", "group_size": 8}))(20)
    with pytest.raises(UserError, match=r"'bgn3'.*16 channels does not divide into 3 groups"):
        norm_factory(NormSpec.model_validate({"name": "bgn", "groups": 3}))(16)
