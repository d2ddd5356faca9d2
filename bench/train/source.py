"""Training and test images of a recipe: held on the device, or decoded by workers from files."""

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
from bench.core.host import usable_cores
from bench.core.model_spec import Size, height_width
from bench.data.folder import FileImages, read_image
from bench.data.images import Split
from bench.data.named import get_dataset
from bench.data.slice import open_split, take_all
from bench.train.recipe import Augment, Recipe

CHUNK = 32
"""Images that a worker sends at once: shared memory may be too small for whole batches."""


class Source(Protocol):
    """Labelled training images, visited in any order."""

    def __len__(self) -> int:
        """Returns the number of images."""

    def batches(
        self, order: Tensor, batch_size: int, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields augmented batches, drawing from the generator only when one is requested.

        So the caller may use the same generator in between, and the same seed and calls give the
        same batches.

        Args:
            order: Positions (m,) of the images to visit, int64.
            batch_size: Images per batch; the last one may be smaller.
            generator: On the CPU; decides the augmentation.

        Yields:
            Images (b, c, h, w), float32 in [0, 1], and labels (b,), int64, both on the device.
        """


def training_source(recipe: Recipe, data_root: Path | None, device: torch.device) -> Source:
    """Opens a recipe's training images: held on the device, or streamed from an image folder.

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
    """Opens the test images for the card's accuracy; errors as for ``training_source``."""
    name = recipe.score_on or recipe.dataset
    split = open_split(name, "test", data_root)
    check_fit(recipe, name, split)
    return split


def check_fit(recipe: Recipe, name: str, data: Split) -> None:
    """Raises ``UserError`` if the first image or any label does not fit the recipe's model."""
    model = recipe.model
    first = data.take(np.zeros(1, np.int64))
    expected, found = (model.channels, *height_width(model.size)), first.x.shape[1:]
    cropped = recipe.augment.resized_crop and found[0] == model.channels
    if found != expected and not cropped:
        raise UserError(f"{name}: images are {found}, the recipe's model takes {expected}")
    top = int(data.y.max(initial=0))
    if top >= model.classes:
        raise UserError(f"{name}: has label {top}, the recipe's model has {model.classes} classes")


def _open_train(name: str, data_root: Path | None) -> Split:
    splits = get_dataset(name, data_root).splits
    return open_split(name, "train" if "train" in splits else "test", data_root)


def _stream(recipe: Recipe, parts: list[Split], device: torch.device) -> Source:
    if len(parts) != 1 or not isinstance(parts[0], FileImages):
        raise UserError(
            f"{recipe.name}: resized_crop is for one folder of image files; use pad for a data set "
            "that is held in memory"
        )
    return StreamSource(parts[0], recipe.model.size, recipe.augment.flip, device)


class DeviceSource:
    """Images that are held and augmented on the device.

    Args:
        x: Images (n, c, h, w), uint8, or float in [0, 1].
        y: Labels (n,), int64.
        augment: Augmentation other than ``resized_crop``, which is for ``StreamSource``.
        device: The device.
    """

    def __init__(self, x: Tensor, y: Tensor, augment: Augment, device: torch.device) -> None:
        self.x, self.y, self.augment = x.to(device), y.to(device), augment

    def __len__(self) -> int:
        return len(self.x)

    def batches(
        self, order: Tensor, batch_size: int, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields what ``Source.batches`` says."""
        for rows in _split(order.to(self.x.device), batch_size):
            yield _augmented(self.x[rows], self.augment, generator), self.y[rows]


class StreamSource:
    """Images in files, which worker processes decode and crop ahead of time.

    The crop has 8 to 100 % of the image's area and an aspect ratio of 3/4 to 4/3, and is resized
    to the model's size (Szegedy et al. 2015, https://arxiv.org/abs/1409.4842, section 6). It
    depends on the generator and the image's position only, not on the number of workers, the order
    or the batch size.

    Args:
        images: The files with their labels.
        size: Height and width of the training images.
        flip: Whether to flip half of them.
        device: Device of the batches.
        n_workers: Processes that decode; 0 decodes in this one. ``None`` for one per core, shared
            with the other processes that ``torchrun`` started on this machine.
    """

    def __init__(
        self,
        images: FileImages,
        size: Size,
        flip: bool,
        device: torch.device,
        n_workers: int | None = None,
    ) -> None:
        self.paths, self.device = images.paths, device
        self.y = torch.from_numpy(images.y.copy()).to(device)
        self.augment = Augment(flip=flip)
        self.n_workers = _own_cores() if n_workers is None else n_workers
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
        batches = _split(order.cpu(), batch_size)
        chunks = self._chunks(batches, seeds)
        for rows in batches:
            x = torch.cat([next(chunks) for _ in _split(rows, CHUNK)]).permute(0, 3, 1, 2)
            yield _augmented(x, self.augment, generator), self.y[rows.to(self.device)]

    def _chunks(self, batches: list[Tensor], seeds: Tensor) -> Iterator[Tensor]:
        """Yields chunks (b, h, w, c), uint8, on the device; the copy may still be running."""
        killed = ""
        try:
            # Only this loop refers to the loader's iterator, so that an error stops the workers.
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
        """Returns a loader of all batches in order, each in whole chunks."""
        jobs = (
            [
                _Job(self.paths[position], seed)
                for position, seed in zip(rows.tolist(), seeds[rows].tolist(), strict=True)
            ]
            for batch in batches
            for rows in _split(batch, CHUNK)
        )
        return DataLoader(
            self._crops,
            batch_size=None,
            sampler=jobs,
            num_workers=self.n_workers,
            pin_memory=self.device.type == "cuda",
            # By default the loader would draw from the global generator.
            generator=torch.Generator(),
        )


@dataclass(frozen=True)
class _Job:
    """An image file, and the seed of its crop."""

    path: Path
    seed: int


@dataclass(frozen=True)
class _Refusal:
    """The message of a worker's ``UserError``; raised, it would be wrapped in a traceback."""

    message: str


class _Crops(Dataset[Tensor | _Refusal]):
    """The workers' data set; it holds no list of files, so that there is nothing to copy."""

    def __init__(self, channels: int, size: Size) -> None:
        self.channels, (self.height, self.width) = channels, height_width(size)

    def __getitem__(self, jobs: list[_Job]) -> Tensor | _Refusal:
        """Returns a random crop of each file: (b, h, w, c), uint8."""
        x = torch.empty((len(jobs), self.height, self.width, self.channels), dtype=torch.uint8)
        try:
            if get_worker_info() is not None:
                _share(x)
            for row, job in zip(x.numpy(), jobs, strict=True):
                image = read_image(job.path, self.channels)
                generator = torch.Generator().manual_seed(job.seed)
                crop = image.crop(random_box(image.width, image.height, generator))
                crop = crop.resize((self.width, self.height), Image.Resampling.BILINEAR)
                row[:] = np.asarray(crop).reshape(row.shape)
        except UserError as error:
            return _Refusal(str(error))
        return x


def _share(x: Tensor) -> None:
    """Moves a tensor into shared memory; if the queue did so, a lack of it would hang."""
    try:
        x.untyped_storage().share_memory_()
    except RuntimeError as error:
        raise UserError(
            f"no shared memory is left for training images ({error}); give the machine or "
            "container more (docker run --shm-size 8g), or use fewer workers"
        ) from None


def random_box(width: int, height: int, generator: torch.Generator) -> tuple[int, int, int, int]:
    """Draws a box in an image, as left, top, right and bottom pixel.

    Its area is uniform in 8 to 100 % of the image's, the logarithm of its aspect ratio in log(3/4)
    to log(4/3), its place uniform. After ten boxes that do not fit inside the image, it is the
    largest centred one of an allowed ratio.
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


def _augmented(x: Tensor, augment: Augment, generator: torch.Generator) -> Tensor:
    """Returns augmented images, float32 in [0, 1]."""
    return to_pixels(augment_batch(x, augment, generator))


def _split(order: Tensor, size: int) -> list[Tensor]:
    return [order[i : i + size] for i in range(0, len(order), size)]


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return torch.empty(1).uniform_(low, high, generator=generator).item()


def _own_cores() -> int:
    """Returns this process's share of the cores, beside others that torchrun started."""
    siblings = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, usable_cores() // siblings)


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
