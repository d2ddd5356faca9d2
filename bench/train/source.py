"""Where training images come from: the device's memory, or files that workers decode."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader, Dataset, get_worker_info

from bench.core.errors import UserError
from bench.data.folder import FileImages, read_image
from bench.train.recipe import Augment


def augment_batch(x: Tensor, spec: Augment, generator: torch.Generator) -> Tensor:
    """Crops and flips each image (b, c, h, w) at random; same shape and dtype out."""
    b, c, h, w = x.shape
    if spec.pad:
        padded = F.pad(x, (spec.pad,) * 4)
        offsets = torch.randint(2 * spec.pad + 1, (2, b), generator=generator).to(x.device)
        rows = (offsets[0, :, None] + torch.arange(h, device=x.device)).view(b, 1, h, 1)
        columns = (offsets[1, :, None] + torch.arange(w, device=x.device)).view(b, 1, 1, w)
        sample = torch.arange(b, device=x.device).view(b, 1, 1, 1)
        channel = torch.arange(c, device=x.device).view(1, c, 1, 1)
        x = padded[sample, channel, rows, columns]
    if spec.flip:
        flipped = (torch.rand(b, generator=generator) < 0.5).to(x.device).view(b, 1, 1, 1)
        x = torch.where(flipped, x.flip(3), x)
    return x


CHUNK = 32
"""Images that a worker hands over at once: shared memory holds few of them, not whole batches."""


class Source(Protocol):
    """Labelled training images that are visited in any order."""

    def __len__(self) -> int:
        """Returns the number of images."""

    def batches(
        self, order: Tensor, batch_size: int, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields augmented batches, drawing from the generator only when one is asked for.

        So the caller may draw from the same generator in between, and the same seed and the same
        calls give the same batches.

        Args:
            order: Positions (m,) of the images to visit, int64.
            batch_size: Images a batch; the last one may be smaller.
            generator: On the CPU; decides the augmentation.

        Yields:
            Images (b, c, h, w), float32 in [0, 1], and labels (b,), int64, both on the device.
        """


