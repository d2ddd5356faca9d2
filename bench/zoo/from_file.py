"""Safetensors files by URI, on disk (``file:``) or on the Hugging Face Hub (``hf:``).

``file:PATH`` is a checkpoint's folder, ``file:PATH?arch=...&norm=...`` and
``hf:OWNER/REPO/FILE.safetensors?arch=...&norm=...`` are weights of one of this project's networks.
Properties of the input that the query omits come from ``dataset``, and names of parameters are
translated, as in ``rbench zoo import``. From the hub only safetensors are read: no configuration of
the repository, and none of its code is run.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.core.checkpoint import ModelFacts
from bench.core.errors import MissingCheckpointError, UserError
from bench.core.model_spec import ModelSpec
from bench.core.model_uri import ModelUri
from bench.core.paths import Where
from bench.core.spec import canonical_json, sha256_file
from bench.data.inputs import InputScale, scales_in_use
from bench.data.named import get_dataset
from bench.models import Classifier
from bench.models.external.scheme import Source, missing_extra
from bench.untrusted.spec_file import check_spec
from bench.untrusted.weights import calling_library
from bench.untrusted.yaml_text import YamlError, load
from bench.zoo.checkpoint import open_checkpoint
from bench.zoo.imported import load_foreign, own_scale, read_foreign

_SUFFIX = ".safetensors"
_HUB_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_HUB_PARTS = 3


@dataclass(frozen=True)
class WeightsFile:
    """A safetensors file with weights of one of this project's networks.

    Attributes:
        path: The file.
        spec: The network.
        dataset: What it was trained on; empty if unknown.
    """

    path: Path
    spec: ModelSpec
    dataset: str

    def facts(self) -> ModelFacts:
        """Returns what is known of the model; hashes the file without parsing it."""
        return ModelFacts.of(
            self._sha256,
            self.spec,
            self.dataset,
            f"a file: {self.path.name}",
            file_sha256=self._file_sha256,
        )

    @cached_property
    def _file_sha256(self) -> str:
        return sha256_file(self.path)

    @cached_property
    def _sha256(self) -> str:
        said = [self._file_sha256, self.spec.model_dump(mode="json", exclude_defaults=True)]
        return hashlib.sha256(canonical_json(said).encode()).hexdigest()

    def load(self, stats: str | None = None) -> Classifier:
        """Builds the network and loads the file's weights, strictly."""
        spec, file = self.spec, read_foreign(self.path)
        own = own_scale(file, spec.channels)
        if own is not None and not own.agrees(spec.mean, spec.std):
            other = InputScale(own.mean, own.std, own.note)
            raise UserError(f"{self.path}: holds {other}, {own.note}, but the URI gives others")
        if stats is not None:
            spec = spec.model_copy(update={"norm": spec.norm.with_stats(stats)})
        return load_foreign(file, spec).model


def open_file(uri: ModelUri, where: Where) -> Source:
    """Returns the model of a file or of a checkpoint's folder."""
    path = Path(uri.path).expanduser()
    if path.is_dir():
        if uri.query:
            raise UserError(f"{uri.text}: a checkpoint's folder has a card, so it takes no keys")
        return open_checkpoint(path)
    return weights_file(uri, path)


def weights_file(uri: ModelUri, path: Path) -> WeightsFile:
    """Returns the model of a safetensors file, described by a URI's query.

    Raises:
        UserError: When there is no such file, it has another suffix, or the query does not fit.
    """
    spec, dataset = spec_of(uri)
    if path.suffix != _SUFFIX:
        raise UserError(
            f"{uri.text}: expected a checkpoint's folder or a file in {_SUFFIX}; "
            "`rbench zoo import` takes others"
        )
    if not path.is_file():
        raise MissingCheckpointError(f"{uri.text}: no such file")
    _refuse_guess(uri)
    return WeightsFile(path, spec, dataset)


def _refuse_guess(uri: ModelUri) -> None:
    """Raises ``UserError`` where mean or std is left to a data set that has several in use."""
    if "dataset" not in uri.query or {"mean", "std"} <= uri.query.keys():
        return
    dataset = get_dataset(uri.query["dataset"])
    channels = uri.whole("channels") or dataset.channels
    given = {key: uri.numbers(key) for key in ("mean", "std")}
    scales = scales_in_use(dataset, channels, **given)
    listed = "; ".join(f"{one} ({one.known_from})" for one in scales)
    raise UserError(
        f"{uri.text}: give mean and std, as a file of weights does not tell them and several are "
        f"in use: {listed}; rbench zoo import tries them"
    )


def spec_of(uri: ModelUri) -> tuple[ModelSpec, str]:
    """Returns the network that a query describes, and its data set."""
    query = uri.query
    for key in ("arch", "norm"):
        if key not in query:
            raise UserError(f"{uri.text}: {key} is missing; see: rbench list models, norms")
    try:
        norm = load(query["norm"])
    except YamlError:
        raise UserError(f"{uri.text}: norm: expected bn, or {{name: gn, groups: 8}}") from None
    fields: dict[str, Any] = {"arch": query["arch"], "norm": norm}
    fields |= {key: uri.whole(key) for key in ("channels", "classes")} | {"size": uri.size()}
    fields |= {key: uri.numbers(key) for key in ("mean", "std")}
    fields |= {"shortcut": query.get("shortcut")}
    dataset = query.get("dataset", "")
    if dataset:
        found = get_dataset(dataset)
        for key in ("channels", "size", "classes", "mean", "std"):
            fields[key] = getattr(found, key) if fields[key] is None else fields[key]
    fields = {key: value for key, value in fields.items() if value is not None}
    return check_spec(fields, ModelSpec, uri.text), dataset


def open_hub(uri: ModelUri, where: Where) -> Source:
    """Returns the model of a file of the hub, downloaded unless it is in the local cache."""
    parts = uri.path.split("/")
    fits = all(_HUB_PART.fullmatch(part) for part in parts) and parts[-1].endswith(_SUFFIX)
    if len(parts) < _HUB_PARTS or not fits:
        raise UserError(f"{uri.text}: expected hf:OWNER/REPO/FILE.safetensors")
    spec_of(uri)  # reports errors before anything is downloaded
    _refuse_guess(uri)
    try:
        hub: Any = import_module("huggingface_hub")
    except ImportError as error:
        raise missing_extra(uri.text, "hf", error) from None
    with calling_library(uri.text):
        found = _hub_file(hub, "/".join(parts[:2]), "/".join(parts[2:]), uri.query.get("revision"))
    return weights_file(uri, Path(found))


def _hub_file(hub: Any, repository: str, name: str, revision: str | None) -> str:
    """Returns the path of a file in the cache, which is not updated; downloads it if missing."""
    try:
        return str(hub.hf_hub_download(repository, name, revision=revision, local_files_only=True))
    except OSError:  # not in the cache
        return str(hub.hf_hub_download(repository, name, revision=revision))
