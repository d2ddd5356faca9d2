"""Other people's files: understood where they can be, and refused with everything that differs."""

from __future__ import annotations

import argparse
import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from bench.core.errors import UserError
from bench.core.model_spec import ModelSpec
from bench.core.spec import sha256_file
from bench.models import Classifier, build_model
from bench.models.external.from_robustbench import _old_names
from bench.zoo.foreign_names import our_names, parse_renames
from bench.zoo.imported import load_foreign, own_scale, read_foreign

Weights = dict[str, Tensor]


def spec_of(arch: str = "resnet20", norm: Any = "bn", **changes: Any) -> ModelSpec:
    fields = {
        "arch": arch,
        "norm": norm,
        "channels": 3,
        "size": 8,
        "classes": 5,
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
    }
    return ModelSpec.model_validate(fields | changes)


def trained(spec: ModelSpec) -> Classifier:
    """A model of which every parameter and statistic is off its default."""
    model = build_model(spec, seed=5)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in model.net.state_dict().values():
            if value.is_floating_point():
                value.add_(torch.rand(value.shape, generator=generator), alpha=0.05)
            else:
                value.fill_(7)
    return model.eval()


@pytest.fixture(scope="module")
def original() -> Classifier:
    return trained(spec_of())


@pytest.fixture(scope="module")
def ours(original: Classifier) -> Weights:
    return dict(original.net.state_dict())


def akamaster(blocks: list[int], norm: str = "bn", head: str = "linear") -> dict[str, str]:
    """Their name and ours of each tensor, from their code: conv1, bn1, layer1.0.conv1, linear."""
    tensors = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    table = {"conv1.weight": "conv1.weight"}
    for part in tensors:
        table[f"{norm}1.{part}"] = f"norm1.{part}"
    for stage, count in enumerate(blocks):
        for block in range(count):
            there, here = f"layer{stage + 1}.{block}", f"stages.{stage}.{block}"
            for k in "12":
                table[f"{there}.conv{k}.weight"] = f"{here}.conv{k}.weight"
                for part in tensors:
                    table[f"{there}.{norm}{k}.{part}"] = f"{here}.norm{k}.{part}"
    for part in ("weight", "bias"):
        table[f"{head}.{part}"] = f"fc.{part}"
    return table


def with_projections(table: dict[str, str], stages: list[int], where: str) -> dict[str, str]:
    table = dict(table)
    for stage in stages:
        there, here = f"layer{stage + 1}.0.{where}", f"stages.{stage}.0.shortcut"
        table[f"{there}.0.weight"] = f"{here}.0.weight"
        for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            table[f"{there}.1.{part}"] = f"{here}.1.{part}"
    return table


def in_their_names(weights: Weights, table: dict[str, str]) -> Weights:
    assert sorted(table.values()) == sorted(weights), "the test's own table is wrong"
    return OrderedDict((there, weights[here].clone()) for there, here in table.items())


def assert_same(model: Classifier, expected: Classifier) -> None:
    found, wanted = model.net.state_dict(), expected.net.state_dict()
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.equal(found[name], value), name
    assert not model.training
    size = (3, model.spec.channels, model.spec.size, model.spec.size)
    x = torch.rand(size, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model(x), expected(x))


WRITERS: dict[str, Callable[[Weights, Path], None]] = {
    "plain.pt": lambda w, p: torch.save(w, p),
    "legacy.th": lambda w, p: torch.save(w, p, _use_new_zipfile_serialization=False),
    "tensors.safetensors": lambda w, p: save_file(w, p),
    "nested.pth": lambda w, p: torch.save({"epoch": 3, "state_dict": w, "best_prec1": 91.7}, p),
    "deep.pth.tar": lambda w, p: torch.save({"run": {"model_state_dict": w}, "args": ["x"]}, p),
    "parallel.pt": lambda w, p: torch.save({f"module.{k}": v for k, v in w.items()}, p),
    "compiled.pt": lambda w, p: torch.save({f"module._orig_mod.{k}": v for k, v in w.items()}, p),
    "lightning.ckpt": lambda w, p: torch.save(
        {"state_dict": {f"model.net.{k}": v for k, v in w.items()}, "loops": {"n": 1}}, p
    ),
    "parameters.pt": lambda w, p: torch.save(
        {k: nn.Parameter(v) if v.is_floating_point() else v for k, v in w.items()}, p
    ),
}


