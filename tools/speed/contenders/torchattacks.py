"""torchattacks, https://github.com/Harry24k/adversarial-attacks-pytorch.

Its ``AutoAttack`` takes 10 steps of APGD and FAB where the paper takes 100, and has no parameter
for it, so its components are run with the paper's steps in its ``MultiAttack``.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bench.core.ball import norm_facts
from tools.speed.contenders.base import Call, Library, Request

ASSEMBLED = "its own AutoAttack takes 10 steps; these are its parts, of 100 steps, in MultiAttack"


def calls(classes: int) -> Mapping[str, Call]:
    """Returns the call for each setting."""
    steps = {"n_iter": "steps"}
    climb = {**steps, "alpha": "alpha"}
    restarts = {**steps, "n_restarts": "n_restarts"}
    queries = {"n_queries": "n_queries"}
    stretch = {key: key for key in ("alpha_max", "eta", "beta")}
    every_class, one_weight = {"n_target_classes": classes - 1}, {"binary_search_steps": 1}
    return {
        "fgsm": Call("FGSM"),
        "pgd": Call("PGD", {**climb, "random_start": "random_start"}),
        "mim": Call("MIFGSM", {**climb, "decay": "decay"}),
        "apgd-ce": Call("APGD", {**restarts, "loss": "loss"}),
        "apgd-t": Call("APGDT", restarts, implied=every_class),
        "fab-t": Call("FAB", {**restarts, **stretch}, {"multi_targeted": True}, every_class),
        "square": Call("Square", {**queries, "p_init": "p_init"}),
        "cw-l2": Call("CW", {**steps, "c": "c", "lr": "lr", "kappa": "kappa"}, implied=one_weight),
        "deepfool": Call("DeepFool", {**steps, "overshoot": "overshoot"}),
        "autoattack": Call(
            "MultiAttack", {**steps, **queries, "version": "version"}, note=ASSEMBLED
        ),
        "autoattack-rand": Call(
            "MultiAttack", {**steps, "eot_iter": "eot_iter", "version": "version"}, note=ASSEMBLED
        ),
    }


def attack(module: Any, model: nn.Module, x: Tensor, y: Tensor, request: Request) -> Tensor:
    """Runs one of its classes."""
    if request.target == "MultiAttack":
        return torch.as_tensor(module.MultiAttack(_parts(module, model, request))(x, y))
    made = _make(module, request.target, model, request, request.arguments)
    return torch.as_tensor(made(x, y))


def _make(
    module: Any, name: str, model: nn.Module, request: Request, arguments: Mapping[str, Any]
) -> Any:
    """Returns one of its attacks, with ball, seed and classes if it takes them."""
    context = {
        "eps": request.eps,
        "norm": norm_facts(request.norm).capital,
        "seed": request.seed,
        "n_classes": request.classes,
    }
    kind = getattr(module, name)
    takes = inspect.signature(kind).parameters
    return kind(model, **{k: v for k, v in context.items() if k in takes}, **arguments)


def _parts(module: Any, model: nn.Module, request: Request) -> list[Any]:
    """Returns the components of its ``AutoAttack``, with the paper's number of steps."""
    told = dict(request.arguments)
    version, steps = told.pop("version"), {"steps": told.pop("steps")}
    parts: list[tuple[str, dict[str, Any]]] = [
        ("APGD", {**steps, "loss": "ce"}),
        ("APGDT", steps),
        ("FAB", {**steps, "multi_targeted": True}),
        ("Square", told),
    ]
    if version == "rand":
        parts = [("APGD", {**steps, **told, "loss": loss}) for loss in ("ce", "dlr")]
    return [_make(module, name, model, request, arguments) for name, arguments in parts]


TORCHATTACKS = Library("torchattacks", "torchattacks", "torchattacks", calls, attack)
