"""Models and images by name, as ``evaluate`` takes them: ``load_model`` and ``load_data``."""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from bench.core.cell import DataSpec
from bench.core.errors import UserError, key_path, our_words
from bench.core.paths import Where, checkpoints_folder
from bench.data.slice import take_slice
from bench.evaluation.device import pick_device
from bench.models import Classifier
from bench.zoo import open_model


def load_model(
    name: str,
    *,
    stats: str | None = None,
    device: str = "cpu",
    checkpoints: str | Path | None = None,
    trust_code: bool = False,
) -> Classifier:
    """Returns a model in eval mode, by the name of a checkpoint or a URI.

    It maps images (b, c, h, w) in [0, 1] to logits (b, classes), as ``evaluate`` takes it;
    ``model.spec`` says what it is.

    Args:
        name: A checkpoint, as ``rbench list checkpoints`` names it, or a URI such as
            ``torchvision:resnet50?weights=DEFAULT`` (docs/models.md).
        stats: Inference statistics in place of the checkpoint's own: ``population``, ``batch`` or
            ``tracked-mean``.
        device: ``cpu``, ``cuda``, ``cuda:1`` or ``auto``.
        checkpoints: Folder of checkpoints; ``None`` for the default ones.
        trust_code: Lets URIs ``python:MODULE:CALLABLE`` run that code.

    Raises:
        UserError: When there is no such model, its weights or library are missing or damaged, or
            its norm has no such statistics.
    """
    folder = checkpoints_folder(Path(checkpoints) if checkpoints else None)
    where = Where(folder, None, pick_device(device, "device="), trust_code)
    return open_model(name, where).load(stats).to(where.device)


def load_data(
    name: str,
    n: int | None = None,
    *,
    split: str = "test",
    offset: int = 0,
    seed: int | None = None,
    stratified: bool = False,
    data_root: str | Path | None = None,
) -> tuple[Tensor, Tensor]:
    """Returns images and labels of a data set, as ``evaluate`` takes them.

    Args:
        name: A data set, as ``rbench list datasets`` names it, or ``npz:PATH`` or ``folder:PATH``.
        n: How many images; ``None`` for all from ``offset`` on.
        split: ``test`` or ``train``.
        offset: Images skipped, after shuffling if there is a seed.
        seed: Shuffles before slicing; ``None`` keeps the split's own order.
        stratified: Takes the same number of images of each class, as far as ``n`` divides.
        data_root: Folder of data sets; ``None`` for the default folders.

    Returns:
        ``x`` (n, c, h, w), float32 in [0, 1], and ``y`` (n,), int64; on the CPU. The same arguments
        give the images that a suite's ``data`` with these keys stands for.

    Raises:
        UserError: When the data set is missing or damaged, or lacks some of the images.
    """
    sliced = {"limit": n, "offset": offset, "seed": seed, "stratified": stratified}
    try:
        spec = DataSpec.model_validate({"name": name, "split": split, **sliced})
    except ValidationError as error:
        first = error.errors()[0]
        key = {"limit": "n"}.get(key_path(first), key_path(first))
        raise UserError(f"{key}: {our_words(first)}, found {first['input']!r}") from None
    data = take_slice(spec, Path(data_root) if data_root else None)
    return torch.from_numpy(data.x), torch.from_numpy(data.y)
