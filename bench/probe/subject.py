"""The model under probe, and ways to run it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from bench.core.errors import UserError
from bench.norms import find_paths, pinned
from bench.verify.guard import ModelGuard

Run = Callable[[Tensor], Tensor]
"""A forward pass: images (b, c, h, w) to logits (b, classes)."""


HALF = (torch.bfloat16, torch.float16)
"""Precisions whose rounding shows: in a batch of another shape, the last bits of logits move."""


class Subject:
    """A model under probe, in its current modes.

    Args:
        model: The model.
        classes: Number of classes.
        needs_autograd: Whether it fails without gradients; set by ``first_pass``.

    Attributes:
        rounding: Relative rounding of a model of half precision; 0 for any other.
    """

    def __init__(self, model: nn.Module, classes: int, needs_autograd: bool = False) -> None:
        self.model, self.classes, self.needs_autograd = model, classes, needs_autograd
        self._guard = ModelGuard(model)
        self.rounding = max(
            (torch.finfo(kind).eps for kind in _kinds(model) if kind in HALF), default=0.0
        )

    def run(self, x: Tensor) -> Tensor:
        """Returns detached logits (b, classes)."""
        with nullcontext() if self.needs_autograd else torch.no_grad():
            return torch.as_tensor(self.model(x)).detach()

    def attached(self, x: Tensor) -> Tensor:
        """Returns logits (b, classes) with a gradient in x, if the model has one."""
        with torch.enable_grad():
            return torch.as_tensor(self.model(x))

    def first_pass(self, x: Tensor) -> tuple[Tensor, bool]:
        """Returns logits (b, classes), and whether ``forward`` itself uses autograd.

        Raises:
            UserError: When the forward pass fails or does not return logits.
        """
        try:
            z = self._run_somehow(x)
        except Exception as error:  # foreign code can raise anything
            raise UserError(
                f"the model fails on a batch of shape {tuple(x.shape)}: {type(error).__name__}: "
                f"{error}; it must map images in [0, 1] to logits without further preparation"
            ) from error
        if z.shape != (len(x), self.classes) or not z.is_floating_point():
            raise UserError(
                f"expected logits of shape ({len(x)}, {self.classes}) from the model, found "
                f"{z.dtype} of shape {tuple(z.shape)}; check the number of classes"
            )
        if z.dtype in HALF:
            self.rounding = max(self.rounding, torch.finfo(z.dtype).eps)
        return z, self.needs_autograd or not self._works_in_inference_mode(x)

    def _run_somehow(self, x: Tensor) -> Tensor:
        try:
            return self.run(x)
        except RuntimeError:
            self.needs_autograd = True
            return self.run(x)

    def _works_in_inference_mode(self, x: Tensor) -> bool:
        """Tries a copy: a pass in inference mode may store tensors that autograd refuses."""
        trial = copied(self.model)
        if trial is None:
            return True
        try:
            with torch.inference_mode():
                trial(x)
        except RuntimeError:
            return False
        return True

    def restore(self) -> list[str]:
        """Undoes the changes that passes made to the model; returns what they changed."""
        return self._guard.changes()

    def fresh_copy(self) -> Subject | None:
        """Returns an independent copy, or ``None`` if the model cannot be copied."""
        other = copied(self.model)
        if other is None:
            return None
        found = Subject(other, self.classes, self.needs_autograd)
        found.rounding = self.rounding
        return found

    def in_float64(self, x: Tensor) -> Subject | None:
        """Returns a double-precision copy, or ``None`` if the model fails in double precision."""
        other = copied(self.model)
        if other is None:
            return None
        try:
            exact = Subject(other.double(), self.classes, self.needs_autograd)
            z = exact.run(x.double())
        except Exception:  # foreign code may not support float64
            return None
        return exact if z.dtype == torch.float64 else None


def _kinds(model: nn.Module) -> set[torch.dtype]:
    """Returns the types of a model's weights and buffers."""
    return {tensor.dtype for tensor in (*model.parameters(), *model.buffers())}


def copied(model: nn.Module) -> nn.Module | None:
    """Returns a deep copy, or ``None`` if the model cannot be copied."""
    try:
        return copy.deepcopy(model)
    except Exception:  # foreign code may hold locks, graphs or files
        return None


def paths_to_hold(model: nn.Module, seed: int) -> list[Tensor | None]:
    """Returns paths (n_layers,) of RNA layers that together use every branch; else one ``None``."""
    paths = find_paths(model)
    if paths is None:
        return [None]
    sizes = torch.tensor(paths.sizes)
    same: list[Tensor | None] = [
        torch.minimum(torch.tensor(branch), sizes - 1) for branch in range(max(paths.sizes))
    ]
    return [*same, paths.sample(None, torch.Generator().manual_seed(seed))]


@contextmanager
def held(model: nn.Module, path: Tensor | None) -> Iterator[None]:
    """Pins a path of a model's RNA layers; ``None`` pins nothing."""
    with nullcontext() if path is None else pinned(model, path):
        yield


def scale_of(z: Tensor) -> float:
    """Returns the scale of logits (b, classes): the largest distance from a row's mean.

    It is at least 5 % of the largest logit, so that rounding stays small relative to it if all
    logits share an offset.
    """
    z = torch.nan_to_num(z.double(), nan=0.0, posinf=0.0, neginf=0.0)
    spread = (z - z.mean(1, keepdim=True)).abs().amax()
    return max(float(spread), 0.05 * float(z.abs().amax()), 1e-30)


def deviation(a: Tensor, b: Tensor, scale: float) -> float:
    """Returns the largest difference between two sets of logits, relative to ``scale``.

    Equal infinities or NaNs at the same place are no difference; any others count as 1.
    """
    same = (a == b) | (a.isnan() & b.isnan())
    change = torch.where(same, 0.0, (a - b).abs().double() / scale)
    return float(torch.nan_to_num(change, nan=1.0, posinf=1.0).amax())
