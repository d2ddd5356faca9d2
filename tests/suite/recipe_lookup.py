"""A lookup of checkpoints that need not exist: what their recipes will make of them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from bench.core.cell import DataSpec
from bench.core.checkpoint import ModelFacts
from bench.core.errors import UserError, did_you_mean
from bench.core.paths import Where
from bench.run.prepare import local_lookup
from bench.suite.resolve import DatasetShape, Lookup, SliceFacts
from bench.train.recipe import list_recipes

SIZES = {"imagenet": 50_000, "npz:cifar10_test_lossless_first1017.npz": 1_017}
"""Of test sets that do not hold 10,000 images."""


def recipe_lookup(folder: Path) -> Lookup:
    """Returns attacks and analyses as installed, checkpoints from recipes; no data are read.

    Args:
        folder: Folder of recipe files.
    """
    recipes = {recipe.name: recipe for recipe in list_recipes(folder)}
    installed = local_lookup(Where(folder))

    def dataset(name: str) -> DatasetShape:
        return installed.dataset("cifar10" if name.startswith("npz:cifar10_") else name)

    def images(data: DataSpec) -> SliceFacts:
        there = SIZES.get(data.name, 10_000)
        n = min(data.limit or there, max(there - data.offset, 0))
        return SliceFacts(n, hashlib.sha256(data.model_dump_json().encode()).hexdigest())

    def checkpoint(name: str) -> ModelFacts:
        if name not in recipes:
            raise UserError(f"no recipe makes checkpoint '{name}'{did_you_mean(name, recipes)}")
        recipe = recipes[name]
        sha256 = hashlib.sha256(name.encode()).hexdigest()
        return ModelFacts.of(sha256, recipe.model, recipe.dataset, recipe.kind)

    return replace(installed, dataset=dataset, images=images, checkpoint=checkpoint)
