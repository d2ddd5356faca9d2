"""Tiny untrained checkpoints, made by seed."""

from __future__ import annotations

from pathlib import Path

import torch

from bench.core.model_spec import ModelSpec
from bench.models import build_model
from bench.zoo import Card, CleanAccuracy, save_checkpoint


def save(folder: Path, norm: object, seed: int, *, track: bool = True) -> None:
    """Saves a network of 8 x 8 images and 3 classes, named like its folder.

    Args:
        folder: The checkpoint's.
        norm: The model's, as in a recipe.
        seed: Of its weights.
        track: Whether its tracked statistics are off their defaults.
    """
    fields = {"arch": "resnet20", "channels": 1, "size": 8, "classes": 3}
    spec = ModelSpec.model_validate({**fields, "norm": norm, "mean": [0.5], "std": [0.5]})
    model = build_model(spec, seed=seed)
    for _ in range(4 if track else 0):
        model(torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(seed)))
    card = Card(
        name=folder.name,
        model=spec,
        dataset="made",
        training="none",
        clean_accuracy=CleanAccuracy(value=0.3, n=1, split="made"),
        versions={},
        sha256="0" * 64,
    )
    save_checkpoint(folder, model.net, card)
