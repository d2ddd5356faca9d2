"""Opens models by name: a checkpoint's name, or a URI of any scheme."""

from __future__ import annotations

from pathlib import Path

from bench.core.model_uri import ModelUri, is_uri, parse_uri
from bench.core.registry import Registry
from bench.models.external.scheme import ModelLookup, Scheme, Source
from bench.zoo.checkpoint import Checkpoint, checkpoint_folder, open_checkpoint

SCHEMES: Registry[Scheme] = Registry("scheme")
for _name, _target in {
    "file": "bench.zoo.from_file:FILE",
    "hf": "bench.zoo.from_file:HUB",
    "python": "bench.models.external.from_python:SCHEME",
    "robustbench": "bench.models.external.from_robustbench:SCHEME",
    "timm": "bench.models.external.from_timm:SCHEME",
    "torchvision": "bench.models.external.from_torchvision:SCHEME",
}.items():
    SCHEMES.add_lazy(_name, _target)


def open_model(name: str, lookup: ModelLookup) -> Source:
    """Returns the model of a checkpoint's name or a URI.

    Raises:
        MissingCheckpointError: When the model, or a library that it needs, is missing.
        UserError: When there is no such scheme, or the query is invalid.
    """
    if not is_uri(name):
        return open_checkpoint(checkpoint_folder(lookup.checkpoints, name))
    uri = parse_uri(name)
    scheme = SCHEMES.get(uri.scheme)
    uri.only(scheme.keys)
    return scheme.open(uri, lookup)


def _open_zoo(uri: ModelUri, lookup: ModelLookup) -> Checkpoint:
    return open_checkpoint(checkpoint_folder(lookup.checkpoints, uri.path))


def shipped_folder(name: str, checkpoints: Path) -> Path | None:
    """Returns the folder to send to a machine that lacks the checkpoints.

    ``None`` for models that each machine resolves itself: URIs of libraries and of files.
    """
    if is_uri(name) and parse_uri(name).scheme != "zoo":
        return None
    return checkpoint_folder(checkpoints, name.removeprefix("zoo:"))


SCHEMES.add(
    "zoo",
    Scheme(open=_open_zoo, keys=(), example="zoo:fmnist-resnet20-bn", needs="the checkpoint"),
)
