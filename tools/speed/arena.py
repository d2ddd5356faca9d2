"""The input of all contenders: one model, one set of images, one seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bench.core.cell import DataSpec
from bench.core.errors import UserError
from bench.core.threat import ThreatModel
from bench.data.slice import Slice, take_slice
from bench.evaluation.model import Target
from bench.zoo import open_checkpoint


@dataclass(frozen=True)
class Arena:
    """A model and images in memory.

    Attributes:
        name: Name of the checkpoint.
        target: The model, in eval mode.
        data: The images.
        eps: Radius in linf.
        eps_l2: Radius in l2.
        batch_size: Images that are attacked together.
        seed: Seeds everything random.
    """

    name: str
    target: Target
    data: Slice
    eps: float
    eps_l2: float
    batch_size: int
    seed: int = 0

    def threat(self, norm: str) -> ThreatModel:
        """Returns the ball of a norm."""
        return ThreatModel.model_validate({"norm": norm, "eps": self.radius(norm)})

    def radius(self, norm: str) -> float:
        """Returns the radius of a norm's ball."""
        return {"linf": self.eps, "l2": self.eps_l2}[norm]

    def batches(self) -> list[tuple[Tensor, Tensor]]:
        """Returns images (b, c, h, w) and labels (b,) on the model's device, batch by batch."""
        device = self.target.device
        x = torch.split(torch.from_numpy(self.data.x).to(device), self.batch_size)
        y = torch.split(torch.from_numpy(self.data.y).to(device), self.batch_size)
        return list(zip(x, y, strict=True))


@dataclass(frozen=True)
class Case:
    """The specification of an arena, from which another process builds the same one.

    Attributes:
        folder: Folder of the checkpoint.
        data_root: Data root; ``None`` for the default.
        limit: Number of images, balanced over classes.
        eps: Radius in linf.
        eps_l2: Radius in l2.
        batch_size: Images that are attacked together.
        device: ``cpu``, ``cuda``, ...
        seed: Of everything random.
    """

    folder: Path
    data_root: Path | None
    limit: int
    eps: float
    eps_l2: float
    batch_size: int
    device: str
    seed: int = 0

    def open(self) -> Arena:
        """Loads model and images.

        Raises:
            UserError: When either is missing; when images of a batch share statistics, since every
                library drops images from a batch.
        """
        checkpoint = open_checkpoint(self.folder)
        target = Target.of(checkpoint.load().to(self.device))
        if target.batch_dependent:
            raise UserError(
                f"{checkpoint.card.name}: its images share statistics of the batch, from which "
                "libraries leave images out; choose a checkpoint that takes each image alone"
            )
        spec = DataSpec(
            name=checkpoint.card.dataset, limit=self.limit, seed=self.seed, stratified=True
        )
        data = take_slice(spec, self.data_root)
        name = checkpoint.card.name
        return Arena(name, target, data, self.eps, self.eps_l2, self.batch_size, self.seed)
