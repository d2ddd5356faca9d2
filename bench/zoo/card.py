"""A checkpoint's card: the model, its origin, and its accuracies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from bench.core.model_spec import ModelSpec
from bench.core.spec import Spec
from bench.store.files import write_atomically
from bench.untrusted.spec_file import read_spec


class CleanAccuracy(Spec):
    """Accuracy on unperturbed test images.

    Attributes:
        value: In [0, 1]; for a stochastic model, the mean over ``n_draws`` draws.
        n: Number of images.
        split: Which images, for example ``fashion-mnist test``.
        batch_size: Only for a batch-dependent model: size of the batches it was scored in.
        n_draws: Draws per image; 1 for a deterministic model.
    """

    value: float = Field(ge=0, le=1)
    n: int = Field(ge=1)
    split: str
    batch_size: int | None = None
    n_draws: int = 1


class RobustAccuracy(Spec):
    """Accuracy under a quick attack: an upper bound, to tell checkpoints apart at a glance.

    Attributes:
        value: In [0, 1]; for a stochastic model, the mean over fresh draws.
        low: Lower end of the 95 % interval; ``None`` if there is none.
        high: Upper end.
        n: Number of images.
        attack: For example ``PGD-20, linf 0.1, alpha 0.025``.
        split: Which images, for example ``fashion-mnist test``.
        protocol: How the model was attacked and scored.
        interval: Method of the interval, or why there is none.
    """

    value: float = Field(ge=0, le=1)
    low: float | None = Field(default=None, ge=0, le=1)
    high: float | None = Field(default=None, ge=0, le=1)
    n: int = Field(ge=1)
    attack: str
    split: str
    protocol: str
    interval: str = "wilson"


class Card(Spec):
    """The content of ``card.yaml``.

    Attributes:
        name: The folder's name.
        model: Architecture, norm, input size, mean and std.
        dataset: What it was trained on.
        training: ``natural``, ``adversarial``, ``black-box``, or a description of an import.
        recipe: The whole training recipe; empty for an imported checkpoint.
        seed: Seed of the training, if known.
        epochs: Epochs trained, if known.
        clean_accuracy: Measured by this project in fp32.
        robust_accuracy: The same under a quick attack, if measured.
        versions: Of python, torch and rbench at training time.
        trained: Date and machine of the training.
        sha256: Of ``model.safetensors``.
        notes: Anything else a reader should know.
    """

    name: str
    model: ModelSpec
    dataset: str
    training: str
    recipe: dict[str, Any] = Field(default_factory=dict)
    seed: int | None = None
    epochs: int | None = None
    clean_accuracy: CleanAccuracy
    robust_accuracy: RobustAccuracy | None = None
    versions: dict[str, str]
    trained: str = ""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    notes: str = ""


def read_card(path: Path) -> Card:
    """Reads ``card.yaml``.

    Raises:
        UserError: When the file is missing, not YAML, or not a card.
    """
    return read_spec(path, Card, "a checkpoint's card")


def write_card(path: Path, card: Card) -> None:
    """Writes ``card.yaml`` atomically, without fields at their default."""
    data = card.model_dump(mode="json", exclude_defaults=True)
    write_atomically(path, yaml.safe_dump(data, sort_keys=False, width=100).encode())