@pytest.mark.parametrize("names", ["ours", "akamaster"])
@pytest.mark.parametrize("file", WRITERS)
def test_every_form_of_file_comes_in_exactly(
    file: str, names: str, original: Classifier, ours: Weights, tmp_path: Path
) -> None:
    weights = in_their_names(ours, akamaster([3, 3, 3])) if names == "akamaster" else ours
    path = tmp_path / file
    WRITERS[file](weights, path)
    found = read_foreign(path)
    assert found.sha256 == sha256_file(path)
    imported = load_foreign(found, original.spec)
    assert_same(imported.model, original)
    assert imported.notes == ()


@pytest.mark.parametrize(
    ("arch", "norm", "table"),
    [
        ("resnet20", "bn", with_projections(akamaster([3] * 3), [1, 2], "shortcut")),
        ("resnet18", "bn", with_projections(akamaster([2] * 4), [1, 2, 3], "shortcut")),
        (
            "resnet18",
            "bn",
            with_projections(akamaster([2] * 4, head="fc"), [1, 2, 3], "downsample"),
        ),
    ],
    ids=["akamaster option B", "kuangliu", "torchvision"],
)
def test_projections_under_their_names(
    arch: str, norm: str, table: dict[str, str], tmp_path: Path
) -> None:
    original = trained(spec_of(arch, norm, shortcut="conv"))
    torch.save(in_their_names(dict(original.net.state_dict()), table), tmp_path / "a.pt")
    assert_same(load_foreign(read_foreign(tmp_path / "a.pt"), original.spec).model, original)


def test_a_model_of_torchvision_itself(tmp_path: Path) -> None:
    """Names and meaning: with the weights of torchvision's ResNet-18, ours gives its logits."""
    models = pytest.importorskip("torchvision.models")
    theirs = models.resnet18(num_classes=5).eval()
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    spec = spec_of("resnet18", size=96, mean=[0.0] * 3, std=[1.0] * 3)
    model = load_foreign(read_foreign(tmp_path / "a.pth"), spec).model
    x = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model(x), theirs(x))


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("1.module.conv1.weight", "conv1.weight"),
        ("bn.running_mean", "norm.running_mean"),
        ("block1.layer.0.bn1.weight", "stages.0.0.norm1.weight"),
        ("block3.layer.4.conv2.weight", "stages.2.4.conv2.weight"),
        ("block2.layer.0.convShortcut.weight", "stages.1.0.shortcut.weight"),
        ("module.bn1.running_var", "norm1.running_var"),
        ("layer12.10.gn2.bias", "stages.11.10.norm2.bias"),
        ("layer4.1.bn2.norm.1.weight", "stages.3.1.norm2.branches.1.weight"),
        ("features.1.running_mean", "features.1.running_mean"),
        ("classifier.weight", "fc.weight"),
        ("layer0.0.conv1.weight", "layer0.0.conv1.weight"),
        ("stages.0.0.shortcut.1.bias", "stages.0.0.shortcut.1.bias"),
        ("linear_probe.weight", "linear_probe.weight"),
    ],
)
def test_names_of_other_families(theirs: str, ours: str) -> None:
    assert our_names([theirs]) == {ours: theirs}


ROBUSTBENCH = {
    "preact-resnet18": ("PreActBlockV2", True),
    "preact-resnet18-kuangliu": ("PreActBlockV2", False),
    "preact-resnet18-wong": ("PreActBlock", False),
}


@pytest.mark.parametrize("arch", ROBUSTBENCH)
def test_pre_activation_resnets_of_robustbench(arch: str, tmp_path: Path) -> None:
    """Names and meaning: with the weights of RobustBench's classes, ours give their logits.

    They are Rice et al.'s (2020), kuangliu's and Wong et al.'s (2020).
    """
    try:
        with _old_names():
            theirs = import_module("robustbench.model_zoo.architectures.resnet")
    except ImportError as error:
        pytest.skip(f"needs rbench[robustbench]: {error}")
    block, final = ROBUSTBENCH[arch]
    net = theirs.PreActResNet(getattr(theirs, block), [2] * 4, num_classes=5, bn_before_fc=final)
    generator = torch.Generator().manual_seed(2)
    for name, value in net.state_dict().items():
        if "bn" in name and value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    torch.save(net.eval().state_dict(), tmp_path / "a.pt")
    spec = spec_of(arch, size=32, mean=[0.0] * 3, std=[1.0] * 3)
    model = load_foreign(read_foreign(tmp_path / "a.pt"), spec).model
    x = torch.rand(2, 3, 32, 32, generator=generator)
    with torch.no_grad():
        torch.testing.assert_close(model(x), net(x))


