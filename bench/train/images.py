"""The images that a recipe trains on and is scored on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from bench.core.errors import UserError
from bench.data.folder import FileImages
from bench.data.images import Dataset, Split
from bench.data.named import get_dataset
from bench.data.slice import open_split, take_all
from bench.train.recipe import Recipe
from bench.train.source import DeviceSource, Source, StreamSource


def training_source(recipe: Recipe, data_root: Path | None, device: torch.device) -> Source:
    """Opens what a recipe trains on: whole on the device, or streamed from an image folder.

    Raises:
        UserError: When data is missing, does not fit the recipe's model, or is less than a batch.
    """
    parts = [_open_train(name, data_root) for name in recipe.train_on or (recipe.dataset,)]
    names = ", ".join(recipe.train_on or (recipe.dataset,))
    n_images = sum(len(part.y) for part in parts)
    if n_images < recipe.batch_size:
        raise UserError(
            f"{names}: its {n_images} training images are less than one batch of "
            f"{recipe.batch_size}; lower batch_size"
        )
    for part in parts:
        check_fit(recipe, names, part)
    if recipe.augment.resized_crop:
        return _stream(recipe, parts, device)
    images = [take_all(part) for part in parts]
    x = torch.from_numpy(np.concatenate([part.x for part in images]))
    y = torch.from_numpy(np.concatenate([part.y for part in images]))
    return DeviceSource(x, y, recipe.augment, device)


def scoring_images(recipe: Recipe, data_root: Path | None) -> Split:
    """Opens the test images that give the card's accuracy; errors are ``training_source``'s."""
    name = recipe.score_on or recipe.dataset
    split = open_split(name, "test", data_root)
    check_fit(recipe, name, split)
    return split


def check_fit(recipe: Recipe, name: str, data: Split) -> None:
    """Raises ``UserError`` when images or labels do not fit the recipe's model.

    Of a folder of image files, the first one is looked at.
    """
    model = recipe.model
    first = data.take(np.zeros(1, np.int64))
    expected, found = (model.channels, model.size, model.size), first.x.shape[1:]
    cropped = recipe.augment.resized_crop and found[0] == model.channels
    if found != expected and not cropped:
        raise UserError(f"{name}: images are {found}, the recipe's model takes {expected}")
    top = int(data.y.max(initial=0))
    if top >= model.classes:
        raise UserError(f"{name}: has label {top}, the recipe's model has {model.classes} classes")


def _open_train(name: str, data_root: Path | None) -> Split:
    dataset: Dataset = get_dataset(name, data_root)
    return open_split(name, "train" if "train" in dataset.splits else "test", data_root)


def _stream(recipe: Recipe, parts: list[Split], device: torch.device) -> Source:
    if len(parts) != 1 or not isinstance(parts[0], FileImages):
        raise UserError(
            f"{recipe.name}: resized_crop is for one folder of image files; use pad for a data set "
            "that is held in memory"
        )
    return StreamSource(parts[0], recipe.model.size, recipe.augment.flip, device)
