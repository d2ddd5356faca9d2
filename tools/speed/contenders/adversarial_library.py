"""adversarial-library (``adv_lib``), https://github.com/jeromerony/adversarial-library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bench.core.ball import norm_facts
from tools.speed.contenders.base import Call, Library, Request


def calls(classes: int) -> Mapping[str, Call]:
    """Returns the call for each setting."""
    restarts = {"n_iter": "n_iter", "n_restarts": "n_restarts"}
    cw = {
        "n_iter": "max_iterations",
        "binary_search_steps": "binary_search_steps",
        "c": "initial_const",
        "lr": "learning_rate",
        "kappa": "confidence",
    }
    stretch = {"alpha_max": "α_max", "beta": "β", "eta": "η"}  # noqa: RUF001 - its own names
    return {
        "pgd": Call(
            "pgd_linf",
            {
                "n_iter": "steps",
                "alpha": "absolute_step_size",
                "random_start": "random_init",
            },
            {"loss_function": "ce"},
        ),
        "apgd-ce": Call("apgd", {**restarts, "loss": "loss_function"}),
        "apgd-t": Call(
            "apgd_targeted",
            {**restarts, "n_target_classes": "num_targets"},
            {"loss_function": "dlr"},
        ),
        "fab-t": Call(
            "fab",
            {"n_iter": "n_iter", "n_target_classes": "restarts", **stretch},
            {"targeted_restarts": True},
            {"n_restarts": 1},
            minimum_norm=True,
            note="looks for the nearest image and never stops at eps",
        ),
        "cw-l2": Call("carlini_wagner_l2", cw, {"abort_early": False}),
        "deepfool": Call("df", {"n_iter": "steps", "overshoot": "overshoot"}),
    }


def attack(module: Any, model: nn.Module, x: Tensor, y: Tensor, request: Request) -> Tensor:
    """Runs one of its functions."""
    norm = norm_facts(request.norm).order
    ball: dict[str, dict[str, object]] = {
        "pgd_linf": {"ε": request.eps},
        "apgd": {"eps": request.eps, "norm": norm},
        "apgd_targeted": {"eps": request.eps, "norm": norm},
        "fab": {"ε": request.eps, "norm": norm},
        "df": {"norm": norm},
    }
    function = getattr(module, request.target)
    found = function(model, x, y, **ball.get(request.target, {}), **request.arguments)
    return torch.as_tensor(found)


ADVERSARIAL_LIBRARY = Library("adv_lib", "adv-lib", "adv_lib.attacks", calls, attack)