def test_a_wide_resnet_as_xternalz_and_trades_name_it() -> None:
    names = build_model(spec_of("wrn-16-2")).net.state_dict()
    theirs = []
    for name in names:
        stage, _, rest = name.removeprefix("stages.").partition(".")
        block, _, leaf = rest.partition(".")
        inside = f"block{int(stage) + 1}.layer.{block}.{leaf}" if "stages." in name else name
        theirs.append(inside.replace("norm", "bn").replace(".shortcut.", ".convShortcut."))
    assert our_names(theirs).keys() == names.keys()


def test_own_renames_come_before_the_rules(
    original: Classifier, ours: Weights, tmp_path: Path
) -> None:
    theirs = in_their_names(ours, akamaster([3, 3, 3]))
    wrapped = {f"module.1.{name.replace('linear', 'out')}": v for name, v in theirs.items()}
    torch.save(wrapped, tmp_path / "a.pt")
    file = read_foreign(tmp_path / "a.pt")
    renames = parse_renames(["1.=", "out.=linear."])
    assert_same(load_foreign(file, original.spec, renames).model, original)
    with pytest.raises(UserError, match=r"--rename 2\.=x: no name begins with '2\.'; names are 1"):
        load_foreign(file, original.spec, [("2.", "x")])
    with pytest.raises(UserError, match="--rename: expected OLD=NEW"):
        parse_renames(["1."])
    with pytest.raises(UserError, match=r"'a\.w' and 'module\.a\.w' both become 'a\.w'"):
        our_names(["a.w", "module.a.w"])


def test_old_files_without_counters_and_half_precision_are_told(
    original: Classifier, ours: Weights, tmp_path: Path
) -> None:
    half = {k: v.half() for k, v in ours.items() if not k.endswith("num_batches_tracked")}
    torch.save(half, tmp_path / "a.pt")
    imported = load_foreign(read_foreign(tmp_path / "a.pt"), original.spec)
    assert imported.notes == (
        "19 counters num_batches_tracked were absent and are 0.",
        "Converted to float32 from torch.float16.",
    )
    found = imported.model.net.state_dict()
    assert found["conv1.weight"].dtype == torch.float32
    assert torch.equal(found["conv1.weight"], ours["conv1.weight"].half().float())
    assert int(found["norm1.num_batches_tracked"]) == 0


class Call:
    """A pickle that calls something when it is read."""

    def __init__(self, function: Callable[..., object], *args: object) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_that_calls_something_is_refused_and_nothing_is_called(
    legacy: bool, tmp_path: Path
) -> None:
    fired, path = tmp_path / "fired", tmp_path / "a.pt"
    content = {"w": torch.ones(2, 2), "hook": Call(os.system, f"touch {fired}")}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match=r"a\.pt: expected tensors alone.*asks for \w+\.system;"):
        read_foreign(path)
    assert not fired.exists()
    torch.load(path, weights_only=False)
    assert fired.exists(), "the bomb of this test is a dud"


def test_what_else_a_file_may_ask_for_is_named(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2, 2), "args": argparse.Namespace(lr=0.1)}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"asks for argparse\.Namespace.*its state dict alone"):
        read_foreign(tmp_path / "a.pt")
    torch.save(nn.Linear(2, 2), tmp_path / "b.pt")
    with pytest.raises(UserError, match=r"asks for torch\.nn\.modules\.linear\.Linear"):
        read_foreign(tmp_path / "b.pt")


