"""Opens models by name: a checkpoint's name, or a URI of any scheme."""

from __future__ import annotations

from pathlib import Path

from bench.core.model_uri import ModelUri, is_uri, parse_uri
from bench.core.paths import Where
from bench.core.registry import Deferred, Registry
from bench.models.external.scheme import Scheme, Source
from bench.zoo.checkpoint import Checkpoint, checkpoint_folder, open_checkpoint


def open_model(name: str, where: Where) -> Source:
    """Returns the model of a checkpoint's name or a URI.

    Raises:
        MissingCheckpointError: When the model, or a library that it needs, is missing.
        UserError: When there is no such scheme, or the query is invalid.
    """
    if not is_uri(name):
        return open_checkpoint(checkpoint_folder(where.checkpoints, name))
    uri = parse_uri(name)
    scheme = SCHEMES.get(uri.scheme)
    uri.only(scheme.keys)
    return scheme.open(uri, where)


def _open_zoo(uri: ModelUri, where: Where) -> Checkpoint:
    return open_checkpoint(checkpoint_folder(where.checkpoints, uri.path))


def shipped_folder(name: str, checkpoints: Path) -> Path | None:
    """Returns the folder to send to a machine that lacks the checkpoints.

    ``None`` for models that each machine resolves itself: URIs of libraries and of files.
    """
    if is_uri(name) and parse_uri(name).scheme != "zoo":
        return None
    return checkpoint_folder(checkpoints, name.removeprefix("zoo:"))


_FILE_KEYS = ("arch", "norm", "dataset", "channels", "size", "classes", "mean", "std", "shortcut")
_SHAPE = ("size", "channels", "classes")

SCHEMES: Registry[Scheme] = Registry("scheme")
"""What may stand before the colon of a model's URI; opening one imports its libraries."""
for _name, _scheme in {
    "file": Scheme(
        open=Deferred("bench.zoo.from_file:open_file"),
        keys=_FILE_KEYS,
        example="file:weights/net.safetensors?arch=resnet20&norm=bn&dataset=cifar10"
        "&mean=0.49,0.48,0.45&std=0.25,0.24,0.26",
        needs="the file",
    ),
    "hf": Scheme(
        open=Deferred("bench.zoo.from_file:open_hub"),
        keys=(*_FILE_KEYS, "revision"),
        example="hf:owner/repo/model.safetensors?arch=resnet18&norm=bn&dataset=cifar10"
        "&mean=0.49,0.48,0.45&std=0.25,0.24,0.26",
        needs="pip install 'rbench[hf]'; the file in its cache, or a network",
    ),
    "python": Scheme(
        open=Deferred("bench.models.external.from_python:open_python"),
        keys=(*_SHAPE, "mean", "std", "stochastic", "batch_dependent", "identity"),
        example="python:mymodels:make?size=32&channels=3&classes=10",
        needs="--trust-code",
    ),
    "robustbench": Scheme(
        open=Deferred("bench.models.external.from_robustbench:open_robustbench"),
        keys=("dataset", "threat", "weights"),
        example="robustbench:Wong2020Fast?dataset=cifar10&threat=Linf",
        needs="pip install 'rbench[robustbench]'; the weights in its cache, or a network",
    ),
    "timm": Scheme(
        open=Deferred("bench.models.external.from_timm:open_timm"),
        keys=("pretrained", *_SHAPE),
        example="timm:convnext_tiny.fb_in1k?pretrained=true",
        needs="pip install 'rbench[timm]'; the weights in its cache, or a network",
    ),
    "torchvision": Scheme(
        open=Deferred("bench.models.external.from_torchvision:open_torchvision"),
        keys=("weights", *_SHAPE),
        example="torchvision:resnet50?weights=DEFAULT",
        needs="the weights in torch's cache, or a network",
    ),
    "zoo": Scheme(
        open=_open_zoo, keys=(), example="zoo:fmnist-resnet20-bn", needs="the checkpoint"
    ),
}.items():
    SCHEMES.add(_name, _scheme)
