"""AutoAttack, by its authors' package pyautoattack.

Source: Croce and Hein, ICML 2020, https://arxiv.org/abs/2003.01690. Kept as they are: a sample
that is broken once is dropped, so the batch shrinks; a stochastic model's samples count as broken
on one draw. The verifier scores what comes back.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

from pydantic import model_validator

from bench.attacks.base import Attack, Budget
from bench.attacks.params import Count
from bench.core.errors import UserError
from bench.core.spec import Spec
from bench.core.threat import CAPITALS

if TYPE_CHECKING:
    from torch import Tensor

    from bench.oracle import Oracle

Component = Literal["apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"]

VERSIONS: dict[str, tuple[Component, ...]] = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
    "rand": ("apgd-ce", "apgd-dlr"),
}
"""The components of each version, in the order in which they run."""

MIN_CLASSES: dict[Component, int] = {"apgd-dlr": 3, "apgd-t": 4}
"""The (targeted) DLR loss divides by a difference to the third (and fourth) largest logit."""

N_TARGETS = 9
"""Target classes of the targeted components; a model of fewer than 10 classes has fewer."""

_LOGGER = logging.getLogger(__name__)
_LOGGER.addHandler(logging.NullHandler())


class AutoAttackParams(Spec):
    """Parameters of AutoAttack. Any but ``version`` makes it another attack than the published.

    Attributes:
        version: ``standard``, ``plus``, ``rand`` (for stochastic models) or ``custom``.
        attacks_to_run: Components in order, for ``custom`` only.
        n_iter: Iterations of APGD and FAB.
        n_queries: Queries of Square.
        n_restarts: Of the untargeted components apgd-ce, apgd-dlr and fab; ``None`` takes the
            version's own: 1 for standard and rand, 5 for plus and custom.
        eot_iter: Gradients averaged in each APGD step; ``None`` takes 20 for rand, otherwise 1.
    """

    version: Literal["standard", "plus", "rand", "custom"] = "standard"
    attacks_to_run: tuple[Component, ...] = ()
    n_iter: Count = 100
    n_queries: Count = 5000
    n_restarts: Count | None = None
    eot_iter: Count | None = None

    @model_validator(mode="after")
    def _consistent(self) -> AutoAttackParams:
        if (self.version == "custom") != bool(self.attacks_to_run):
            raise ValueError("version 'custom' needs attacks_to_run, and only 'custom' takes it")
        if len(set(self.attacks_to_run)) != len(self.attacks_to_run):
            raise ValueError("attacks_to_run names a component twice")
        return self

    @property
    def components(self) -> tuple[Component, ...]:
        """The components in the order in which they run."""
        return self.attacks_to_run or VERSIONS[self.version]

    @property
    def restarts(self) -> int:
        """Restarts of the untargeted components once defaults are filled in."""
        return self.n_restarts or (5 if self.version in ("plus", "custom") else 1)

    @property
    def eot(self) -> int:
        """Gradients per APGD step once defaults are filled in."""
        return self.eot_iter or (20 if self.version == "rand" else 1)


def run(oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int) -> Tensor:
    """Runs AutoAttack on images (b, c, h, w) in [0, 1] with labels (b,), as one batch.

    Raises:
        UserError: When the radius differs between channels, or when the model has too few classes
            for a component.
    """
    import torch

    from bench.attacks.randomness import seeded, tracing_kept

    assert isinstance(params, AutoAttackParams)
    _check_classes(params, oracle.n_classes)
    with seeded(seed), torch.enable_grad(), tracing_kept():
        attack = _build(oracle, budget, params, seed)
        x_adv: Tensor = attack.run_standard_evaluation(x.contiguous(), y, batch_size=len(x))[0]
    return x_adv.detach().to(x.device)


def _check_classes(params: AutoAttackParams, n_classes: int) -> None:
    for component in params.components:
        needed = MIN_CLASSES.get(component, 2)
        if n_classes < needed:
            parts: tuple[Component, ...] = ("apgd-ce", "apgd-dlr", "fab-t", "square")
            fitting = [c for c in parts if MIN_CLASSES.get(c, 2) <= n_classes]
            raise UserError(
                f"pyautoattack: component '{component}' needs at least {needed} classes, the model "
                f"has {n_classes}; use version: custom with attacks_to_run: [{', '.join(fitting)}]"
            )


def _build(oracle: Oracle, budget: Budget, params: AutoAttackParams, seed: int) -> Any:
    """Returns the library's ensemble, with every component set up from the parameters."""
    from pyautoattack import AutoAttack
    from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted

    view = oracle.module()
    eps, norm = budget.radius("pyautoattack"), CAPITALS[budget.norm]
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
    ensemble.apgd = APGDAttack(view, n_restarts=params.restarts, **shared)
    ensemble.apgd_targeted = APGDAttack_targeted(view, n_target_classes=targets, **shared)
    ensemble.fab.n_iter, ensemble.fab.n_restarts = params.n_iter, params.restarts
    ensemble.fab.n_target_classes = targets
    ensemble.square.n_queries = params.n_queries
    return ensemble


def passes(params: Spec) -> float:
    """Returns an upper bound of passes per image for ten classes; a broken image costs less."""
    assert isinstance(params, AutoAttackParams)
    gradient = 2.0 * (params.n_iter + 1) * params.eot
    cost: dict[Component, float] = {
        "apgd-ce": params.restarts * gradient,
        "apgd-dlr": params.restarts * gradient,
        "fab": params.restarts * (params.n_iter * 12.0 + 3),  # forward, ten backward, check
        "square": params.n_queries + 3.0,
        "apgd-t": N_TARGETS * (gradient + 1),
        "fab-t": N_TARGETS * (params.n_iter * 3.0 + 3),
    }
    checks = 8.0
    return checks + sum(cost[component] + 2 for component in params.components)


PYAUTOATTACK = Attack(
    name="pyautoattack",
    version=1,
    kind="bounded",
    norms=("linf", "l2"),
    params=AutoAttackParams,
    run=run,
    summary="AutoAttack by its authors' package: APGD, FAB and Square in a row",
    url="https://arxiv.org/abs/2003.01690",
    library="pyautoattack",
    keeps_batch=False,
    passes=passes,
)