def damaged(tmp_path: Path) -> dict[str, bytes]:
    torch.save({"w": torch.ones(100, 100)}, tmp_path / "good.pt")
    good = (tmp_path / "good.pt").read_bytes()
    return {
        "empty.pt": b"",
        "cut.pt": good[:-500],
        "text.th": b"hello world\n" * 20,
        "pickle.pth": pickle.dumps({"a": 1}),
        "cut.safetensors": b"\x10\x00\x00\x00\x00\x00\x00\x00{}",
        "html.pt": b"<!DOCTYPE html><html><body>404</body></html>",
    }


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_refused_in_a_line(tmp_path: Path) -> None:
    for name, content in damaged(tmp_path).items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(UserError, match="not a readable") as caught:
            read_foreign(path)
        assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no such file"):
        read_foreign(tmp_path / "none.pt")
    (tmp_path / "a.onnx").write_bytes(b"x")
    with pytest.raises(UserError, match=r"expected a file in \.pt, .*found '\.onnx'"):
        read_foreign(tmp_path / "a.onnx")


@pytest.mark.filterwarnings("ignore")
def test_torchscript_is_told_what_it_is(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"a TorchScript archive.*state_dict\(\) instead"):
        read_foreign(tmp_path / "a.pt")


def test_several_state_dicts_need_a_choice(
    original: Classifier, ours: Weights, tmp_path: Path
) -> None:
    path, other = tmp_path / "a.pt", {k: v * 2 for k, v in ours.items()}
    optimizer = {"state": {0: {"momentum_buffer": torch.ones(3, 3)}}, "param_groups": [{"lr": 1}]}
    rng = {"cpu": torch.get_rng_state()}
    content = {"model": other, "ema": {"shadow": ours}, "optimizer": optimizer, "rng": rng}
    torch.save(content, path)
    listed = r"several mappings of tensors: 'model' \(116 entries\), 'ema\.shadow' \(116 entries\);"
    with pytest.raises(UserError, match=listed + " choose one with --key"):
        read_foreign(path)
    file = read_foreign(path, "ema.shadow")
    assert file.key == "ema.shadow"
    assert_same(load_foreign(file, original.spec).model, original)
    with pytest.raises(UserError, match=r"at 'modle'; did you mean 'model'\?"):
        read_foreign(path, "modle")


def test_a_file_without_weights_says_what_it_holds(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "loss": torch.tensor(0.5)}, tmp_path / "a.pt")
    with pytest.raises(UserError, match="from names to tensors, found epoch, loss"):
        read_foreign(tmp_path / "a.pt")
    torch.save([torch.ones(2, 2)], tmp_path / "b.pt")
    with pytest.raises(UserError, match="found list"):
        read_foreign(tmp_path / "b.pt")
    circle: dict[str, Any] = {}
    circle["self"] = circle
    torch.save(circle, tmp_path / "c.pt")
    with pytest.raises(UserError, match="found self"):
        read_foreign(tmp_path / "c.pt")


def refusal(weights: dict[str, Any], spec: ModelSpec, tmp_path: Path) -> list[str]:
    torch.save(weights, tmp_path / "a.pt")
    with pytest.raises(UserError) as caught:
        load_foreign(read_foreign(tmp_path / "a.pt"), spec)
    return str(caught.value).split("\n  ")


def test_every_name_that_does_not_fit_is_listed(
    original: Classifier, ours: Weights, tmp_path: Path
) -> None:
    theirs: dict[str, Any] = in_their_names(ours, akamaster([3, 3, 3]))
    del theirs["layer1.2.conv1.weight"], theirs["bn1.running_mean"]
    theirs["linear.weight"] = torch.ones(10, 64)
    theirs["linear.bias"] = torch.ones(5, dtype=torch.int64)
    theirs["layer4.0.conv1.weight"] = torch.ones(2, 3, dtype=torch.float16)
    theirs["head\x1b[31m"] = torch.ones(1)
    theirs["epoch"] = 4
    head, *lines = refusal(theirs, original.spec, tmp_path)
    assert "do not fit resnet20 with norm bn, shortcut pad; choose another --arch or --norm" in head
    assert sorted(lines) == sorted(
        [
            "missing: stages.0.2.conv1.weight (16, 16, 3, 3)",
            "missing: norm1.running_mean (16,)",
            "fc.weight is (10, 64), expected (5, 64), in the file linear.weight",
            "fc.bias is (5,) int64, expected (5,), in the file linear.bias",
            "unexpected: stages.3.0.conv1.weight (2, 3) float16, in the file layer4.0.conv1.weight",
            "unexpected: 'head\\x1b[31m' (1,)",
            "unexpected: epoch (int, not a tensor)",
        ]
    )


