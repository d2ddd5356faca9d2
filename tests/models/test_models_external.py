"""Other people's models by URI: what they are, what identifies them, what is refused."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from external_scenes import ROBUST, forget, need_robustbench, sha256
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models
from torchvision.models.resnet import ResNet18_Weights

from bench.core.errors import MissingCheckpointError, UserError
from bench.core.model_spec import ModelSpec
from bench.core.model_uri import canonical_name, parse_uri, short_name
from bench.core.norm_spec import NormSpec
from bench.core.paths import Where
from bench.evaluation.model import Target
from bench.models import build_model
from bench.models.external import from_robustbench, scheme
from bench.models.external.library_model import Declared, LibraryModel
from bench.norms import replace_norms, use_batch_statistics
from bench.untrusted.weights import calling_library, read_safetensors, tensors_only
from bench.zoo import SCHEMES, open_model

ROOT = Path(__file__).parents[2]
LOOKUP = Where(ROOT / "checkpoints")
GIVEN = "&mean=0.5,0.5,0.5&std=0.25,0.25,0.25"
NET = "torchvision:resnet18?size=32&classes=3"


@pytest.fixture(autouse=True)
def _anew() -> Iterator[None]:
    forget()
    yield
    forget()


# URIs.


def test_a_uri_is_taken_apart() -> None:
    uri = parse_uri("file:a b/c.safetensors?arch=vgg11&mean=0.5%2C1/2&n=3&yes=True&norm={name: gn}")
    assert (uri.scheme, uri.path) == ("file", "a b/c.safetensors")
    assert uri.numbers("mean") == (0.5, 0.5) and uri.whole("n") == 3 and uri.flag("yes") is True
    assert uri.query["norm"] == "{name: gn}" and uri.whole("none") is None
    assert parse_uri("python:a.b:make").path == "a.b:make"


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("fmnist-resnet20-bn", "fmnist-resnet20-bn"),
        ("zoo:fmnist-resnet20-bn", "fmnist-resnet20-bn"),
        ("torchvision:resnet50?weights=DEFAULT", "resnet50 (torchvision)"),
        ("torchvision:resnet50?weights=IMAGENET1K_V1", "resnet50 (torchvision IMAGENET1K_V1)"),
        ("torchvision:resnet50?size=32", "resnet50 (torchvision random)"),
        ("timm:vit_b_16.augreg?pretrained=true", "vit_b_16.augreg (timm)"),
        ("timm:vit_b_16", "vit_b_16 (timm random)"),
        ("robustbench:A?dataset=cifar10&threat=L2", "A (RobustBench cifar10 L2)"),
        ("hf:me/nets/a/b.safetensors?arch=vgg11", "me/nets (hf)"),
        ("file:/tmp/nets/best.safetensors?arch=vgg11", "best (file)"),
        ("file:/tmp/nets/folder.v2", "folder.v2 (file)"),
        ("python:mine.nets:make", "make (mine.nets)"),
        ("timm:x?pretrained=perhaps", "timm:x?pretrained=perhaps"),
        ("no such thing:", "no such thing:"),
    ],
)
def test_tables_call_a_uri_by_a_few_words(name: str, short: str) -> None:
    assert short_name(name) == short
    assert ", " not in short  # which stands between the parts of a label


def test_a_checkpoints_uri_is_its_name() -> None:
    assert canonical_name("zoo:first") == canonical_name("first") == "first"
    for other in ("file:a", "zoo:python:os:system", "zoo:zoo:a", "zoo:a?b=c"):
        assert canonical_name(other) == other


REFUSED = {
    "torchvison:resnet18": "unknown scheme 'torchvison'; did you mean 'torchvision'?",
    "torchvision:resnet81": "no classifier 'resnet81'; did you mean",
    "torchvision:../../etc/passwd": "torchvision has no classifier",
    "torchvision:deeplabv3_resnet50": "torchvision has no classifier",
    "torchvision:resnet18?weight=DEFAULT": "unknown key 'weight'; did you mean 'weights'?",
    "torchvision:resnet18?weights=IMAGENET1K_V9": "did you mean 'IMAGENET1K_V1'?",
    "torchvision:resnet18?weights=DEFAULT&size=32": "size is for random weights",
    "torchvision:resnet18?size=32&size=64": "given twice",
    "torchvision:resnet18?size=0": "size: expected a whole number",
    "torchvision:resnet18?size=9999999999": "size: expected a whole number",
    "torchvision:resnet18?size=%00": "not printable",
    "torchvision:resnet18?size": "expected KEY=VALUE",
    "torchvision:vit_b_16?size=30&classes=3": "vit_b_16?size=30&classes=3: AssertionError",
    "torchvision:": "expected a name or path",
    "Torchvision:resnet18": "expected a checkpoint's name, or SCHEME:PATH",
    "a\nb:c": "expected a checkpoint's name, or SCHEME:PATH",
    "file:" + "x" * 2_000: "at most 1,000 printable characters",
    "zoo:../fmnist-resnet20-bn": "expected the name of a folder",
    "zoo:/etc": "expected the name of a folder",
    "my.pt": "expected the name of a folder in checkpoints, found a file; bring it in once with: "
    "rbench zoo import my.pt --arch ... --norm ... --dataset ...; for a network that rbench list "
    "models lacks, write a function that builds and loads it, and name that as python:MODULE:FUNC",
    "runs/my.safetensors": "rbench zoo import runs/my.safetensors --arch",
    "my.onnx": "write a function that builds and loads it, and name that as python:MODULE:FUNCTION",
    "nets.py": "name the function in it that returns the network, python:MODULE:FUNCTION",
    "runs/mine": "one elsewhere is file:PATH",
    "zoo:fmnist-resnet20-bn?stats=batch": "unknown key 'stats'",
    "hf:../../etc/passwd": "expected hf:OWNER/REPO/FILE.safetensors",
    "hf:owner/repo/../x.safetensors?arch=vgg11&norm=bn": "expected hf:OWNER/REPO/FILE.safetensors",
    "hf:owner/repo/model.bin?arch=vgg11&norm=bn": "expected hf:OWNER/REPO/FILE.safetensors",
    "hf:owner/model.safetensors?arch=vgg11&norm=bn": "expected hf:OWNER/REPO/FILE.safetensors",
    "hf:a/b/c.safetensors?arch=vgg12&norm=bn&dataset=cifar10": "unknown arch 'vgg12'",
    "file:/etc/passwd": "arch is missing",
    "file:/etc/passwd?arch=vgg11&norm=bn&dataset=cifar10": "a file in .safetensors",
    "file:/no.safetensors?arch=vgg11&norm=bn&dataset=cifar10": "no such file",
    "hf:a/b/c.safetensors?arch=vgg11&norm=bn&dataset=fashion-mnist": "give mean and std, as a file "
    "of weights does not tell them and several are in use: mean 0.286, std 0.353 (Fashion-MNIST's",
    "hf:a/b/c.safetensors?arch=vgg11&norm=bn&dataset=fashion-mnist&std=0.5": "mean 0.1307, std 0.5",
    "file:/no.safetensors?arch=vgg11&norm=bn": "Field required",
    "file:/no.safetensors?arch=vgg11&norm={name: rna}&dataset=cifar10": "needs a pool",
    "file:/no.safetensors?arch=vgg11&norm=foreign&dataset=cifar10": "for networks of other",
    "file:/no.safetensors?arch=vgg11&norm={&dataset=cifar10": "norm: expected bn",
    "file:/no.safetensors?arch=vgg11&norm=bn&dataset=cifar11": "unknown data set",
    "file:/no.safetensors?arch=vgg11&norm=bn&dataset=cifar10&mean=x": "mean: ",
    "python:os": "expected python:MODULE:CALLABLE",
    "python:os;import:system": "expected python:MODULE:CALLABLE",
    "python:os:system": "runs code of the module 'os'; if you trust it, add --trust-code",
}


@pytest.mark.parametrize("uri", REFUSED)
def test_what_is_refused_in_one_line(uri: str) -> None:
    with pytest.raises(UserError, match=re.escape(REFUSED[uri])) as refused:
        open_model(uri, LOOKUP).facts()
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 800


@pytest.mark.parametrize(
    ("module", "uri", "extra"),
    [
        ("timm", "timm:resnet18", "timm"),
        ("robustbench.utils", "robustbench:A?dataset=cifar10&threat=L2", "robustbench"),
        (
            "huggingface_hub",
            f"hf:a/b/c.safetensors?arch=vgg11&norm=bn&dataset=cifar10{GIVEN}",
            "hf",
        ),
    ],
)
def test_a_missing_extra_is_named(
    module: str, uri: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingCheckpointError, match=re.escape(f"pip install 'rbench[{extra}]'")):
        open_model(uri, LOOKUP)
    setup = (ROOT / "setup.cfg").read_text()
    assert f"\n{extra} =\n" in setup


def test_a_library_that_is_absent_is_told_from_one_that_lacks_something(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not by the module that its import happens to miss first."""
    uri = "robustbench:A?dataset=cifar10&threat=L2"
    error = ModuleNotFoundError("No module named 'pkg_resources'", name="pkg_resources")
    monkeypatch.setattr(scheme, "find_spec", lambda name: None)
    absent = str(scheme.missing_extra(uri, "robustbench", error))
    assert absent == f"{uri}: robustbench is not installed; pip install 'rbench[robustbench]'"
    monkeypatch.setattr(scheme, "find_spec", lambda name: object())
    broken = str(scheme.missing_extra(uri, "robustbench", error))
    assert "robustbench is installed, but cannot be imported" in broken
    assert "No module named 'pkg_resources'" in broken and "rbench[robustbench]" in broken


