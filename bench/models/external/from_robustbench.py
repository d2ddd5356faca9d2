"""``robustbench:NAME?dataset=cifar10&threat=Linf``: RobustBench's model zoo.

Its models take images in [0, 1] and normalize them inside, so mean is 0 and std is 1 here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn
from torch.hub import get_dir

from bench.core.errors import UserError, did_you_mean
from bench.core.model_uri import ModelUri
from bench.core.paths import Where
from bench.models.external.library_model import RANDOM, Declared, LibraryModel
from bench.models.external.scheme import missing_extra
from bench.norms import weights_seeded
from bench.untrusted.weights import calling_library

_SHAPES = {"cifar10": (32, 10), "cifar100": (32, 100), "imagenet": (224, 1000)}


def open_robustbench(uri: ModelUri, where: Where) -> LibraryModel:
    """Returns a model of RobustBench."""
    data, threat = uri.query.get("dataset", ""), uri.query.get("threat", "")
    if uri.query.get("weights", "none") != "none":
        raise UserError(f"{uri.text}: weights: expected none, or no such key")
    if data not in _SHAPES:
        raise UserError(f"{uri.text}: dataset: found '{data}'{did_you_mean(data, _SHAPES)}")
    try:
        with _old_names():
            utils: Any = import_module("robustbench.utils")
            enums: Any = import_module("robustbench.model_zoo.enums")
    except ImportError as error:
        raise missing_extra(uri.text, "robustbench", error) from None
    threats = {kind.value: kind for kind in enums.ThreatModel}
    if threat not in threats:
        raise UserError(f"{uri.text}: threat: found '{threat}'{did_you_mean(threat, threats)}")
    found: Mapping[str, Any] = utils.all_models[enums.BenchmarkDataset(data)][threats[threat]]
    if uri.path not in found:
        hint = did_you_mean(uri.path, found)
        raise UserError(f"{uri.text}: RobustBench has no model '{uri.path}'{hint}")
    return LibraryModel(uri, lambda: _build(uri, utils, found[uri.path]))


def _build(uri: ModelUri, utils: Any, entry: Mapping[str, Any]) -> tuple[nn.Module, Declared]:
    data, threat = uri.query["dataset"], uri.query["threat"]
    trained = "weights" not in uri.query
    with calling_library(uri.text), weights_seeded(0):
        if trained:
            folder = _folder(uri.path, data, threat)
            net = utils.load_model(uri.path, folder, data, threat)
        else:
            net = entry["model"]()
    size, classes = _SHAPES[data]
    declared = Declared(
        arch=f"robustbench:{uri.path}",
        channels=3,
        size=size,
        classes=classes,
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        dataset=data,
        training=f"RobustBench's, {threat}" if trained else RANDOM,
        std_known=False,
    )
    return net, declared


def _folder(name: str, data: str, threat: str) -> Path:
    """Returns the folder of the weights: RobustBench's own ./models, or else torch's cache."""
    own = Path("models")
    there = (own / data / threat.removesuffix("_3d")).glob(f"{name}*.pt")
    files = {f"{name}.pt", f"{name}_m0.pt"}
    return own if any(p.name in files for p in there) else Path(get_dir()) / "robustbench"


@contextmanager
def _old_names() -> Iterator[None]:
    """Makes AutoAttack importable by its old name, which RobustBench uses and PyPI's lacks."""
    stand_ins = {}
    if "autoattack" not in sys.modules and find_spec("robustbench") is not None:
        stand_ins = {
            "autoattack": import_module("pyautoattack"),
            "autoattack.state": import_module("pyautoattack.state"),
        }
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name in stand_ins:
            del sys.modules[name]