def test_a_long_list_of_names_is_summed_up_and_names_the_way_out(
    ours: Weights, tmp_path: Path
) -> None:
    strange = {f"encoder.{name}": value for name, value in ours.items()}
    head, *lines = refusal(strange, spec_of(), tmp_path)
    for way in ("another --arch or --norm", "--rename OLD=NEW", "python:MODULE:FUNCTION"):
        assert way in head
    assert len(lines) == 12 and len(strange) == 116
    assert lines[5] == "... and 111 more missing" and lines[-1] == "... and 111 more unexpected"
    assert sum(line.startswith("missing: ") for line in lines) == 5
    other_norm = refusal(ours, spec_of(norm="in"), tmp_path)
    assert other_norm[-1] == "... and 52 more unexpected" and len(other_norm) == 7
    assert "leave out what no forward pass of its own uses with --drop" in other_norm[0]


@pytest.mark.parametrize(
    ("arch", "shortcut", "asked", "proposed"),
    [
        ("resnet20", "pad", "resnet38", "they fit --arch resnet20"),
        ("resnet56", "pad", "resnet20", "they fit --arch resnet56"),
        ("resnet32", "conv", "resnet18", "they fit --arch resnet32 --shortcut conv"),
        ("wrn-16-4", "pad", "wrn-28-10", "they fit --arch wrn-16-4"),
        (
            "preact-resnet18-wong",
            "pad",
            "preact-resnet18",
            "they fit --arch preact-resnet18-kuangliu and --arch preact-resnet18-wong",
        ),
    ],
)
def test_the_architecture_that_fits_is_proposed(
    arch: str, shortcut: str, asked: str, proposed: str, tmp_path: Path
) -> None:
    weights = dict(build_model(spec_of(arch, shortcut=shortcut)).net.state_dict())
    assert refusal(weights, spec_of(asked), tmp_path)[0].endswith(f"; {proposed}")


def test_entries_that_no_pass_uses_are_left_out_and_told(tmp_path: Path) -> None:
    """TRADES' WideResNet makes a second first block, and never calls it; thop leaves counters."""
    original = trained(spec_of("wrn-10-1"))
    weights = dict(original.net.state_dict())
    theirs = {}
    for name, value in weights.items():
        stage, _, rest = name.removeprefix("stages.").partition(".")
        block, _, leaf = rest.partition(".")
        inside = f"block{int(stage) + 1}.layer.{block}.{leaf}" if "stages." in name else name
        inside = inside.replace("norm", "bn").replace(".shortcut.", ".convShortcut.")
        theirs[f"module.{inside}"] = value
        if inside.startswith("block1."):
            theirs[f"module.sub_{inside}"] = value + 1
    theirs["module.total_ops"] = torch.zeros(1)
    torch.save(theirs, tmp_path / "a.pt")
    imported = load_foreign(read_foreign(tmp_path / "a.pt"), original.spec)
    assert_same(imported.model, original)
    unused, counters = imported.notes
    assert unused.startswith("Left out 12 entries (module.sub_block1.layer.0.bn1.weight, ")
    assert unused.endswith("TRADES' WideResNet makes a second first block, and calls it nowhere.")
    assert counters.startswith("Left out 1 entries (module.total_ops): thop")


def test_other_entries_are_left_out_on_request_only(
    original: Classifier, ours: Weights, tmp_path: Path
) -> None:
    more = {**ours, "module.aux.weight": torch.ones(2, 2), "aux.bias": torch.ones(2), "epoch": 3}
    torch.save(more, tmp_path / "a.pt")
    file = read_foreign(tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"--drop 'PATTERN'.*\n  unexpected: aux\.weight"):
        load_foreign(file, original.spec)
    imported = load_foreign(file, original.spec, drops=["aux.*", "epoch"])
    assert_same(imported.model, original)
    assert imported.notes == (
        "Left out 2 entries (module.aux.weight, aux.bias): --drop aux.*.",
        "Left out 1 entries (epoch): --drop epoch.",
    )
    with pytest.raises(UserError, match=r"--drop aux: no name matches; names are conv1\.weight"):
        load_foreign(file, original.spec, drops=["aux"])
    with pytest.raises(UserError, match=r"missing: fc\.weight"):
        load_foreign(file, original.spec, drops=["aux.*", "epoch", "fc.weight"])


