"""Folds norms that only scale and shift each channel at inference into convolutions."""

from __future__ import annotations

import copy
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from bench.norms.batch import batch_norm_affine


def inference_affine(norm: nn.Module) -> tuple[Tensor, Tensor] | None:
    """Returns scale and shift, (c,) or (1,), of a layer in eval mode; ``None`` if it does more.

    PyTorch's ``BatchNorm2d`` is handled here; norms of this project implement ``Affine``.
    """
    if norm.training:
        return None
    if type(norm) is nn.BatchNorm2d:
        return batch_norm_affine(norm)
    if isinstance(norm, Affine):
        return norm.inference_affine()
    return None


@runtime_checkable
class Affine(Protocol):
    """A norm that, depending on its statistics, only scales and shifts channels at inference."""

    def inference_affine(self) -> tuple[Tensor, Tensor] | None:
        """Returns scale and shift, (c,) or (1,); ``None`` if it uses statistics of the images."""


def fold(model: nn.Module, x: Tensor) -> int:
    """Folds norms into the convolutions before them, in place; returns how many.

    Pairs of convolution and norm are found by passing images through the model. The caller compares
    logits before and after: a convolution whose output is also used elsewhere must not be folded,
    and changes them.

    Args:
        model: In eval mode, with parameters that need no gradient.
        x: A few images (b, c, h, w).
    """
    pairs = _pairs(model, x)
    names = {module: name for name, module in model.named_modules()}
    for conv, norm in pairs:
        found = inference_affine(norm)
        assert found is not None
        scale, shift = found
        conv.weight = nn.Parameter(conv.weight * scale.view(-1, 1, 1, 1), requires_grad=False)
        before = 0 if conv.bias is None else conv.bias * scale
        shift = (shift + before).expand(conv.out_channels).clone()
        conv.bias = nn.Parameter(shift, requires_grad=False)
        parent, _, own = names[norm].rpartition(".")
        setattr(model.get_submodule(parent), own, nn.Identity())
    return len(pairs)


def fold_checked(copied: nn.Module, model: nn.Module, x: Tensor, tolerance: float = 1e-3) -> bool:
    """Folds the norms of a model's copy; returns whether there were any and the logits agree.

    Args:
        copied: The copy, changed in place.
        model: The original, in eval mode.
        x: A few images (b, c, h, w), on which both must agree.
        tolerance: Largest difference of a logit, as a share of the largest logit.
    """
    with torch.no_grad():
        if not fold(copied, x):
            return False
        expected, found = model(x), copied(x)
    return bool((found - expected).abs().max() <= tolerance * expected.abs().max())


class Folded:
    """A copy of a model in training, with norms folded as at inference.

    ``refresh`` copies the model's current weights and statistics, without a pass.

    Attributes:
        copy: In eval mode; its parameters need no gradient.
    """

    def __init__(self, model: nn.Module, copy: nn.Module, pairs: dict[str, str]) -> None:
        self._model, self.copy, self._pairs = model, copy, pairs

    @classmethod
    def of(cls, model: nn.Module, x: Tensor) -> Folded | None:
        """Returns the folded copy, or ``None`` if no norm can be folded.

        Args:
            model: In eval mode.
            x: A few images (b, c, h, w), on which the logits must agree.
        """
        copied = copy.deepcopy(model).requires_grad_(False)
        names = {module: name for name, module in copied.named_modules()}
        pairs = {names[conv]: names[norm] for conv, norm in _pairs(copied, x)}
        return cls(model, copied, pairs) if fold_checked(copied, model, x) else None

    def refresh(self) -> None:
        """Copies the model's weights and statistics."""
        now = self._model.state_dict()
        with torch.no_grad():
            for name, tensor in self.copy.state_dict().items():
                if name.rpartition(".")[0] not in self._pairs:
                    tensor.copy_(now[name])
            for conv, norm in self._pairs.items():
                found = inference_affine(self._model.get_submodule(norm))
                own, its = self.copy.get_submodule(conv), self._model.get_submodule(conv)
                assert found is not None and isinstance(own, nn.Conv2d)
                assert isinstance(its, nn.Conv2d) and own.bias is not None
                scale, shift = found
                own.weight.copy_(its.weight * scale.view(-1, 1, 1, 1))
                own.bias.copy_(shift if its.bias is None else shift + its.bias * scale)


def _pairs(model: nn.Module, x: Tensor) -> list[tuple[nn.Conv2d, nn.Module]]:
    """Returns each convolution whose output goes into a norm that can be folded, with that norm."""
    made: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # keeps outputs alive, so that ids are unique
    pairs: list[tuple[nn.Conv2d, nn.Module]] = []
    runs: dict[nn.Module, int] = {}

    def after(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        runs[module] = runs.get(module, 0) + 1
        if isinstance(module, nn.Conv2d):
            made[id(output)] = (module, output)
        elif inputs and id(inputs[0]) in made:
            pairs.append((made[id(inputs[0])][0], module))

    layers = [
        m for m in model.modules() if isinstance(m, nn.Conv2d) or inference_affine(m) is not None
    ]
    hooks = [layer.register_forward_hook(after) for layer in layers]
    try:
        with torch.no_grad():
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return [(conv, norm) for conv, norm in pairs if runs[conv] == runs[norm] == 1]
