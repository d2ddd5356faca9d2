"""The ResNet-50 of ImageNet, against torchvision's; Fixup in blocks of three convolutions."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from bench.core.model_spec import ModelSpec
from bench.models import Classifier, build_model
from bench.models.resnet import Bottleneck
from bench.norms import find_paths
from bench.norms.plain import fixup_init


def spec(norm: Any = "bn", size: int = 224, classes: int = 1000) -> ModelSpec:
    return ModelSpec.model_validate(
        {
            "arch": "resnet50-bottleneck",
            "norm": norm,
            "channels": 3,
            "size": size,
            "classes": classes,
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
        }
    )


def meta(norm: Any = "bn", size: int = 224) -> Classifier:
    with torch.device("meta"):
        return build_model(spec(norm, size))


def images(n: int, size: int) -> Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0))


def renamed(key: str) -> str:
    """Returns what torchvision's key is called here."""
    key = re.sub(r"layer(\d)", lambda m: f"stages.{int(m[1]) - 1}", key)
    return re.sub(r"\bbn(\d)", r"norm\1", key).replace("downsample", "shortcut")


def test_the_size_is_torchvisions() -> None:
    model = meta()
    assert sum(p.numel() for p in model.parameters()) == 25_557_032
    assert sum(isinstance(m, nn.BatchNorm2d) for m in model.modules()) == 53
    weighted = [
        name
        for name, m in model.named_modules()
        if isinstance(m, nn.Conv2d | nn.Linear) and "shortcut" not in name
    ]
    assert len(weighted) == 50, "the name is the depth, without the shortcuts"


@pytest.mark.process
def test_outputs_are_torchvisions() -> None:
    with torch.device("meta"):
        reference = torchvision.models.resnet50(weights=None)
    model = meta(size=96)
    generator = torch.Generator().manual_seed(1)
    state = {}
    for key, value in reference.state_dict().items():
        if value.dtype == torch.int64:
            state[key] = torch.zeros(())
        elif value.ndim == 1:  # scales and variances are positive
            state[key] = 0.5 + torch.rand(value.shape, generator=generator)
        else:
            noise = torch.randn(value.shape, generator=generator)
            state[key] = noise * (2 / value[0].numel()) ** 0.5
    reference.load_state_dict(state, assign=True)
    ours = {renamed(key): value.clone() for key, value in state.items()}
    model.net.load_state_dict(ours, strict=True, assign=True)
    x = images(2, 96)
    with torch.no_grad():
        for training in (False, True):
            expected, found = reference.train(training)(x), model.net.train(training)(x)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    mean = model.net.stages[3][2].norm3.running_mean
    torch.testing.assert_close(mean, reference.layer4[2].bn3.running_mean)


@pytest.mark.parametrize(("size", "positions"), [(224, 7), (32, 4)])
def test_the_stem_follows_the_image(size: int, positions: int) -> None:
    net = meta(size=size).net
    x = torch.empty(1, 3, size, size, device="meta")
    features = net.stages(net.pool(net.norm1(net.conv1(x))))
    assert features.shape == (1, 2048, positions, positions)
    assert net.conv1.kernel_size == ((7, 7) if size == 224 else (3, 3))


@pytest.mark.parametrize("name", ["bgn", "gn"])
def test_the_rna_papers_pool_fits_every_layer(name: str) -> None:
    pool = [{"name": name, "group_size": 1}, {"name": "gn", "group_size": 2}, "bn"]
    paths = find_paths(meta({"name": "rna", "pool": pool}))
    assert paths is not None and paths.sizes == [3] * 53


def test_fixup_scales_two_of_three_convolutions() -> None:
    model = build_model(spec("fixup", 32, classes=10))
    with torch.no_grad():
        model.net.fc.bias.copy_(torch.arange(10.0))
        assert torch.equal(model(images(2, 32)), torch.arange(10.0).expand(2, 10))
    blocks = [m for m in model.modules() if isinstance(m, Bottleneck)]
    assert len(blocks) == 16
    for block in blocks:
        for conv in (block.conv1, block.conv2):
            fan_out = conv.out_channels * conv.kernel_size[0] ** 2
            expected = (2 / fan_out) ** 0.5 * 16 ** (-1 / 4)  # m = 3: L ** (-1 / 4)
            assert conv.weight.std().item() == pytest.approx(expected, rel=0.05)
        assert block.conv3.weight.abs().max() == 0
    shortcut = blocks[0].shortcut[0].weight
    assert shortcut.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.05), "it is no branch"
    x = images(1, 8).repeat(1, 86, 1, 1)[:, :256] - 0.5
    with torch.no_grad():
        assert torch.equal(blocks[1](x), torch.relu(x))


def test_fixup_of_one_block_gives_every_parameter_a_place() -> None:
    scalars = [n for n, p in meta("fixup").named_parameters() if p.numel() == 1]
    # Per block: a bias before each convolution, and scale and bias for each of three norms.
    in_block = [n for n in scalars if n.startswith("net.stages.1.2.")]
    assert len(in_block) == 3 + 2 * 3
    assert not [m for m in meta("fixup").modules() if isinstance(m, nn.BatchNorm2d)]


def test_fixup_takes_a_stem_of_several_convolutions_for_no_branch() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
            self.body = nn.Sequential(Block(), Block())
            self.fc = nn.Linear(8, 2)

    net = Net()
    stem = net.conv2.weight.clone()
    assert fixup_init(net) == 2
    assert torch.equal(net.conv2.weight, stem)
    assert all(block.conv2.weight.abs().max() == 0 for block in net.body)