class DeviceSource:
    """Images that are held whole on the device and augmented there.

    Args:
        x: Images (n, c, h, w), uint8, or float in [0, 1].
        y: Labels (n,), int64.
        augment: How they are varied; its ``resized_crop`` is for ``StreamSource``.
        device: Where to hold them.
    """

    def __init__(self, x: Tensor, y: Tensor, augment: Augment, device: torch.device) -> None:
        self.x, self.y, self.augment = x.to(device), y.to(device), augment

    def __len__(self) -> int:
        return len(self.x)

    def batches(
        self, order: Tensor, batch_size: int, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields what ``Source.batches`` says."""
        for rows in _cut(order.to(self.x.device), batch_size):
            yield _finish(self.x[rows], self.augment, generator), self.y[rows]


class StreamSource:
    """Images that stay in their files; worker processes decode and crop them ahead of time.

    The crop has 8 to 100 % of the image's area and an aspect ratio of 3/4 to 4/3, and is resized
    to the model's size (Szegedy et al. 2015, https://arxiv.org/abs/1409.4842, section 6). Each
    image's crop follows from the generator and the image's position alone, so the number of
    workers, the order and the batch size do not change it.

    Args:
        images: The files with their labels.
        size: Height and width of the training images.
        flip: Whether to flip half of them.
        device: Where the batches go.
        n_workers: Processes that decode; 0 decodes in this one. ``None`` is one a core, shared
            with the other processes that ``torchrun`` started on this machine.
    """

    def __init__(
        self,
        images: FileImages,
        size: int,
        flip: bool,
        device: torch.device,
        n_workers: int | None = None,
    ) -> None:
        self.paths, self.device = images.paths, device
        self.y = torch.from_numpy(images.y.copy()).to(device)
        self.augment = Augment(flip=flip)
        self.n_workers = _usable_cores() if n_workers is None else n_workers
        self._crops = _Crops(images.geometry.channels, size)

    def __len__(self) -> int:
        return len(self.paths)

    def batches(
        self, order: Tensor, batch_size: int, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields what ``Source.batches`` says.

        Raises:
            UserError: When an image file is damaged, or a worker is killed.
        """
        seeds = torch.randint(2**62, (len(self),), generator=generator)
        batches = _cut(order.cpu(), batch_size)
        chunks = self._chunks(batches, seeds)
        for rows in batches:
            x = torch.cat([next(chunks) for _ in _cut(rows, CHUNK)]).permute(0, 3, 1, 2)
            yield _finish(x, self.augment, generator), self.y[rows.to(self.device)]

    def _chunks(self, batches: list[Tensor], seeds: Tensor) -> Iterator[Tensor]:
        """Yields chunks (b, h, w, c), uint8, on their way to the device."""
        killed = ""
        try:
            # Nothing but the loop holds the loader's iterator, so an error stops the workers.
            for chunk in self._loader(batches, seeds):
                if isinstance(chunk, _Refusal):
                    raise UserError(chunk.message)
                yield chunk.to(self.device, non_blocking=True)
        except RuntimeError as error:
            if not str(error).startswith("DataLoader worker"):
                raise
            killed = str(error)
        if killed:
            raise UserError(
                f"one of the {self.n_workers} workers that decode training images was killed "
                f"({killed}); it may have run out of memory: use fewer workers"
            )

    def _loader(self, batches: list[Tensor], seeds: Tensor) -> DataLoader[Tensor | _Refusal]:
        """Returns what decodes all batches, each in whole chunks, in order."""
        jobs = (
            [
                _Job(self.paths[position], seed)
                for position, seed in zip(rows.tolist(), seeds[rows].tolist(), strict=True)
            ]
            for batch in batches
            for rows in _cut(batch, CHUNK)
        )
        return DataLoader(
            self._crops,
            batch_size=None,
            sampler=jobs,
            num_workers=self.n_workers,
            pin_memory=self.device.type == "cuda",
            # Without a generator of its own, the loader would draw from the global one.
            generator=torch.Generator(),
        )


@dataclass(frozen=True)
class _Job:
    """An image file, and what decides its crop."""

    path: Path
    seed: int


@dataclass(frozen=True)
class _Refusal:
    """A ``UserError`` on its way out of a worker, which would wrap it in its own traceback."""

    message: str


class _Crops(Dataset[Tensor | _Refusal]):
    """What the workers do; it holds no list of files, so they have nothing to copy."""

    def __init__(self, channels: int, size: int) -> None:
        self.channels, self.size = channels, size

    def __getitem__(self, jobs: list[_Job]) -> Tensor | _Refusal:
        """Returns a random crop of each file: (b, size, size, c), uint8."""
        x = torch.empty((len(jobs), self.size, self.size, self.channels), dtype=torch.uint8)
        try:
            if get_worker_info() is not None:
                _share(x)
            for row, job in zip(x.numpy(), jobs, strict=True):
                image = read_image(job.path, self.channels)
                generator = torch.Generator().manual_seed(job.seed)
                crop = image.crop(random_box(image.width, image.height, generator))
                crop = crop.resize((self.size, self.size), Image.Resampling.BILINEAR)
                row[:] = np.asarray(crop).reshape(row.shape)
        except UserError as error:
            return _Refusal(str(error))
        return x


def _share(x: Tensor) -> None:
    """Moves a tensor into shared memory; left to the queue, a lack of it would be a hang."""
    try:
        x.untyped_storage().share_memory_()
    except RuntimeError as error:
        raise UserError(
            f"no shared memory is left for training images ({error}); give the machine or "
            "container more (docker run --shm-size 8g), or use fewer workers"
        ) from None


def random_box(width: int, height: int, generator: torch.Generator) -> tuple[int, int, int, int]:
    """Draws a box in an image, as left, top, right and bottom pixel.

    Its area is uniform in 8 to 100 % of the image's, the logarithm of its aspect ratio in
    log(3/4) to log(4/3), its place uniform. Ten boxes that do not fit inside the image are drawn
    anew; then it is the largest centred one of an allowed ratio.
    """
    for _ in range(10):
        area = width * height * _uniform(0.08, 1, generator)
        ratio = math.exp(_uniform(math.log(3 / 4), math.log(4 / 3), generator))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top = int(torch.randint(height - h + 1, (1,), generator=generator))
            left = int(torch.randint(width - w + 1, (1,), generator=generator))
            return left, top, left + w, top + h
    w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def to_pixels(x: Tensor) -> Tensor:
    """Returns images as float32 in [0, 1]; uint8 is divided by 255."""
    return x.float().div_(255) if x.dtype == torch.uint8 else x.float()


def _finish(x: Tensor, augment: Augment, generator: torch.Generator) -> Tensor:
    """Augments images on the device; returns them as the network takes them."""
    return to_pixels(augment_batch(x, augment, generator))


def _cut(order: Tensor, size: int) -> list[Tensor]:
    return [order[i : i + size] for i in range(0, len(order), size)]


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return torch.empty(1).uniform_(low, high, generator=generator).item()


def _usable_cores() -> int:
    """Returns how many cores this process may keep busy."""
    siblings = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (mine or 1) // siblings)