def test_robustbench_that_is_absent_is_not_half_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its stand-ins import other packages, whose faults would be reported in place of it."""
    imported = []

    def none(name: str) -> None:
        return None

    def fail(name: str) -> Any:
        imported.append(name)
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(scheme, "find_spec", none)
    monkeypatch.setattr(from_robustbench, "find_spec", none)
    monkeypatch.setattr(from_robustbench, "import_module", fail)
    with pytest.raises(MissingCheckpointError, match="robustbench is not installed; pip install"):
        open_model("robustbench:A?dataset=cifar10&threat=L2", LOOKUP)
    assert imported == ["robustbench.utils"]


def test_weights_that_cannot_be_fetched_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no\nnetwork")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    monkeypatch.setenv("TORCH_HOME", "/nowhere/at/all")
    with pytest.raises(MissingCheckpointError, match=r"not in the local cache.*\(.*\)$"):
        open_model("torchvision:resnet18?weights=DEFAULT", LOOKUP).facts()


def test_every_scheme_has_an_example_of_its_own() -> None:
    for name in SCHEMES:
        scheme = SCHEMES.get(name)
        uri = parse_uri(scheme.example)
        assert uri.scheme == name and scheme.needs
        uri.only(scheme.keys)


# Identity.


@pytest.mark.process
def test_the_same_uri_is_the_same_model_and_gives_the_generator_back() -> None:
    before = torch.get_rng_state()
    first, facts = sha256(NET), open_model(NET, LOOKUP).facts()
    assert first == sha256(NET) and torch.equal(before, torch.get_rng_state())
    assert facts.training == "none: random weights of seed 0" and facts.spec.norm.name == "bn"
    assert (facts.spec.size, facts.spec.channels, facts.spec.classes) == (32, 3, 3)
    torch.manual_seed(5)
    assert first == sha256(NET)


@pytest.mark.process
@pytest.mark.parametrize(
    "other", ["resnet18?size=64&classes=3", "resnet18?size=32&classes=4", "vgg11?size=32&classes=3"]
)
def test_another_uri_is_another_model(other: str) -> None:
    assert sha256(NET) != sha256(f"torchvision:{other}")


@pytest.mark.process
def test_identity_changes_with_preprocessing_and_with_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = sha256(NET)
    preset = ResNet18_Weights.DEFAULT.transforms

    def moved() -> Any:
        found = preset()
        found.std = [0.25, 0.25, 0.25]
        return found

    with monkeypatch.context() as patch:
        value = ResNet18_Weights.DEFAULT.value
        patch.setattr(
            ResNet18_Weights.DEFAULT, "_value_", type(value)(value.url, moved, value.meta)
        )
        second = sha256(NET)
    make = models.get_model

    def nudged(*args: Any, **kwargs: Any) -> nn.Module:
        net = make(*args, **kwargs)
        with torch.no_grad():
            net.fc.bias[0] += 1e-6
        return net

    monkeypatch.setattr(models, "get_model", nudged)
    assert len({first, second, sha256(NET)}) == 3


# What a network is.


def test_images_are_normalized_as_the_weights_ask_for() -> None:
    model = open_model(NET, LOOKUP).load()
    x = torch.rand(2, 3, 32, 32)
    preset = ResNet18_Weights.DEFAULT.transforms()
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (preset.mean, preset.std))
    with torch.no_grad():
        assert torch.equal(model(x), model.net((x - mean) / std))
    assert not any(module.training for module in model.modules())


@pytest.mark.process
def test_other_channels_take_the_average() -> None:
    source = open_model("torchvision:vgg11?size=32&channels=1&classes=3", LOOKUP)
    spec = source.facts().spec
    assert spec.channels == 1 and math.isclose(spec.mean[0], (0.485 + 0.456 + 0.406) / 3)
    assert source.load()(torch.rand(2, 1, 32, 32)).shape == (2, 3)


@pytest.mark.process
def test_weights_are_loaded_with_their_own_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file that torchvision would fetch is put into its cache."""
    net = models.get_model("resnet18", weights=None)
    path = tmp_path / "hub" / "checkpoints" / Path(ResNet18_Weights.DEFAULT.url).name
    path.parent.mkdir(parents=True)
    torch.save(net.state_dict(), path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    source = open_model("torchvision:resnet18?weights=DEFAULT", LOOKUP)
    facts = source.facts()
    assert (facts.spec.size, facts.spec.classes, facts.dataset) == (224, 1000, "imagenet")
    assert facts.training == "torchvision's IMAGENET1K_V1"
    found = source.load().net.state_dict()
    assert all(torch.equal(found[name], value) for name, value in net.state_dict().items())


class Planted:
    """A pickle that would make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        import os

        return os.mkdir, (str(self.path),)


def test_a_pickle_in_a_librarys_cache_is_not_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchvision itself would run it."""
    path = tmp_path / "hub" / "checkpoints" / Path(ResNet18_Weights.DEFAULT.url).name
    path.parent.mkdir(parents=True)
    torch.save({"a": Planted(tmp_path / "canary")}, path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    before = torch.load
    with pytest.raises(UserError, match="nothing of it was run"):
        open_model("torchvision:resnet18?weights=DEFAULT", LOOKUP).facts()
    assert not (tmp_path / "canary").exists() and torch.load is before


def test_tensors_alone_are_loaded_whatever_is_asked_for(tmp_path: Path) -> None:
    torch.save({"a": Planted(tmp_path / "canary")}, tmp_path / "a.pt")
    with pytest.raises(UserError), calling_library("x:y"), tensors_only():
        torch.load(tmp_path / "a.pt", weights_only=False)
    assert not (tmp_path / "canary").exists()


@pytest.mark.process
def test_batch_statistics_are_the_batchs_and_what_is_tracked_stays() -> None:
    source = open_model(NET, LOOKUP)
    model, x = source.load("batch"), torch.rand(4, 3, 32, 32)
    assert model.spec.norm.inference_stats == "batch" and Target.of(model).batch_dependent
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        found = model(x)
        expected = source.load()
        for layer in expected.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.train().momentum = 0.0
        assert torch.equal(found, expected(x))
        assert not torch.allclose(found, source.load()(x))
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert not Target.of(source.load()).batch_dependent


def test_a_layer_of_a_subclass_keeps_what_else_it_does() -> None:
    class WithActivation(nn.BatchNorm2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).relu()

    layer, x = WithActivation(3).eval(), torch.randn(4, 3, 5, 5)
    assert use_batch_statistics(nn.Sequential(layer, nn.BatchNorm1d(3))) == 2
    expected = (x - x.mean((0, 2, 3), True)) / (x.var((0, 2, 3), keepdim=True, correction=0)).sqrt()
    assert torch.allclose(layer(x), expected.relu(), atol=1e-4)
    assert torch.equal(layer.running_mean, torch.zeros(3))  # type: ignore[arg-type]


@pytest.mark.process
def test_a_network_without_batch_norm_has_no_choice_of_statistics() -> None:
    source = open_model("torchvision:vit_b_16?size=32&classes=3", LOOKUP)
    assert source.facts().spec.norm == NormSpec(name="foreign")
    with pytest.raises(UserError, match="has no choice of statistics"):
        source.load("batch")


@pytest.mark.process
@pytest.mark.parametrize(
    ("norm", "name", "declares"),
    [
        ("bn", "bn", ()),
        ({"name": "bn", "stats": "batch"}, "foreign", ("batch-dependent",)),
        ("rn", "foreign", ("batch-dependent",)),
        (
            {"name": "rna", "pool": [{"name": "gn", "groups": 2}, "in"]},
            "foreign",
            ("stochastic",),
        ),
    ],
)
def test_layers_of_this_project_show_what_they_do(norm: Any, name: str, declares: Any) -> None:
    """As in a network of one's own that ``replace_norms`` was put to use in."""

    def build() -> tuple[nn.Module, Declared]:
        net = models.resnet18(num_classes=3)
        replace_norms(net, NormSpec.model_validate(norm))
        return net, Declared("own", 3, 32, 3, (0.0,) * 3, (1.0,) * 3)

    source = LibraryModel(parse_uri("python:own:net"), build)
    found = source.facts().spec.norm
    assert (found.name, found.declares) == (name, declares)
    assert Target.of(source.load()).stochastic == found.stochastic
    assert Target.of(source.load()).batch_dependent == found.batch_dependent
    if name == "bn":
        assert Target.of(source.load("batch")).batch_dependent


# Files.


def test_a_file_of_tensors_and_a_folder(tmp_path: Path) -> None:
    spec = ModelSpec.model_validate(
        {"arch": "resnet20", "norm": {"name": "gn", "groups": 4}, "channels": 1, "size": 8}
        | {"classes": 3, "mean": [0.5], "std": [0.5]}
    )
    model = build_model(spec, seed=3).eval()
    path = tmp_path / "net.safetensors"
    save_file({f"module.{k}": v.contiguous() for k, v in model.net.state_dict().items()}, path)
    query = "arch=resnet20&norm={name: gn, groups: 4}&channels=1&size=8&classes=3"
    uri = f"file:{path}?{query}&mean=0.5&std=0.5"
    loaded = open_model(uri, LOOKUP).load()
    x = torch.rand(2, 1, 8, 8)
    assert loaded.spec == spec and torch.equal(loaded(x), model(x))
    other = f"file:{path}?{query}&mean=0.4&std=0.5"
    assert sha256(uri) == sha256(uri) != sha256(other)
    before = sha256(uri)
    save_file({k: v + 0 for k, v in build_model(spec).net.state_dict().items()}, path)
    assert sha256(uri) != before
    folder = LOOKUP.checkpoints / "fmnist-resnet20-bn"
    named = open_model("fmnist-resnet20-bn", LOOKUP)
    assert open_model(f"file:{folder}", LOOKUP).facts() == named.facts()
    assert open_model("zoo:fmnist-resnet20-bn", LOOKUP).facts() == named.facts()
    assert read_safetensors(folder / "model.safetensors")


def test_a_file_of_the_hub_is_taken_from_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache is laid out as the hub's own library does it; there is no network."""
    constants = pytest.importorskip("huggingface_hub.constants", reason="needs rbench[hf]")
    query = "arch=resnet20&norm=bn&channels=1&size=8&classes=3&mean=0.5&std=0.5"
    uri = f"hf:me/nets/small/net.safetensors?{query}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingCheckpointError, match="not in the local cache"):
        open_model(uri, LOOKUP)
    spec = ModelSpec.model_validate(
        {"arch": "resnet20", "norm": "bn", "channels": 1, "size": 8, "classes": 3}
        | {"mean": [0.5], "std": [0.5]}
    )
    model, commit = build_model(spec, seed=3).eval(), "0123456789abcdef" * 2 + "01234567"
    repository = tmp_path / "models--me--nets"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    path = repository / "snapshots" / commit / "small" / "net.safetensors"
    path.parent.mkdir(parents=True)
    save_file({k: v.contiguous() for k, v in model.net.state_dict().items()}, path)
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(open_model(uri, LOOKUP).load()(x), model(x))
    assert sha256(uri) == sha256(f"{uri}&revision={commit}")
    with pytest.raises(MissingCheckpointError, match="not in the local cache"):
        open_model(f"{uri}&revision={'f' * 40}", LOOKUP)


def test_a_file_that_does_not_fit_says_so(tmp_path: Path) -> None:
    save_file({"a.weight": torch.zeros(2, 2)}, tmp_path / "a.safetensors")
    uri = f"file:{tmp_path}/a.safetensors?arch=resnet20&norm=bn&dataset=cifar10{GIVEN}"
    with pytest.raises(UserError, match="the weights do not fit resnet20"):
        open_model(uri, LOOKUP).load()
    with pytest.raises(UserError, match="give mean and std"):
        open_model(uri.removesuffix(GIVEN), LOOKUP)
    weights = {"mu": torch.tensor([0.4] * 3), "sigma": torch.tensor([0.25] * 3)}
    save_file({"a.weight": torch.zeros(2, 2), **weights}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"holds mean 0\.4/0\.4/0\.4, .*, but the URI gives others"):
        open_model(uri, LOOKUP).load()
    (tmp_path / "a.safetensors").write_bytes(b"\x80\x02cos\nmkdir\n")
    with pytest.raises(UserError, match="not a readable safetensors file"):
        open_model(uri, LOOKUP).load()


# Other libraries.


@pytest.mark.process
def test_a_model_of_timm() -> None:
    pytest.importorskip("timm", reason="needs rbench[timm]")
    uri = "timm:test_efficientnet?size=32&channels=3&classes=3"
    source = open_model(uri, LOOKUP)
    facts, x = source.facts(), torch.rand(4, 3, 32, 32)
    assert facts.spec.norm.name == "bn"
    assert facts.spec.std == source.load().net.pretrained_cfg["std"]  # type: ignore[index,union-attr]
    with torch.no_grad():
        apart = source.load("batch")(x) - source.load()(x)
    assert apart.abs().max() > 0 and Target.of(source.load("batch")).batch_dependent
    assert sha256(uri) != sha256("timm:test_efficientnet?size=64&channels=3&classes=3")
    vit = open_model("timm:test_vit?size=32&classes=3", LOOKUP).facts()
    assert vit.spec.norm.name == "foreign" and vit.spec.size == 32
    for bad in ("timm:hf-hub:me/net", "timm:local-dir:/etc", "timm:test_vitt", "timm:../x"):
        with pytest.raises(UserError, match="timm has no model"):
            open_model(bad, LOOKUP)
    with pytest.raises(UserError, match="size is for random weights"):
        open_model("timm:test_vit?pretrained=true&size=32", LOOKUP)


@pytest.mark.process
def test_timms_weights_are_read_as_tensors_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file stands in for what timm would fetch, whatever that is."""
    timm = pytest.importorskip("timm", reason="needs rbench[timm]")
    net = timm.create_model("test_vit", pretrained=False)
    path = tmp_path / "test_vit.pth"
    torch.save(net.state_dict(), path)
    create = timm.create_model

    def from_file(*args: Any, pretrained: bool, **kwargs: Any) -> Any:
        overlay = {"file": str(path), "hf_hub_id": None}
        return create(*args, pretrained=pretrained, pretrained_cfg_overlay=overlay, **kwargs)

    monkeypatch.setattr(timm, "create_model", from_file)
    source = open_model("timm:test_vit?pretrained=true", LOOKUP)
    facts = source.facts()
    assert facts.training.startswith("timm's") and facts.spec.classes == 1000
    found = source.load().net.state_dict()
    assert all(torch.equal(found[name], value) for name, value in net.state_dict().items())
    torch.save({"a": Planted(tmp_path / "canary")}, path)
    forget()
    with pytest.raises(UserError):
        source.facts()
    assert not (tmp_path / "canary").exists()


@pytest.fixture
def robustbench() -> Any:
    """RobustBench's zoo, where it can be imported."""
    need_robustbench()
    return sys.modules["robustbench.utils"]


@pytest.mark.process
def test_a_model_of_robustbench(
    robustbench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its architecture with weights made here, where its own loader looks for them."""
    monkeypatch.chdir(tmp_path)
    net = open_model(f"{ROBUST}&weights=none", LOOKUP).load().net
    with torch.no_grad():
        next(net.parameters()).mul_(2)
    path = tmp_path / "models" / "cifar10" / "Linf" / "Rade2021Helper_R18_ddpm.pt"
    path.parent.mkdir(parents=True)
    torch.save({"state_dict": net.state_dict()}, path)
    source = open_model(ROBUST, LOOKUP)
    facts, x = source.facts(), torch.rand(2, 3, 32, 32)
    assert facts.spec.mean == (0, 0, 0) and facts.dataset == "cifar10" and not facts.std_known
    with torch.no_grad():
        assert torch.equal(source.load()(x), net(x))
    assert facts.sha256 != sha256(f"{ROBUST}&weights=none")
    torch.save({"a": Planted(tmp_path / "canary")}, path)
    forget()
    with pytest.raises(UserError, match="nothing of it was run"):
        source.facts()
    assert not (tmp_path / "canary").exists()


def test_what_robustbench_does_not_have_is_refused(robustbench: Any) -> None:
    for bad, says in {
        "robustbench:Rade2021?dataset=cifar10&threat=Linf": "did you mean 'Rade2021Helper",
        "robustbench:../../x?dataset=cifar10&threat=Linf": "has no model",
        "robustbench:Standard?dataset=cifar10&threat=linf": "did you mean 'Linf'?",
        "robustbench:Standard?dataset=cifar&threat=Linf": "did you mean 'cifar10",
        "robustbench:Standard": "dataset: found ''",
    }.items():
        with pytest.raises(UserError, match=re.escape(says)):
            open_model(bad, LOOKUP)
