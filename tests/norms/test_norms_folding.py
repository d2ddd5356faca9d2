"""Folding norms into convolutions: nothing changes, and nothing is folded that must not be."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.core.model_spec import ModelSpec
from bench.models import Classifier, build_model
from bench.norms.folding import Folded, fold, fold_checked


def small(norm: Any, arch: str = "resnet20", **changes: Any) -> Classifier:
    """A network with statistics and affine parameters that are not those of a fresh one."""
    spec = {"arch": arch, "norm": norm, "channels": 3, "size": 8, "classes": 5}
    moments = {"mean": [0.4] * 3, "std": [0.2] * 3}
    model = build_model(ModelSpec.model_validate(spec | moments | changes)).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if value.ndim == 1 and value.is_floating_point() and "fc" not in name:
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    return model.requires_grad_(False)


def images() -> Tensor:
    return torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    ("norm", "arch", "n_folded"),
    [
        ("bn", "resnet20", 19),
        ("none", "resnet20", 19),
        ("fixup", "resnet20", 19),
        ({"name": "bgn", "groups": 8}, "resnet20", 19),
        ({"name": "rn", "stats": "population"}, "resnet20", 19),
        ("bn", "resnet18", 20),
        ("bn", "vgg11", 8),
    ],
    ids=str,
)
def test_folded_networks_say_the_same(norm: Any, arch: str, n_folded: int) -> None:
    model, x = small(norm, arch), images()
    twin = copy.deepcopy(model)
    assert fold(twin, x) == n_folded
    expected = model(x)
    torch.testing.assert_close(
        twin(x), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max())
    )
    assert not any(isinstance(m, nn.BatchNorm2d) for m in twin.modules())
    assert fold_checked(copy.deepcopy(model), model, x)


@pytest.mark.parametrize(
    "norm",
    ["in", "ln", {"name": "gn", "groups": 8}, "rn", {"name": "bn", "stats": "batch"}],
    ids=str,
)
def test_norms_that_look_at_the_images_stay(norm: Any) -> None:
    model = small(norm)
    assert fold(copy.deepcopy(model), images()) == 0
    assert not fold_checked(copy.deepcopy(model), model, images())


def test_a_convolution_that_is_used_twice_is_given_up() -> None:
    class Leak(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
            self.norm.running_mean += 1

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return (self.norm(y) + y).flatten(1)

    model = Leak().eval().requires_grad_(False)
    assert not fold_checked(copy.deepcopy(model), model, images())


def test_a_layer_that_runs_twice_is_left_alone() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
            self.norm.running_mean += 1

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.conv(self.norm(self.conv(x)))).flatten(1)

    model = Twice().eval().requires_grad_(False)
    assert fold(copy.deepcopy(model), images()) == 0


def test_torchvisions_networks_fold() -> None:
    from torchvision.models import resnet18

    model = resnet18(num_classes=4).eval().requires_grad_(False)
    twin = copy.deepcopy(model)
    x = torch.rand(2, 3, 32, 32)
    assert fold(twin, x) == 20
    torch.testing.assert_close(twin(x), model(x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("norm", ["bn", {"name": "bgn", "groups": 8}, "fixup"], ids=str)
def test_a_folded_copy_follows_the_training_of_its_model(norm: Any) -> None:
    model, x = small(norm).requires_grad_(True), images()
    folded = Folded.of(model, x[:2])
    assert folded is not None and folded.copy is not model
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for _ in range(2):
        loss = nn.functional.cross_entropy(model.train()(x), torch.arange(6) % 5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.eval()
        with torch.no_grad():
            expected, stale = model(x), folded.copy(x)
            assert not torch.allclose(stale, expected, rtol=1e-3, atol=1e-4)
            folded.refresh()
            atol = 1e-4 * float(expected.abs().max())
            torch.testing.assert_close(folded.copy(x), expected, rtol=1e-3, atol=atol)


def test_without_such_a_norm_nothing_is_folded() -> None:
    assert Folded.of(small("in"), images()) is None
