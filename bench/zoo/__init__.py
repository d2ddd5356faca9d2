"""Checkpoints: safetensors and a card, checked before they are used."""

from bench.zoo.card import Card, CleanAccuracy, RobustAccuracy, read_card
from bench.zoo.checkpoint import (
    Checkpoint,
    checkpoint_folder,
    list_checkpoints,
    open_checkpoint,
    save_checkpoint,
)

__all__ = [
    "Card",
    "Checkpoint",
    "CleanAccuracy",
    "RobustAccuracy",
    "checkpoint_folder",
    "list_checkpoints",
    "open_checkpoint",
    "read_card",
    "save_checkpoint",
]
