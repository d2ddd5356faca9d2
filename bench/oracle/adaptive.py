"""What an adaptive attack sees: the backward pass of a stand-in, and outputs of single layers."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.core.errors import UserError, did_you_mean
from bench.models import Classifier
from bench.norms import find_paths, pinned

Outputs = Mapping[str, Tensor]
"""What named layers returned in one pass, each with the images first."""


@dataclass(frozen=True)
class CustomLoss:
    """A loss of the attacker's own.

    Attributes:
        function: ``function(logits, y) -> (b,)``, higher for a more harmful image; with
            ``outputs``, ``function(logits, y, outputs)``.
        outputs: Names of the layers whose outputs it takes.
    """

    function: Callable[..., Any]
    outputs: tuple[str, ...] = ()

    def __call__(self, logits: Tensor, y: Tensor, seen: Outputs) -> Tensor:
        """Returns the loss (b,).

        Raises:
            UserError: When the function returns anything but one value for each image.
        """
        values = self.function(logits, y, dict(seen)) if self.outputs else self.function(logits, y)
        if not isinstance(values, Tensor) or values.shape != y.shape:
            found = type(values).__name__
            if isinstance(values, Tensor):
                found = f"a tensor of shape {tuple(values.shape)}"
            raise UserError(
                f"loss: expected one value for each image, shape {tuple(y.shape)}, found {found}; "
                "do not average over the images (reduction='none')"
            )
        return values


@dataclass(frozen=True)
class Aids:
    """What an adaptive attack brings.

    Attributes:
        gradient_model: Maps images to logits, in eval mode; gives the gradients in place of the
            attacked model. Only its backward pass counts, not its logits.
        loss: Is climbed in place of the attack's own loss.
    """

    gradient_model: nn.Module | None = None
    loss: CustomLoss | None = None

    @property
    def watched(self) -> tuple[str, ...]:
        """Names of the layers whose outputs the loss takes."""
        return () if self.loss is None else self.loss.outputs


class AidedPass:
    """Runs the passes of an adaptive attack.

    A pass for a gradient is two: the model's own, which gives the values, and the stand-in's,
    whose backward pass gives their gradients. The stand-in draws the numbers that the model drew
    from the global generators, and takes the same path through RNA layers, so that a random
    defence and its stand-in show the same draw.

    Args:
        model: The attacked model.
        aids: What the attack brings.
        stochastic: Whether the model draws at random.

    Raises:
        UserError: When the model, or the stand-in, has no layer of a watched name.
    """

    def __init__(self, model: nn.Module, aids: Aids, *, stochastic: bool) -> None:
        self._stand_in, self._stochastic = aids.gradient_model, stochastic
        self._layers = find_layers(model, aids.watched, "loss")
        self._twins: dict[str, nn.Module] = {}
        if self._stand_in is not None:
            whose = "loss, with a gradient_model"
            self._twins = find_layers(self._stand_in, aids.watched, whose)

    def is_double(self, x: Tensor) -> bool:
        """Says whether a pass over images runs the stand-in too."""
        return self._stand_in is not None and torch.is_grad_enabled() and x.requires_grad

    def __call__(
        self, own: Callable[[Tensor], Tensor], x: Tensor, path: Tensor | None
    ) -> tuple[Tensor, Outputs]:
        """Returns logits (b, n_classes) and the watched outputs, all differentiable in x.

        Args:
            own: Runs the attacked model.
            x: Images (b, c, h, w).
            path: Through RNA layers, or ``None``.

        Raises:
            UserError: When the stand-in's outputs are not of the model's shapes, or have no
                gradient.
        """
        if self._stand_in is None or not self.is_double(x):
            return _watched(self._layers, own, x)
        before = _random_state(x) if self._stochastic else None
        with torch.no_grad():
            z, seen = _watched(self._layers, own, x.detach())
        after = _random_state(x) if self._stochastic else None
        try:
            _set_random_state(x, before)
            with self._same_path(path):
                z_back, seen_back = _watched(self._twins, self._stand_in, x)
        finally:
            _set_random_state(x, after)
        joined = {name: _joined(seen[name], seen_back[name], f"layer '{name}'") for name in seen}
        return _joined(z, z_back, "logits"), joined

    def _same_path(self, path: Tensor | None) -> Any:
        """Pins the model's path in a stand-in with as many RNA layers."""
        assert self._stand_in is not None
        paths = find_paths(self._stand_in)
        if path is None or paths is None or len(paths.sizes) != len(path):
            return nullcontext()
        return pinned(self._stand_in, path)


def find_layers(model: nn.Module, names: tuple[str, ...], of: str) -> dict[str, nn.Module]:
    """Returns a model's layers by name, as ``named_modules`` has them.

    Names in a ``Classifier`` are those of the network in it.

    Raises:
        UserError: When there is no such layer.
    """
    net = model.net if isinstance(model, Classifier) else model
    known = {name: module for name, module in net.named_modules() if name}
    for name in names:
        if name not in known:
            raise UserError(
                f"{of}: expected a layer '{name}' in {type(net).__name__}, found none"
                f"{did_you_mean(name, known)}"
            )
    return {name: known[name] for name in names}


def _watched(
    layers: Mapping[str, nn.Module], run: Callable[[Tensor], Any], x: Tensor
) -> tuple[Tensor, Outputs]:
    """Runs a model; returns its logits and what layers returned, the last time they ran."""
    if not layers:
        return torch.as_tensor(run(x)), {}
    seen: dict[str, Any] = {}
    with _hooked(layers, seen):
        z = torch.as_tensor(run(x))
    for name in layers:
        found = seen.get(name)
        if not isinstance(found, Tensor) or found.ndim == 0 or len(found) != len(x):
            what = "that does not run" if name not in seen else f"that returns {_kind(found)}"
            raise UserError(
                f"loss: expected a layer '{name}' that returns a tensor of {len(x)} images, "
                f"found one {what}"
            )
    return z, seen


@contextmanager
def _hooked(layers: Mapping[str, nn.Module], seen: dict[str, Any]) -> Iterator[None]:
    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda module, given, returned: seen.update({name: returned})

    handles = [module.register_forward_hook(keep(name)) for name, module in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _kind(found: object) -> str:
    return f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__


def _joined(z: Tensor, z_back: Tensor, what: str) -> Tensor:
    """Returns the values of one tensor with the backward pass of another."""
    if z.shape != z_back.shape:
        raise UserError(
            f"gradient_model: expected {what} of shape {tuple(z.shape)}, as the model has, found "
            f"{tuple(z_back.shape)}"
        )
    if not z_back.requires_grad:
        raise UserError(
            f"gradient_model: no gradient reaches its {what} from the image, so that it cannot "
            "stand in for a backward pass; replace what is not differentiable in it"
        )
    return torch.as_tensor(_Joined.apply(z.to(z_back.dtype), z_back))


class _Joined(torch.autograd.Function):
    """The values of the first tensor; gradients go to the second."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, z_back: Tensor) -> Tensor:
        return z.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor]:
        return None, grads[0]


def _random_state(x: Tensor) -> tuple[Any, ...]:
    """Returns the states of the global generators that a pass over x may draw from."""
    cuda = torch.cuda.get_rng_state(x.device) if x.device.type == "cuda" else None
    return torch.get_rng_state(), cuda, np.random.get_state(), random.getstate()


def _set_random_state(x: Tensor, state: tuple[Any, ...] | None) -> None:
    """Puts states back; ``None`` leaves them as they are."""
    if state is None:
        return
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], x.device)
    np.random.set_state(state[2])
    random.setstate(state[3])
