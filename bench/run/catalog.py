"""What suites may name, answered from the rooms of this installation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from bench.analysis.registry import analysis_kind
from bench.attacks.registry import attack_info
from bench.core.attack import AttackInfo
from bench.core.cell import DataSpec
from bench.core.errors import MissingCheckpointError
from bench.core.model_uri import is_uri
from bench.core.spec import digest
from bench.core.weight_sketch import sketch_file
from bench.data import Slice, get_dataset, take_slice
from bench.models.external import ModelFacts, ModelLookup, Source
from bench.published import load_table, table_ids
from bench.suite import AnalysisKind, CheckpointInfo, DatasetInfo, PublishedTable
from bench.zoo import Checkpoint, open_model
from bench.zoo.checkpoint import WEIGHTS, read_history


class LocalCatalog:
    """The catalog of a folder of checkpoints and a data root.

    Args:
        checkpoints: Folder of checkpoints.
        data_root: Where data sets lie; ``None`` for the defaults.
        trust_code: Whether code that a URI names may be run.
    """

    def __init__(
        self, checkpoints: Path, data_root: Path | None, *, trust_code: bool = False
    ) -> None:
        self._shelf, self._data_root = ModelLookup(checkpoints, trust_code), data_root
        self._missing: dict[str, str] = {}
        self._known: dict[str, CheckpointInfo] = {}

    def attack_spec(self, name: str, params: Mapping[str, Any], norm: str) -> AttackInfo:
        """Returns an attack with its parameters filled in, see ``bench.suite.Catalog``."""
        return attack_info(name, params, norm)

    def analysis_kind(self, name: str, params: Mapping[str, Any]) -> AnalysisKind:
        """Returns an analysis with its parameters filled in, see ``bench.suite.Catalog``."""
        return analysis_kind(name, params)

    def dataset(self, name: str) -> DatasetInfo:
        """Returns a data set's shape."""
        found = get_dataset(name)
        return DatasetInfo(found.classes, found.channels, found.size)

    def data_size(self, data: DataSpec) -> int:
        """Returns the number of images in a slice."""
        return len(_slice(data, self._data_root).y)

    def data_hash(self, data: DataSpec) -> str:
        """Returns the hash of a slice."""
        return _slice(data, self._data_root).sha256

    def checkpoint(self, name: str) -> CheckpointInfo:
        """Returns what is known of a checkpoint, or of a URI's model; a name stays in its folder.

        A model of another library is built and hashed for that, once in a process; a card is read
        once by a catalog.
        """
        if name not in self._known:
            self._known[name] = self._looked_up(name)
        return self._known[name]

    def _looked_up(self, name: str) -> CheckpointInfo:
        source, facts = self._opened(name)
        model = facts.spec
        info = CheckpointInfo(
            sha256=facts.sha256,
            norm=model.norm,
            dataset=facts.dataset,
            channels=model.channels,
            size=model.size,
            classes=model.classes,
            std=model.std,
            arch=model.arch,
            training=facts.training,
            std_known=facts.std_known,
        )
        if not isinstance(source, Checkpoint):
            return info
        card, folder = source.card, source.folder
        return replace(
            info,
            seed=card.seed,
            recipe=digest(card.recipe) if card.recipe else "",
            sketch=sketch_file(folder / WEIGHTS, card.sha256),
            history=read_history(folder),
        )

    def _opened(self, name: str) -> tuple[Source, ModelFacts]:
        """Opens a model; asks once for one that a network would have to bring."""
        if name in self._missing:
            raise MissingCheckpointError(self._missing[name])
        try:
            source = open_model(name, self._shelf)
            return source, source.facts()
        except MissingCheckpointError as error:
            if is_uri(name):
                self._missing[name] = str(error)
            raise

    def published_tables(self) -> Mapping[str, PublishedTable]:
        """Returns the axes of the published tables."""
        tables = {}
        for table_id in table_ids():
            table = load_table(table_id)
            keys = tuple(keys for keys, _ in table.rows)
            tables[table_id] = PublishedTable(table.columns, keys)
        return tables


@lru_cache(maxsize=2)
def _slice(data: DataSpec, root: Path | None) -> Slice:
    return take_slice(data, root)
