"""Checkpoints: safetensors files with a card, verified before use; and models by URI."""

from bench.zoo.card import Card, CleanAccuracy, RobustAccuracy, read_card
from bench.zoo.checkpoint import (
    Checkpoint,
    checkpoint_folder,
    list_checkpoints,
    list_folders,
    open_checkpoint,
    save_checkpoint,
)
from bench.zoo.sources import SCHEMES, open_model, shipped_folder

__all__ = [
    "SCHEMES",
    "Card",
    "Checkpoint",
    "CleanAccuracy",
    "RobustAccuracy",
    "checkpoint_folder",
    "list_checkpoints",
    "list_folders",
    "open_checkpoint",
    "open_model",
    "read_card",
    "save_checkpoint",
    "shipped_folder",
]
