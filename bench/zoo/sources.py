"""Models by name: a checkpoint's, or a URI of any scheme. All of them are opened here."""

from __future__ import annotations

from pathlib import Path

from bench.core.model_uri import ModelUri, is_uri, parse_uri
from bench.core.registry import Registry
from bench.models.external import Scheme, Shelf, Source
from bench.zoo.checkpoint import Checkpoint, checkpoint_folder, open_checkpoint

SCHEMES: Registry[Scheme] = Registry("scheme")
for _name, _where in {
    "file": "bench.zoo.from_file",
    "hf": "bench.zoo.from_hub",
    "python": "bench.models.external.from_python",
    "robustbench": "bench.models.external.from_robustbench",
    "timm": "bench.models.external.from_timm",
    "torchvision": "bench.models.external.from_torchvision",
}.items():
    SCHEMES.add_lazy(_name, f"{_where}:SCHEME")


def open_model(name: str, shelf: Shelf) -> Source:
    """Returns the model of a name.

    Args:
        name: Of a checkpoint, or a URI.
        shelf: Where models are looked up, and whether code of others may run.

    Raises:
        MissingCheckpointError: When it, or a library that it needs, is not here.
        UserError: When there is no such scheme, or its query does not fit.
    """
    if not is_uri(name):
        return open_checkpoint(checkpoint_folder(shelf.checkpoints, name))
    uri = parse_uri(name)
    scheme = SCHEMES.get(uri.scheme)
    uri.only(scheme.keys)
    return scheme.open(uri, shelf)


def _open_zoo(uri: ModelUri, shelf: Shelf) -> Checkpoint:
    return open_checkpoint(checkpoint_folder(shelf.checkpoints, uri.path))


def shipped_folder(name: str, checkpoints: Path) -> Path | None:
    """Returns the folder that a machine without the checkpoints must be sent.

    ``None`` for what each machine resolves for itself: URIs of other libraries, and of files.
    """
    if is_uri(name) and parse_uri(name).scheme != "zoo":
        return None
    return checkpoint_folder(checkpoints, name.removeprefix("zoo:"))


SCHEMES.add(
    "zoo",
    Scheme(open=_open_zoo, keys=(), example="zoo:fmnist-resnet20-bn", needs="the checkpoint"),
)
