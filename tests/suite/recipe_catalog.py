"""A catalog of checkpoints that need not exist: what their recipes will make of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.analysis.registry import analysis_kind
from bench.core.attack import AttackInfo
from bench.core.cell import DataSpec
from bench.core.errors import UserError, did_you_mean
from bench.data import get_dataset
from bench.run.catalog import LocalCatalog, attack_info
from bench.suite import AnalysisKind, CheckpointInfo, DatasetInfo, PublishedTable
from bench.train.recipe import Recipe, list_recipes

SIZES = {"imagenet": 50_000, "npz:cifar10_test_lossless_first1017.npz": 1_017}
"""Of test sets that do not hold 10,000 images."""


class RecipeCatalog:
    """Attacks, analyses and tables as installed, checkpoints from recipes, no data read.

    Args:
        recipes: Folder of recipe files.
    """

    def __init__(self, recipes: Path) -> None:
        self._folder = recipes
        self._installed = LocalCatalog(recipes, None)

    @cached_property
    def recipes(self) -> dict[str, Recipe]:
        return {recipe.name: recipe for recipe in list_recipes(self._folder)}

    def attack_spec(self, name: str, params: Mapping[str, Any], norm: str) -> AttackInfo:
        return attack_info(name, params, norm)

    def analysis_kind(self, name: str, params: Mapping[str, Any]) -> AnalysisKind:
        return analysis_kind(name, params)

    def dataset(self, name: str) -> DatasetInfo:
        found = get_dataset("cifar10" if name.startswith("npz:cifar10_") else name)
        return DatasetInfo(found.classes, found.channels, found.size)

    def data_size(self, data: DataSpec) -> int:
        there = SIZES.get(data.name, 10_000)
        return min(data.limit or there, max(there - data.offset, 0))

    def data_hash(self, data: DataSpec) -> str:
        return hashlib.sha256(data.model_dump_json().encode()).hexdigest()

    def checkpoint(self, name: str) -> CheckpointInfo:
        if name not in self.recipes:
            raise UserError(
                f"no recipe makes checkpoint '{name}'{did_you_mean(name, self.recipes)}"
            )
        recipe = self.recipes[name]
        model = recipe.model
        return CheckpointInfo(
            sha256=hashlib.sha256(name.encode()).hexdigest(),
            norm=model.norm,
            dataset=recipe.dataset,
            channels=model.channels,
            size=model.size,
            classes=model.classes,
            std=model.std,
            arch=model.arch,
            training=recipe.kind,
        )

    def published_tables(self) -> Mapping[str, PublishedTable]:
        return self._installed.published_tables()