MEAN, STD = [0.25, 0.5, 0.125], [0.5, 0.25, 0.75]


@pytest.mark.parametrize(
    ("inside", "beside", "names"),
    [
        ({"mu": MEAN, "sigma": STD}, {}, "mu and sigma"),
        ({"normalize.mean": MEAN, "normalize.std": STD}, {}, "normalize.mean and normalize.std"),
        ({"0.mean": MEAN, "0.std": STD}, {}, "0.mean and 0.std"),
        ({}, {"mean": MEAN, "std": STD}, "mean and std"),
        ({}, {"mean": [255 * m for m in MEAN], "std": [255 * s for s in STD]}, "mean and std, the"),
    ],
)
def test_the_mean_and_std_in_a_file_are_found_and_are_no_weights(
    inside: dict[str, list[float]],
    beside: dict[str, list[float]],
    names: str,
    original: Classifier,
    ours: Weights,
    tmp_path: Path,
) -> None:
    first = "1." if "0.mean" in inside else ""
    weights = {f"{first}{name}": value for name, value in ours.items()}
    weights |= {name: torch.tensor(v).view(1, 3, 1, 1) for name, v in inside.items()}
    content = {"state_dict": weights, **beside} if beside else weights
    torch.save(content, tmp_path / "a.pt")
    file = read_foreign(tmp_path / "a.pt")
    scale = own_scale(file, 3)
    assert scale is not None and (scale.mean, scale.std) == (tuple(MEAN), tuple(STD))
    assert scale.note.startswith(f"found in the file as {names}")
    assert_same(load_foreign(file, original.spec).model, original)


@pytest.mark.parametrize(
    "entries",
    [
        {"mean": [0.5] * 3},
        {"mean": [0.5] * 4, "std": [0.5] * 4},
        {"mean": [0.5] * 3, "std": [0.0] * 3},
        {"mean": [0.5] * 3, "std": [float("nan")] * 3},
        {"mean": [0.5] * 3, "std": [0.5] * 3, "mu": [0.4] * 3, "sigma": [0.5] * 3},
        {"running_mean": [0.5] * 3, "running_std": [0.5] * 3},
    ],
    ids=str,
)
def test_what_is_no_mean_and_std_of_the_input_stays_unexpected(
    entries: dict[str, list[float]], original: Classifier, ours: Weights, tmp_path: Path
) -> None:
    torch.save({**ours, **{k: torch.tensor(v) for k, v in entries.items()}}, tmp_path / "a.pt")
    file = read_foreign(tmp_path / "a.pt")
    assert own_scale(file, 3) is None
    with pytest.raises(UserError, match="unexpected: "):
        load_foreign(file, original.spec)


@pytest.mark.parametrize(("file_has", "asked"), [("conv", "pad"), ("pad", "conv")])
def test_the_other_kind_of_shortcut_is_proposed(file_has: str, asked: str, tmp_path: Path) -> None:
    weights = dict(build_model(spec_of(shortcut=file_has)).net.state_dict())
    head, *lines = refusal(weights, spec_of(shortcut=asked), tmp_path)
    assert head.endswith(f"only the shortcuts differ: try --shortcut {file_has}")
    assert len(lines) == 6 and lines[-1].startswith("... and 7 more ")


@pytest.mark.filterwarnings("ignore:Validating sparse")
def test_values_that_are_no_numbers_are_refused(
    original: Classifier, ours: Weights, tmp_path: Path
) -> None:
    weights = {k: v.clone() for k, v in ours.items()}
    weights["fc.bias"][0] = float("nan")
    torch.save(weights, tmp_path / "a.pt")
    with pytest.raises(
        UserError, match=r"not imported: 1 tensors with NaN or infinite values: fc\.bias"
    ):
        load_foreign(read_foreign(tmp_path / "a.pt"), original.spec)
    sparse: dict[str, Any] = dict(ours)
    sparse["fc.weight"] = ours["fc.weight"].to_sparse()
    assert any("fc.weight is" in line for line in refusal(sparse, original.spec, tmp_path))
