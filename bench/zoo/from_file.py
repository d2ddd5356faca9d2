"""``file:PATH``: a checkpoint's folder, or ``file:PATH?arch=...&norm=...``: a safetensors file.

The network is one of this project's. What the query leaves open of its input is taken from
``dataset``, as ``rbench zoo import`` does it; names of parameters are translated as there.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.core.errors import MissingCheckpointError, UserError
from bench.core.model_spec import ModelSpec
from bench.core.model_uri import ModelUri
from bench.core.spec import canonical_json, sha256_file
from bench.data import get_dataset
from bench.models import Classifier
from bench.models.external import ModelFacts, Scheme, Shelf, Source
from bench.untrusted.spec_file import check_spec
from bench.untrusted.yaml_text import YamlError, load
from bench.zoo.checkpoint import open_checkpoint
from bench.zoo.imported import load_foreign, read_foreign

KEYS = ("arch", "norm", "dataset", "channels", "size", "classes", "mean", "std", "shortcut")
_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class WeightsFile:
    """Weights of a network of this project in a file of another's.

    Attributes:
        path: The file.
        spec: The network.
        dataset: What it was trained on; empty where that is not said.
    """

    path: Path
    spec: ModelSpec
    dataset: str

    def facts(self) -> ModelFacts:
        """Returns what it is; reads the file's bytes only."""
        return ModelFacts(self._sha256, self.spec, self.dataset, f"a file: {self.path.name}")

    @cached_property
    def _sha256(self) -> str:
        said = [sha256_file(self.path), self.spec.model_dump(mode="json", exclude_defaults=True)]
        return hashlib.sha256(canonical_json(said).encode()).hexdigest()

    def load(self, stats: str | None = None) -> Classifier:
        """Builds the network and loads the file's weights, strictly."""
        spec = self.spec
        if stats is not None:
            spec = spec.model_copy(update={"norm": spec.norm.with_stats(stats)})
        return load_foreign(read_foreign(self.path), spec).model


def open_file(uri: ModelUri, shelf: Shelf) -> Source:
    """Returns the model of a file, or of a checkpoint's folder."""
    path = Path(uri.path).expanduser()
    if path.is_dir():
        if uri.query:
            raise UserError(f"{uri.text}: a folder's card says all, so it takes no keys")
        return open_checkpoint(path)
    return weights_file(uri, path)


def weights_file(uri: ModelUri, path: Path) -> WeightsFile:
    """Returns the model of a safetensors file, as a URI's query describes it.

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
    return WeightsFile(path, spec, dataset)


def spec_of(uri: ModelUri) -> tuple[ModelSpec, str]:
    """Returns the network that a query describes, and what it was trained on."""
    query = uri.query
    for key in ("arch", "norm"):
        if key not in query:
            raise UserError(f"{uri.text}: {key} is missing; see: rbench list models, norms")
    try:
        norm = load(query["norm"])
    except YamlError:
        raise UserError(f"{uri.text}: norm: expected bn, or {{name: gn, groups: 8}}") from None
    fields: dict[str, Any] = {"arch": query["arch"], "norm": norm}
    fields |= {key: uri.whole(key) for key in ("channels", "size", "classes")}
    fields |= {key: uri.numbers(key) for key in ("mean", "std")}
    fields |= {"shortcut": query.get("shortcut")}
    dataset = query.get("dataset", "")
    if dataset:
        found = get_dataset(dataset)
        for key in ("channels", "size", "classes", "mean", "std"):
            fields[key] = getattr(found, key) if fields[key] is None else fields[key]
    fields = {key: value for key, value in fields.items() if value is not None}
    return check_spec(fields, ModelSpec, uri.text), dataset


SCHEME = Scheme(
    open=open_file,
    keys=KEYS,
    example="file:weights/net.safetensors?arch=resnet20&norm=bn&dataset=cifar10",
    needs="the file",
)
