"""AutoAttack, by its authors' package pyautoattack.

Source: Croce and Hein, ICML 2020, https://arxiv.org/abs/2003.01690. Kept as they are: a sample
that is broken once is dropped, so the batch shrinks; a stochastic model's samples count as broken
on one draw. The verifier scores what comes back.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from pyautoattack import AutoAttack
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from torch import Tensor

from bench.attacks.base import Budget
from bench.attacks.declared_libraries import MIN_CLASSES, Part, PyAutoAttackParams
from bench.attacks.declared_search import N_TARGETS
from bench.attacks.randomness import seeded, tracing_kept
from bench.core.ball import norm_facts
from bench.core.errors import UserError
from bench.oracle import Oracle

_LOGGER = logging.getLogger(__name__)
_LOGGER.addHandler(logging.NullHandler())


def run(
    oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: PyAutoAttackParams, seed: int
) -> Tensor:
    """Runs AutoAttack on images (b, c, h, w) in [0, 1] with labels (b,), as one batch.

    Raises:
        UserError: When the radius differs between channels, or when the model has too few classes
            for a component.
    """
    _check_classes(params, oracle.n_classes)
    with seeded(seed), torch.enable_grad(), tracing_kept():
        attack = _build(oracle, budget, params, seed)
        x_adv: Tensor = attack.run_standard_evaluation(x.contiguous(), y, batch_size=len(x))[0]
    return x_adv.detach().to(x.device)


def _check_classes(params: PyAutoAttackParams, n_classes: int) -> None:
    for component in params.components:
        needed = MIN_CLASSES.get(component, 2)
        if n_classes < needed:
            parts: tuple[Part, ...] = ("apgd-ce", "apgd-dlr", "fab-t", "square")
            fitting = [c for c in parts if MIN_CLASSES.get(c, 2) <= n_classes]
            raise UserError(
                f"pyautoattack: component '{component}' needs at least {needed} classes, the model "
                f"has {n_classes}; use version: custom with attacks_to_run: [{', '.join(fitting)}]"
            )


def _build(oracle: Oracle, budget: Budget, params: PyAutoAttackParams, seed: int) -> Any:
    """Returns the library's ensemble, with every component set up from the parameters."""
    view = oracle.module()
    eps, norm = budget.radius("pyautoattack"), norm_facts(budget.norm).capital
    device, targets = view.anchor.device, min(N_TARGETS, oracle.n_classes - 1)
    ensemble = AutoAttack(
        view,
        attacks=list(params.components),
        device=device,
        eps=eps,
        norm=norm,
        seed=seed,
        version="custom",
    )
    ensemble.version = params.version  # 'rand' skips the library's check for randomness
    ensemble.verbose, ensemble.logger = False, _LOGGER
    shared = {
        "n_iter": params.n_iter,
        "norm": norm,
        "eps": eps,
        "seed": seed,
        "eot_iter": params.eot,
        "device": device,
        "logger": _LOGGER,
    }
    # APGD plans its checkpoints from n_iter when it is made, so it is made anew.
    shared |= {"use_largereps": norm == "L1"}  # as in the library's standard version
    ensemble.apgd = APGDAttack(view, n_restarts=params.restarts, **shared)
    ensemble.apgd_targeted = APGDAttack_targeted(view, n_target_classes=targets, **shared)
    ensemble.fab.n_iter, ensemble.fab.n_restarts = params.n_iter, params.restarts
    ensemble.fab.n_target_classes = targets
    ensemble.square.n_queries = params.n_queries
    return ensemble
