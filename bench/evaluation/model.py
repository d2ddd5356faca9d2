"""A model under evaluation, and the machine that it runs on."""

from __future__ import annotations

import platform
from dataclasses import dataclass

import torch
from torch import nn

from bench.attacks.base import Attack
from bench.core.host import installed, processor
from bench.models import Classifier
from bench.norms import find_paths, shares_statistics, stats_in_force


@dataclass(frozen=True)
class Target:
    """A model under evaluation.

    Attributes:
        model: Maps images (b, c, h, w) in [0, 1] to logits (b, classes); in eval mode.
        std: Per-channel standard deviation (c,) that it divides by, which turns an eps in
            normalized units into pixels; ones where it is not known.
        classes: Number of classes.
        stochastic: Whether passes draw at random.
        batch_dependent: Whether images of a batch share statistics.
    """

    model: nn.Module
    std: tuple[float, ...]
    classes: int
    stochastic: bool = False
    batch_dependent: bool = False

    @classmethod
    def of(cls, model: Classifier) -> Target:
        """Returns a model, with the statistics that are now in force."""
        spec = model.spec
        declared = "batch-dependent" in spec.norm.declares
        of_plugin = spec.norm.of_plugin and spec.norm.batch_dependent
        shares = declared or of_plugin or shares_statistics(model)
        return cls(model, spec.std, spec.classes, spec.norm.stochastic, shares)

    @property
    def stats(self) -> str | None:
        """The inference statistics in force, as a cell has them; ``None`` without a choice.

        Layers override the specification of a classifier, which only says how it was built. A pool
        of RNA has no choice.
        """
        found = stats_in_force(self.model)
        norm = self.model.spec.norm if isinstance(self.model, Classifier) else None
        if norm is None or (norm.inference_stats is not None and found):
            return found[0] if len(found) == 1 else None
        return norm.inference_stats

    @property
    def device(self) -> torch.device:
        """Where its tensors lie."""
        return device_of(self.model)

    @property
    def shares_draws(self) -> bool:
        """Whether the images of a pass may share a draw.

        Paths of this project's RNA layers are drawn for each image, unless images share
        statistics anyway; how another model draws is not known.
        """
        return self.stochastic and find_paths(self.model) is None


def device_of(model: nn.Module) -> torch.device:
    """Returns where a model's first parameter or buffer lies; the CPU if it has none."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


def machine(device: torch.device) -> str:
    """Names the device in a few words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor()}, {torch.get_num_threads()} thread(s) a cell"


def versions(attack: Attack) -> dict[str, str]:
    """Returns the versions of python, torch, rbench, and the attack's library and plugin."""
    found = {"python": platform.python_version(), "torch": str(torch.__version__)}
    return found | installed("rbench", attack.library, attack.distribution)
