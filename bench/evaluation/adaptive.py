"""What adaptive attacks bring, made ready for cells: a gradient_model, and a loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bench.attacks.randomness import seeded
from bench.core.adaptive import Adaptive, GradientModel
from bench.core.attack import AttackInfo
from bench.core.cell import CellSpec
from bench.core.errors import UserError, one_line
from bench.data.slice import Slice
from bench.evaluation.in_memory import evaluation_mode, state_hash
from bench.evaluation.model import Target, device_of
from bench.models.external.losses import loss_in_memory
from bench.oracle import Aids, CustomLoss, Oracle, QueryRules, cross_entropy


def adaptive_of(
    gradient_model: Any, loss: Any, model: nn.Module, attacks: Sequence[AttackInfo]
) -> tuple[Adaptive | None, Aids | None]:
    """Returns what is given to ``evaluate()``, as data and as objects; ``None`` if nothing is.

    Raises:
        UserError: When it is of another type, or no attack has a use for it.
    """
    if gradient_model is None and loss is None:
        return None, None
    if not any(attack.follows_gradient for attack in attacks):
        key = "loss" if gradient_model is None else "gradient_model"
        names = ", ".join(f"'{attack.name}'" for attack in attacks)
        raise UserError(f"{key}: none of the attacks ({names}) follows a gradient; add 'pgd'")
    found = None
    if gradient_model is not None:
        if not isinstance(gradient_model, nn.Module):
            kind = type(gradient_model).__name__
            raise UserError(f"gradient_model: expected an nn.Module, found {kind}")
        if gradient_model is model:
            raise UserError(
                "gradient_model: it is the model itself, whose gradients attacks follow anyway; "
                "give a differentiable stand-in for it, or remove gradient_model"
            )
        name = f"{type(gradient_model).__name__} (in memory)"
        found = GradientModel(name=name, sha256=state_hash(gradient_model))
    said = None if loss is None else loss_in_memory(loss)
    custom = None if said is None else CustomLoss(loss, said.outputs)
    return Adaptive.of(found, said), Aids(gradient_model, custom)


def aids_for(spec: CellSpec, aids: Aids | None) -> Aids | None:
    """Returns the part of what adaptive attacks bring that a cell names."""
    if spec.adaptive is None or aids is None:
        return None
    model = aids.gradient_model if spec.adaptive.gradient_model is not None else None
    return Aids(model, aids.loss if spec.adaptive.loss is not None else None)


@contextmanager
def stand_in_mode(
    gradient_model: nn.Module | None, model: nn.Module, device: str | None
) -> Iterator[None]:
    """Puts a stand-in into eval mode beside the model, then back where and as it was."""
    if gradient_model is None:
        yield
        return
    with evaluation_mode(gradient_model, str(device_of(model)) if device else None):
        yield


def try_out(target: Target, data: Slice, aids: Aids | None) -> None:
    """Asks for one gradient of two images, so that what cannot work is said before it runs.

    Raises:
        UserError: When the stand-in or the loss fails, or gives no gradient.
    """
    if aids is None:
        return
    x = torch.from_numpy(data.x[:2]).to(target.device)
    y = torch.from_numpy(data.y[:2]).to(target.device)
    rules = QueryRules(stochastic=target.stochastic, batch_dependent=target.batch_dependent)
    try:
        with seeded(0):
            Oracle(target.model, x, target.classes, rules, aids=aids).query(x, y, cross_entropy)
            flat = aids.gradient_model is not None and _is_flat(aids.gradient_model, x)
    except UserError:
        raise
    except Exception as error:  # foreign code: whatever it raises is its failure
        what = "loss" if aids.gradient_model is None else "gradient_model"
        what = f"{what} or loss" if aids.gradient_model is not None and aids.loss else what
        raise UserError(f"{what}: fails on two images: {one_line(error)}") from error
    if flat:
        raise UserError(
            "gradient_model: its gradient is zero on the first images, so that it cannot stand in "
            "for a backward pass; replace the layer that cuts it (a quantizer by the identity)"
        )


def _is_flat(model: nn.Module, x: Tensor) -> bool:
    """Says whether no logit of a model moves with any pixel."""
    x = x.clone().requires_grad_()
    with torch.enable_grad():
        z = torch.as_tensor(model(x))
        weights = torch.randn(z.shape, generator=torch.Generator().manual_seed(0)).to(z)
        (slope,) = torch.autograd.grad((z * weights).sum(), x)
    return not bool(slope.any())
