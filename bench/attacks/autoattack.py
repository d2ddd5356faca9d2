"""AutoAttack: APGD, FAB and Square in a row. https://arxiv.org/abs/2003.01690, section 5.

Composed of this project's own searches, so that it knows of draws and of batches. The authors'
package is ``pyautoattack``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from bench.attacks.apgd import N_TARGETS
from bench.attacks.base import Attack, Budget
from bench.attacks.fab import FABParams
from bench.attacks.params import Count
from bench.attacks.square import SquareParams
from bench.core.spec import Spec

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from bench.attacks.search.components import Part
    from bench.attacks.search.images import Images
    from bench.oracle import Oracle

Component = Literal["apgd_ce", "apgd_dlr", "apgd_t", "fab", "fab_t", "square"]

STANDARD: tuple[Component, ...] = ("apgd_ce", "apgd_t", "fab_t", "square")
VERSIONS: dict[str, tuple[Component, ...]] = {
    "standard": STANDARD,
    "plus": ("apgd_ce", "apgd_dlr", "fab", "square", "apgd_t", "fab_t"),
    "rand": ("apgd_ce", "apgd_dlr"),
    "eot": STANDARD,
}
"""The components of each version, in the order in which they run."""


class AutoAttackParams(Spec):
    """Parameters of AutoAttack. The defaults are the paper's.

    Attributes:
        version: ``standard``; ``plus``, with more components and restarts; ``rand``, the paper's
            for stochastic models; ``eot``, all four components of ``standard`` for stochastic
            models; or ``custom``. Every version averages over ``eot_iter`` draws if the model is
            stochastic, so ``eot`` is ``standard`` under the name that says so.
        components: Components in order, for ``custom`` only.
        n_iter: Steps of APGD and FAB.
        n_queries: Queries of Square.
        n_restarts: Of the untargeted components apgd_ce, apgd_dlr and fab; ``None`` is 5 for
            ``plus``, otherwise 1.
        n_target_classes: Targets of the targeted components; a model of fewer classes has fewer.
        early_stop: Stops a component on an image once that is broken, where the model is
            deterministic and images are independent. It changes no verdict and saves passes, but
            under protocol ``transfer`` what it finds is weaker.
    """

    version: Literal["standard", "plus", "rand", "eot", "custom"] = "standard"
    components: tuple[Component, ...] = ()
    n_iter: Count = 100
    n_queries: Count = 5000
    n_restarts: Count | None = None
    n_target_classes: Count = N_TARGETS
    early_stop: bool = True

    @model_validator(mode="after")
    def _consistent(self) -> AutoAttackParams:
        if (self.version == "custom") != bool(self.components):
            raise ValueError("version 'custom' needs components, and only 'custom' takes it")
        if len(set(self.components)) != len(self.components):
            raise ValueError("components names a component twice")
        return self

    @property
    def sequence(self) -> tuple[Component, ...]:
        """The components in the order in which they run."""
        return self.components or VERSIONS[self.version]

    @property
    def restarts(self) -> int:
        """Restarts of the untargeted components once defaults are filled in."""
        return self.n_restarts or (5 if self.version == "plus" else 1)


def run(oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int) -> Tensor:
    """Returns the most harmful candidates (b, c, h, w) of all components; the caller verifies them.

    An image is never broken once for all if the model is stochastic: each component's candidate is
    measured on at least 20 fresh draws, the one with the fewest right stays, and components run on
    as long as any draw is right. Where images share statistics, nothing is left out of a batch.
    """
    from bench.attacks.search.components import in_a_row

    assert isinstance(params, AutoAttackParams)
    parts = [_part(name, oracle, budget, params) for name in params.sequence]
    return in_a_row(oracle, x, y, parts, seed)


def _part(name: Component, oracle: Oracle, budget: Budget, params: AutoAttackParams) -> Part:
    """Returns a component as a function of the images it runs on and a generator."""
    from bench.attacks.search.boundary import Stride
    from bench.attacks.search.components import apgd, fab, square

    n_iter, early_stop = params.n_iter, params.early_stop
    targets = params.n_target_classes if name in ("apgd_t", "fab_t") else None
    restarts = params.restarts if targets is None else 1

    def part(images: Images, generator: torch.Generator) -> Tensor:
        if name == "square":
            p_init = SquareParams().p_init
            return square(
                oracle, images, budget, generator, n_queries=params.n_queries, p_init=p_init
            )
        if name in ("fab", "fab_t"):
            paper = FABParams()
            return fab(
                oracle,
                images,
                budget,
                generator,
                n_target_classes=targets,
                stride=Stride(n_iter, paper.alpha_max, paper.eta, paper.beta),
                n_restarts=restarts,
                early_stop=early_stop,
            )
        return apgd(
            oracle,
            images,
            budget,
            generator,
            loss="ce" if name == "apgd_ce" else "dlr",
            n_target_classes=targets,
            n_iter=n_iter,
            n_restarts=restarts,
            early_stop=early_stop,
        )

    return part


def passes(params: Spec) -> float:
    """Returns an upper bound of passes per image for ten classes; a broken image costs less."""
    assert isinstance(params, AutoAttackParams)
    targets = min(params.n_target_classes, N_TARGETS)
    climb = 2.0 * params.n_iter + 1
    cost: dict[Component, float] = {
        "apgd_ce": params.restarts * climb,
        "apgd_dlr": params.restarts * climb,
        "apgd_t": targets * climb + 1,
        "fab": params.restarts * (12.0 * params.n_iter + 2),  # two forward, ten backward a step
        "fab_t": targets * (4.0 * params.n_iter + 2) + 1,
        "square": float(params.n_queries),
    }
    return 1 + sum(cost[name] + 1 for name in params.sequence)


AUTOATTACK = Attack(
    name="autoattack",
    version=3,
    kind="bounded",
    norms=("linf", "l2"),
    params=AutoAttackParams,
    run=run,
    summary="AutoAttack: APGD, FAB and Square in a row, aware of draws and of batches",
    url="https://arxiv.org/abs/2003.01690",
    passes=passes,
)
