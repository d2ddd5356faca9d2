"""Foolbox, https://github.com/bethgelab/foolbox.

Its momentum attack adds up signs of gradients where the paper adds up gradients of l1 norm 1, and
steps along the sum itself: another attack than MIM, under the same parameters.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tools.speed.contenders.base import Call, Library, Request


def calls(classes: int) -> Mapping[str, Call]:
    """Returns the call for each setting."""
    climb = {"n_iter": "steps", "alpha": "abs_stepsize"}
    cw = {
        "n_iter": "steps",
        "binary_search_steps": "binary_search_steps",
        "c": "initial_const",
        "lr": "stepsize",
        "kappa": "confidence",
    }
    return {
        "fgsm": Call("LinfFastGradientAttack", {}, {"random_start": False}),
        "pgd": Call(
            "LinfProjectedGradientDescentAttack", {**climb, "random_start": "random_start"}
        ),
        "mim": Call(
            "LinfMomentumIterativeFastGradientMethod",
            {**climb, "decay": "momentum"},
            {"random_start": False},
            note="adds up signs of gradients, and steps along the sum: not the paper's MIM",
        ),
        "cw-l2": Call("L2CarliniWagnerAttack", cw, {"abort_early": False}),
        "deepfool": Call(
            "L2DeepFoolAttack",
            {"n_iter": "steps", "overshoot": "overshoot"},
            {"candidates": classes, "loss": "logits"},
        ),
    }


def attack(module: Any, model: nn.Module, x: Tensor, y: Tensor, request: Request) -> Tensor:
    """Runs one of its classes; those without a radius search for the nearest image."""
    attacked = module.PyTorchModel(model, bounds=(0, 1), device=x.device)
    found = _class(module, request.target)(**request.arguments)
    bounded = not isinstance(found, module.attacks.base.MinimizationAttack)
    raw, clipped, _ = found(attacked, x, y, epsilons=request.eps if bounded else None)
    return torch.as_tensor(clipped if bounded else raw)


def _class(module: Any, name: str) -> Any:
    """Returns a class of the library, exported or not."""
    if hasattr(module.attacks, name):
        return getattr(module.attacks, name)
    for part in vars(module.attacks).values():
        if inspect.ismodule(part) and hasattr(part, name):
            return getattr(part, name)
    raise AttributeError(f"foolbox.attacks has no {name}")


FOOLBOX = Library("foolbox", "foolbox", "foolbox", calls, attack)
