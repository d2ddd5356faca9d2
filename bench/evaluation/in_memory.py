"""Images and models that lie in memory, made ready for cells."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from bench.attacks.base import Budget
from bench.attacks.randomness import seeded
from bench.core.errors import UserError, one_line, place_of
from bench.core.threat import ThreatModel
from bench.data.images import to_unit_range
from bench.data.slice import Slice, hash_images
from bench.evaluation.device import no_tf32, pick_device
from bench.evaluation.memory import Memory
from bench.evaluation.model import Target, device_of
from bench.models import Classifier
from bench.models.fitted import TWO_LOGITS, Fitted, fitted
from bench.models.network_hash import network_hash
from bench.norms import Settled, settle
from bench.oracle import input_kept
from bench.probe.findings import Finding, ProbeResult, some
from bench.probe.forward import REPEAT_TOLERANCE
from bench.probe.model import probe
from bench.probe.state import changed_by

IN_MEMORY = "in-memory"
"""Name of checkpoint and data set in the cells of an evaluation without files."""

FEW = 4
"""Channels up to which a length is taken for channels."""

N_PROBED = 16
"""Images that a model is looked at with."""


def as_slice(x: Any, y: Any) -> Slice:
    """Checks images and labels, and returns them as a slice.

    Args:
        x: Images (n, c, h, w), tensor or array: uint8 in 0..255, or floats in [0, 1].
        y: Labels (n,), whole numbers from 0.

    Raises:
        UserError: When shape, type or range do not fit.
    """
    images, labels = _array("x", x), _array("y", y)
    if images.ndim == 4 and not len(images):
        raise UserError(
            f"x: expected at least one image, found shape {images.shape}; check what selected them"
        )
    if images.ndim != 4 or 0 in images.shape:
        raise UserError(
            f"x: expected images (n, c, h, w), found shape {images.shape}; gray images need a "
            "channel too (x[:, None]), a single image a batch (x[None]), and flat rows "
            "x.reshape(n, c, h, w)"
        )
    _, channels, height, width = images.shape
    if width in (1, 3, 4) and channels > FEW and height > FEW:
        raise UserError(
            f"x: expected images (n, c, h, w), found shape {images.shape}, channels last; give "
            "x.permute(0, 3, 1, 2), of an array x.transpose(0, 3, 1, 2)"
        )
    if images.dtype != np.uint8:
        _check_unit_range(images)
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        raise UserError(
            f"y: expected {len(images)} whole numbers, one label per image, found {labels.dtype} "
            f"of shape {labels.shape}"
        )
    pixels, index = np.ascontiguousarray(to_unit_range(images)), np.arange(len(images))
    integers = labels.astype(np.int64)
    return Slice(pixels, integers, index, hash_images(pixels, integers))


def _array(what: str, values: Any) -> NDArray[Any]:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() else values
        return np.asarray(values.numpy())
    if isinstance(values, DataLoader | Dataset):
        raise UserError(
            f"{what}: expected a tensor or an array, found a {type(values).__name__}; collect its "
            "images and labels first: x, y = (torch.cat(part) for part in zip(*loader)), with "
            "loader = DataLoader(dataset, 100)"
        )
    try:
        if isinstance(values, list | tuple) and any(isinstance(one, Tensor) for one in values):
            return _array(what, torch.stack([torch.as_tensor(one) for one in values]))
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{what}: expected a tensor or an array, found {type(values).__name__} "
            f"({error}); stack its images: torch.stack(list(x))"
        ) from None


def _check_unit_range(images: NDArray[Any]) -> None:
    if images.dtype.kind != "f":
        raise UserError(f"x: expected uint8 or floating-point pixels, found {images.dtype}")
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):  # NaN fails too
        raise UserError(
            f"x: expected pixels in [0, 1], found values from {low:g} to {high:g}; undo the "
            "normalization, and make it the model's first layer"
        )


@contextmanager
def evaluation_mode(model: nn.Module, device: str | None) -> Iterator[Settled]:
    """Puts a model into eval mode on a device, then every layer's mode and place back.

    Layers that are in train mode in a model that is in eval mode stay so (``bench.norms.settle``).
    Buffers come back as they were, and passes see copies of their images, which they may write
    into.

    Args:
        model: Of any kind.
        device: As ``rbench run --device`` takes it; ``None`` leaves the model where it is.
    """
    home = device_of(model)
    tf32 = (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)
    no_tf32()
    if device is not None:
        model.to(pick_device(device, "device="))
    settled = settle(model)
    try:
        with input_kept(model):
            yield settled
    finally:
        settled.undo()
        if device is not None:
            model.to(home)
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = tf32


def mode_notes(settled: Settled) -> tuple[str, ...]:
    """Says which layers are in another mode than a user may think."""
    notes = []
    if settled.switched:
        notes.append(
            f"the model came in train mode and is evaluated in eval mode, which switches "
            f"{some(settled.switched)}; for Monte Carlo dropout call model.eval(), then train() of "
            "the layers that draw"
        )
    if settled.kept:
        notes.append(f"in train mode, as they came: {some(settled.kept)}")
    return tuple(notes)


@dataclass(frozen=True)
class Declared:
    """The properties of a model that a caller states.

    Attributes:
        stochastic: Whether passes draw at random; ``None`` to find out.
        batch_dependent: Whether images of a batch share statistics; ``None`` to find out.
        probe: Whether to look; without it, both must be said.
    """

    stochastic: bool | None = None
    batch_dependent: bool | None = None
    probe: bool = True


def as_target(
    model: nn.Module,
    data: Slice,
    declared: Declared,
    seed: int,
    threat: ThreatModel,
    batch_size: int,
    memory: Memory | None = None,
) -> tuple[Target, tuple[Finding, ...]]:
    """Returns a model in eval mode as a target, and the faults that the probe found.

    Args:
        model: Maps images (b, c, h, w) in [0, 1] to logits (b, classes).
        data: Images that it takes.
        declared: Its properties as stated by the caller.
        seed: Seed of the probe.
        threat: The ball in which it will be attacked.
        batch_size: Images in the batches that will be attacked.
        memory: What is known of the model already; the probe is not repeated.

    Raises:
        UserError: When the model fails on the images, does not return logits, or is not what it
            is declared to be.
    """
    device = device_of(model)
    x = torch.from_numpy(data.x[:N_PROBED]).to(device)
    y = torch.from_numpy(data.y[:N_PROBED]).to(device)
    std = model.spec.std if isinstance(model, Classifier) else (1.0,) * x.shape[1]
    model = _fitted(model, x[:1], min(batch_size, len(data.y)))
    classes = _classes(model, x[:2])
    if not 0 <= int(data.y.min()) <= int(data.y.max()) < classes:
        raise UserError(
            f"y: expected labels from 0 to {classes - 1}, as the model returns {classes} logits, "
            f"found {data.y.min()} to {data.y.max()}"
        )
    stochastic, batch_dependent = declared.stochastic, declared.batch_dependent
    if not declared.probe:
        if stochastic is None or batch_dependent is None:
            raise UserError("probe=False needs both stochastic and batch_dependent to be given")
        return Target(model, std, classes, stochastic, batch_dependent), ()
    if len(x) < 2:  # a lone image needs a companion to be compared with
        x, y = torch.cat([x, 1 - x]), y.repeat(2)
    size, budget = min(batch_size, len(data.y)), Budget.of(threat, std)
    images = hash_images(x.cpu().numpy(), y.cpu().numpy())
    key = ("probe", images, classes, seed, budget, size, str(device))
    found = None if memory is None else memory.recall(key, ProbeResult)
    try:
        if found is None:
            found = probe(model, x, y, classes=classes, seed=seed, budget=budget, batch_size=size)
    except UserError:
        raise
    except Exception as error:  # foreign code: whatever it raises is its failure
        raise UserError(
            f"the model fails while it is probed: {one_line(error)}{place_of(error)}; mend it, or "
            "say stochastic=..., batch_dependent=..., probe=False to attack it unprobed"
        ) from error
    if memory is not None and not (found.stateful or found.state_changes):
        memory.keep(key, found)
    stochastic = found.stochastic if stochastic is None else stochastic
    batch_dependent = found.batch_dependent if batch_dependent is None else batch_dependent
    differs = found.disagreement(stochastic=stochastic, batch_dependent=batch_dependent)
    if differs:
        raise UserError(f"{differs}; probe=False takes your word for it")
    doubts = tuple(finding for finding in found.findings if finding.severity != "note")
    return Target(model, std, classes, stochastic, batch_dependent), doubts


def changes(
    target: Target, before: nn.Module | None, data: Slice, seed: int
) -> tuple[Finding, ...]:
    """Returns what is wrong with a model whose clean logits an evaluation has changed.

    Args:
        target: The model, after the evaluation.
        before: A copy of it from before; ``None`` if it cannot be copied.
        data: Images.
        seed: Of the global generators.
    """
    if before is None or target.stochastic:
        return ()
    if isinstance(target.model, Fitted):
        before = Fitted(before, target.model.dtype, target.model.batch)
    x = torch.from_numpy(data.x[:N_PROBED]).to(target.device)
    try:
        with seeded(seed):
            effect = changed_by(target.model, before, x, seed)
    except Exception:  # it fails on so many images, as its cells say
        return ()
    if effect <= REPEAT_TOLERANCE:
        return ()
    text = (
        f"after the attacks, its logits on clean images differ by {effect:.1e} of their scale from "
        "before: it keeps a state, so attacks and scores saw different models"
    )
    return (Finding(code="stateful", severity="error", text=text),)


def _fitted(model: nn.Module, image: Tensor, batch_size: int) -> nn.Module:
    """Returns a model that takes float32 images in any number (``bench.models.fitted``)."""
    try:
        with seeded(0):
            return fitted(model, image, (batch_size,))
    except Exception as error:  # foreign code: whatever it raises is its failure
        shape = (2, *image.shape[1:])
        raise UserError(
            f"the model fails on images of shape {shape}: {type(error).__name__}: {error}; it "
            "must map float32 images in [0, 1] to logits"
        ) from error


def _classes(model: nn.Module, x: Tensor) -> int:
    """Returns the number of logits that a model gives an image."""
    with torch.no_grad(), seeded(0):
        z = model(x)
    if isinstance(z, Tensor) and len(z) == len(x) and z.shape[1:] in ((), (1,)):
        raise UserError(
            f"expected logits of shape ({len(x)}, classes) from the model, found shape "
            f"{tuple(z.shape)}: one output an image, as of a sigmoid; {TWO_LOGITS}"
        )
    if not isinstance(z, Tensor) or z.ndim != 2 or len(z) != len(x):
        found = f"shape {tuple(z.shape)}" if isinstance(z, Tensor) else type(z).__name__
        raise UserError(
            f"expected logits of shape ({len(x)}, classes) from the model, found {found}; wrap it "
            "into a model whose forward returns one row of logits an image"
        )
    return z.shape[1]


def state_hash(model: nn.Module) -> str:
    """Returns the sha256 of all tensors that a model can reach; of a text if there are none."""
    return network_hash(model) or hashlib.sha256(b"no tensors").hexdigest()
