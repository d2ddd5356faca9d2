"""pyautoattack, https://pypi.org/project/pyautoattack: AutoAttack by its authors."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bench.attacks.randomness import tracing_kept
from bench.core.ball import norm_facts
from tools.speed.contenders.base import Call, Library, Request

_LOGGER = logging.getLogger(__name__)
_LOGGER.addHandler(logging.NullHandler())


def calls(classes: int) -> Mapping[str, Call]:
    """Returns the call for each setting; ``target`` is its component or version."""
    steps, restarts = {"n_iter": "n_iter"}, {"n_restarts": "n_restarts"}
    queries = {"n_queries": "n_queries"}
    targets = {"n_target_classes": "n_target_classes"}
    return {
        "apgd-ce": Call("apgd-ce", {**steps, **restarts}, implied={"loss": "ce"}),
        "apgd-t": Call("apgd-t", {**steps, **restarts, **targets}),
        "fab-t": Call(
            "fab-t",
            {
                **steps,
                **restarts,
                **targets,
                "alpha_max": "alpha_max",
                "eta": "eta",
                "beta": "beta",
            },
        ),
        "square": Call("square", {**queries, "p_init": "p_init"}, {"rescale_schedule": True}),
        "autoattack": Call("standard", {**steps, **queries}, implied={"version": "standard"}),
        "autoattack-rand": Call(
            "rand", {**steps, "eot_iter": "eot_iter"}, implied={"version": "rand"}
        ),
    }


def attack(module: Any, model: nn.Module, x: Tensor, y: Tensor, request: Request) -> Tensor:
    """Runs its standard evaluation with some of its components."""
    ensemble = _ensemble(module, model, x.device, request)
    with tracing_kept():
        x_adv = ensemble.run_standard_evaluation(x, y, batch_size=len(x))[0]
    return torch.as_tensor(x_adv)


def _ensemble(module: Any, model: nn.Module, device: torch.device, request: Request) -> Any:
    version = request.target in ("standard", "rand")
    ensemble = module.AutoAttack(
        model,
        attacks=None if version else [request.target],
        norm=norm_facts(request.norm).capital,
        eps=request.eps,
        version=request.target if version else "custom",
        seed=request.seed,
        device=device,
    )
    ensemble.verbose, ensemble.logger = False, _LOGGER
    # Sets what its constructor does not take on its components, as in its README.
    components = {
        "apgd-ce": [ensemble.apgd],
        "apgd-t": [ensemble.apgd_targeted],
        "fab-t": [ensemble.fab],
        "square": [ensemble.square],
    }
    every = [component for group in components.values() for component in group]
    for component in components.get(request.target, every):
        for key, value in request.arguments.items():
            if hasattr(component, key):
                setattr(component, key, value)
    for apgd in (ensemble.apgd, ensemble.apgd_targeted):
        _plan_steps(apgd)
    return ensemble


def _plan_steps(apgd: Any) -> None:
    """Spaces the checks of its step size over its steps, as its constructor does."""
    apgd.n_iter_orig = apgd.n_iter
    for key, share in (("n_iter_2", 0.22), ("n_iter_min", 0.06), ("size_decr", 0.03)):
        setattr(apgd, key, max(int(share * apgd.n_iter), 1))


PYAUTOATTACK = Library("pyautoattack", "pyautoattack", "pyautoattack", calls, attack)
