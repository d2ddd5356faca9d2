"""Every architecture with every norm; sizes known from the papers; where seeds reach."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from bench.core.model_spec import ARCHITECTURES, ModelSpec
from bench.core.norm_spec import NormSpec
from bench.models import Classifier, build_model
from bench.models.resnet import BasicBlock
from bench.models.wide_resnet import PreActBlock

NORMS: list[Any] = [
    "none",
    "fixup",
    "bn",
    {"name": "bn", "stats": "batch"},
    {"name": "gn", "groups": 8},
    "in",
    "ln",
    {"name": "bgn", "groups": 8},
    "rn",
    {"name": "rna", "pool": ["bn", "in"]},
]
CHEAP = ("resnet20", "resnet18", "vgg11")


def spec(arch: str, norm: Any = "bn", **changes: Any) -> ModelSpec:
    channels = changes.pop("channels", 3)
    mean, std = [0.3] * channels, [0.25] * channels
    base = {"arch": arch, "norm": norm, "channels": channels, "size": 32, "classes": 10}
    return ModelSpec.model_validate(base | {"mean": mean, "std": std} | changes)


def images(channels: int, size: int, n: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(n, channels, size, size, generator=generator)


def label(value: Any) -> str:
    return NormSpec.model_validate(value).label() if not isinstance(value, int) else str(value)


@pytest.mark.process
@pytest.mark.parametrize("norm", NORMS, ids=label)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_takes_every_norm(arch: str, norm: Any) -> None:
    wanted = spec(arch, norm, channels=1, size=28)
    if arch in CHEAP:
        model = build_model(wanted).eval()
        with torch.no_grad():
            y = model(images(1, 28))
        assert y.isfinite().all()
    else:
        with torch.device("meta"):
            model = build_model(wanted).eval()
        y = model(images(1, 28).to("meta"))
    assert y.shape == (2, 10)
    assert model.spec == wanted


@pytest.mark.process
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [28, 32, 224])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_takes_every_input(arch: str, size: int, channels: int) -> None:
    with torch.device("meta"):
        model = build_model(spec(arch, channels=channels, size=size, classes=7))
        x = torch.empty(2, channels, size, size)
    assert model(x).shape == (2, 7)


@pytest.mark.parametrize("arch", ["resnet20", "resnet18", "vgg11"])
def test_224_pixels_run(arch: str) -> None:
    with torch.no_grad():
        y = build_model(spec(arch, size=224, classes=5)).eval()(images(3, 224, n=1))
    assert y.shape == (1, 5) and y.isfinite().all()


@pytest.mark.parametrize(
    ("arch", "channels", "n_parameters", "n_norms"),
    [
        # He et al., table 6, counts 0.27M for 20 layers; 19 of them are normalized convolutions.
        ("resnet20", 3, 269_722, 19),
        ("resnet20", 1, 269_434, 19),
        ("resnet38", 3, None, 37),
        ("resnet50", 3, None, 49),
        ("resnet18", 3, 11_173_962, 20),
        ("resnet50-bottleneck", 3, 23_520_842, 53),
        ("vgg11", 3, None, 8),
        ("vgg16", 3, None, 13),
        ("wrn32", 3, 46_160_474, 31),
        # By rule, as akamaster/pytorch_resnet_cifar10 and the WideResNet paper's code count them.
        ("resnet56", 3, 853_018, 55),
        ("resnet110", 3, 1_727_962, 109),
        ("wrn-34-10", 3, 46_160_474, 31),
        ("wrn-28-10", 3, 36_479_194, 25),
        # As kuangliu/pytorch-cifar's classes count them; a norm of 512 channels has 1,024.
        ("resnet34", 3, 21_282_122, 36),
        ("preact-resnet18-kuangliu", 3, 11_171_146, 16),
        ("preact-resnet18", 3, 11_171_146 + 1_024, 17),
    ],
)
def test_known_sizes(arch: str, channels: int, n_parameters: int | None, n_norms: int) -> None:
    with torch.device("meta"):
        model = build_model(spec(arch, channels=channels))
    assert sum(isinstance(m, nn.BatchNorm2d) for m in model.modules()) == n_norms
    if n_parameters is not None:
        assert sum(p.numel() for p in model.parameters()) == n_parameters


@pytest.mark.parametrize(("arch", "depth"), [("resnet20", 20), ("resnet38", 38), ("resnet50", 50)])
def test_the_name_is_the_depth(arch: str, depth: int) -> None:
    with torch.device("meta"):
        model = build_model(spec(arch))
    weighted = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(weighted) == depth


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("ResNet-20", "resnet20"),
        ("resnet_56", "resnet56"),
        ("ResNet18", "resnet18"),
        ("WRN-28-10", "wrn-28-10"),
        ("WideResNet-34-10", "wrn-34-10"),
        ("wide_resnet_16_8", "wrn-16-8"),
        ("wrn-28x10", "wrn-28-10"),
        ("PreActResNet18", "preact-resnet18"),
        ("preact_resnet-18", "preact-resnet18"),
        ("VGG16", "vgg16"),
    ],
)
def test_architectures_as_people_spell_them(written: str, name: str) -> None:
    assert spec(written) == spec(name) and spec(written).arch == name


@pytest.mark.parametrize(
    ("arch", "told"),
    [
        ("resnet21", "6n \\+ 2 layers.*ImageNet's are resnet18"),
        ("resnet99998", "unknown arch"),
        ("wrn-29-10", "wrn-D-K with D = 6n \\+ 4"),
        ("wrn-28-99", "wrn-D-K"),
        ("wrn2810", "unknown arch 'wrn2810'"),
        ("resent56", "did you mean 'resnet"),
    ],
)
def test_names_that_no_rule_makes_are_refused(arch: str, told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        spec(arch)


def test_a_projection_shortcut_can_be_asked_for() -> None:
    padded, projected = (
        build_model(spec("resnet20")),
        build_model(spec("resnet20", shortcut="conv")),
    )
    extra = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    counts = [sum(p.numel() for p in m.parameters()) for m in (padded, projected)]
    assert counts[1] - counts[0] == extra


def test_the_padded_shortcut_keeps_channels_and_adds_zeros() -> None:
    model = build_model(spec("resnet20"))
    shortcut = next(m for m in model.modules() if type(m).__name__ == "PadShortcut")
    x = images(16, 8)
    y = shortcut(x)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert y.shape == (2, 32, 4, 4) and y[:, :8].abs().max() == y[:, 24:].abs().max() == 0


@pytest.mark.parametrize("arch", ["resnet20", "resnet18"])
def test_fixup_starts_as_identity_branches_and_zero_logits(arch: str) -> None:
    model = build_model(spec(arch, "fixup"))
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    with torch.no_grad():
        linear.bias.copy_(torch.arange(10.0))
        y = model(images(3, 32))
    assert torch.equal(y, torch.arange(10.0).expand(2, 10))
    blocks = [m for m in model.modules() if isinstance(m, BasicBlock)]
    for block in blocks:
        x = images(block.conv1.in_channels, 8) - 0.5
        with torch.no_grad():
            assert torch.equal(block(x), torch.relu(block.shortcut(x)))
        assert block.conv2.weight.abs().max() == 0
        fan_out = block.conv1.out_channels * 9
        expected = (2 / fan_out) ** 0.5 * len(blocks) ** -0.5
        assert block.conv1.weight.std().item() == pytest.approx(expected, rel=0.05)


def test_fixup_pre_activation_blocks_start_as_the_identity() -> None:
    from bench.models.wide_resnet import WideResNet
    from bench.norms import norm_factory
    from bench.norms.plain import fixup_init

    net = WideResNet(1, 1, norm_factory(NormSpec(name="fixup")), 3, 10, fixup=True)
    assert fixup_init(net) == 3
    block = next(m for m in net.modules() if isinstance(m, PreActBlock) and m.shortcut is None)
    x = images(16, 8) - 0.5
    assert torch.equal(block(x), x)
    assert net(images(3, 32)).abs().max() == 0


@pytest.mark.parametrize("norm", ["bn", "fixup", {"name": "rna", "pool": ["bn", "in"]}], ids=label)
def test_the_seed_fixes_the_weights_and_nothing_else(norm: Any) -> None:
    before = torch.get_rng_state()
    first, again, other = (build_model(spec("resnet20", norm), seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(123)
    later = build_model(spec("resnet20", norm), 1)
    torch.set_rng_state(before)
    for key, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])
        assert torch.equal(value, later.state_dict()[key])
    key = "net.stages.0.0.conv1.weight"
    assert not torch.equal(first.state_dict()[key], other.state_dict()[key])


def test_a_failed_build_gives_the_global_generator_back() -> None:
    before = torch.get_rng_state()
    with pytest.raises(Exception, match="16 channels does not divide"):
        build_model(spec("resnet20", {"name": "gn", "groups": 7}))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_model_carries_its_input_normalization() -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    model = build_model(spec("resnet20", mean=mean, std=std)).eval()
    x = images(3, 32)
    by_hand = torch.stack([(x[:, i] - mean[i]) / std[i] for i in range(3)], dim=1)
    torch.testing.assert_close(model(x), model.net(by_hand))
    identity = Classifier(spec("resnet20", mean=[0.0] * 3, std=[1.0] * 3), model.net).eval()
    torch.testing.assert_close(identity(by_hand), model(x))
    assert not [key for key in model.state_dict() if not key.startswith("net.")]


def test_population_statistics_do_not_mix_images() -> None:
    for norm in ("bn", {"name": "bgn", "groups": 8}, "in", "ln", {"name": "gn", "groups": 8}):
        model = build_model(spec("resnet20", norm)).eval()
        x = images(3, 32, n=4)
        with torch.no_grad():
            torch.testing.assert_close(model(x)[:1], model(x[:1]), rtol=1e-4, atol=1e-4)


def test_vgg_convolutions_follow_the_paper() -> None:
    with torch.device("meta"):
        widths = {
            arch: [m.out_channels for m in build_model(spec(arch)).modules()
                   if isinstance(m, nn.Conv2d)]
            for arch in ("vgg11", "vgg16")
        }  # fmt: skip
    assert widths["vgg11"] == [64, 128, 256, 256, 512, 512, 512, 512]
    assert widths["vgg16"] == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
