"""Where the names of suites are looked up: in this installation, a folder and a data root."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from bench.analysis.registry import analysis_kind
from bench.attacks.registry import attack_info
from bench.core.cell import DataSpec
from bench.core.checkpoint import ModelFacts
from bench.core.weight_sketch import sketch_file
from bench.data.named import get_dataset
from bench.data.slice import take_slice
from bench.models.external.scheme import ModelLookup
from bench.suite.resolve import DatasetShape, Lookup, SliceFacts
from bench.zoo import Checkpoint, open_model
from bench.zoo.checkpoint import WEIGHTS, read_history


def local_lookup(checkpoints: Path, data_root: Path | None, *, trust_code: bool = False) -> Lookup:
    """Returns the lookup of a folder of checkpoints and a data root.

    Args:
        checkpoints: Folder of checkpoints.
        data_root: Where data sets lie; ``None`` for the defaults.
        trust_code: Whether code that a URI names may be run.
    """
    return Lookup(
        attack=attack_info,
        analysis=analysis_kind,
        dataset=partial(_dataset, root=data_root),
        images=partial(_images, root=data_root),
        checkpoint=partial(_checkpoint, models=ModelLookup(checkpoints, trust_code)),
    )


def _dataset(name: str, root: Path | None) -> DatasetShape:
    found = get_dataset(name, root)
    return DatasetShape(found.channels, found.size, found.classes)


def _images(data: DataSpec, root: Path | None) -> SliceFacts:
    found = take_slice(data, root)
    return SliceFacts(len(found.y), found.sha256)


def _checkpoint(name: str, models: ModelLookup) -> ModelFacts:
    """Returns the facts of a checkpoint, without torch, or of a URI's model.

    A model of another library is built and hashed for that, once in a process.
    """
    source = open_model(name, models)
    facts = source.facts()
    if not isinstance(source, Checkpoint):
        return facts
    sketch = sketch_file(source.folder / WEIGHTS, source.card.sha256)
    return facts.model_copy(update={"sketch": sketch, "history": read_history(source.folder)})
