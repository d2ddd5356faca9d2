"""``hf:OWNER/REPO/FILE.safetensors?arch=...&norm=...``: a file of the Hugging Face Hub.

Only safetensors, and only networks of this project: no configuration of the repository is read and
no code of it is run.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.core.errors import UserError
from bench.core.model_uri import ModelUri
from bench.models.external import Scheme, Shelf, Source
from bench.models.external.guarded import library, missing_extra
from bench.zoo.from_file import KEYS, spec_of, weights_file

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_LEAST = 3


def open_hub(uri: ModelUri, shelf: Shelf) -> Source:
    """Returns the model of a file of the hub, which is fetched if it is not in the local cache."""
    parts = uri.path.split("/")
    fits = all(_PART.fullmatch(part) for part in parts) and parts[-1].endswith(".safetensors")
    if len(parts) < _LEAST or not fits:
        raise UserError(f"{uri.text}: expected hf:OWNER/REPO/FILE.safetensors")
    spec_of(uri)  # before anything is fetched
    try:
        hub: Any = import_module("huggingface_hub")
    except ImportError as error:
        raise missing_extra(uri.text, "hf", error) from None
    with library(uri.text):
        found = _file(hub, "/".join(parts[:2]), "/".join(parts[2:]), uri.query.get("revision"))
    return weights_file(uri, Path(found))


def _file(hub: Any, repository: str, name: str, revision: str | None) -> str:
    """Returns where a file lies: in the cache, which is not brought up to date, or fetched."""
    try:
        return str(hub.hf_hub_download(repository, name, revision=revision, local_files_only=True))
    except OSError:  # what is not in the cache is a missing file
        return str(hub.hf_hub_download(repository, name, revision=revision))


SCHEME = Scheme(
    open=open_hub,
    keys=(*KEYS, "revision"),
    example="hf:owner/repo/model.safetensors?arch=resnet18&norm=bn&dataset=cifar10",
    needs="pip install 'rbench[hf]'; the file in its cache, or a network",
)
