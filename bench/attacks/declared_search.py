"""Declarations of the searches behind AutoAttack, of AutoAttack, and of auto; without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, StrictInt, model_validator

from bench.attacks.base import Attack
from bench.attacks.params import Count
from bench.core.attack import Traits
from bench.core.registry import Deferred
from bench.core.spec import Number, Spec

N_TARGETS = 9
"""Number of target classes in the papers on APGD, FAB and AutoAttack."""


class APGDParams(Spec):
    """Parameters of APGD.

    Attributes:
        n_iter: Steps.
        n_restarts: Runs, each from its own random start.
        loss: Loss to climb: cross-entropy, or difference of logits ratio.
        early_stop: Stops attacking an image once it is broken, where the model is deterministic
            and images are independent. Saves passes; what it finds transfers worse to other models.
    """

    n_iter: Count = 100
    n_restarts: Count = 1
    loss: Literal["ce", "dlr"] = "ce"
    early_stop: bool = False


class APGDTParams(Spec):
    """Parameters of targeted APGD, which climbs the targeted difference of logits ratio.

    Attributes:
        n_iter: Steps at each target.
        n_restarts: Runs at each target.
        n_target_classes: Targets: the wrong classes with the highest logits on the clean image,
            all of them if there are fewer.
        early_stop: As for APGD.
    """

    n_iter: Count = 100
    n_restarts: Count = 1
    n_target_classes: Count = N_TARGETS
    early_stop: bool = False


class FABParams(Spec):
    """Parameters of FAB.

    Attributes:
        n_iter: Steps at each target.
        n_restarts: Runs at each target: the first from the clean image, others from points within
            half of eps.
        n_target_classes: Targets: the wrong classes with the highest logits on the clean image,
            all of them if there are fewer.
        alpha_max: Largest weight of the step from the clean image, against that from the iterate.
        eta: How far beyond the linearized boundary a step goes; 1 is onto it.
        beta: Where a broken point is pulled back to, between the clean image (0) and itself (1).
        early_stop: Stops attacking an image once it is broken within eps, where the model is
            deterministic and images are independent; the point is then not the closest.
    """

    n_iter: Count = 100
    n_restarts: Count = 1
    n_target_classes: Count = N_TARGETS
    alpha_max: Annotated[Number, Field(gt=0, le=1)] = 0.1
    eta: Annotated[Number, Field(ge=1)] = 1.05
    beta: Annotated[Number, Field(gt=0, lt=1)] = 0.9
    early_stop: bool = False


class SquareParams(Spec):
    """Parameters of Square Attack.

    Attributes:
        n_queries: Queries per image at most, of ``eot_iter`` draws each on a stochastic model.
        p_init: Share of the pixels that is changed at first; it is halved on the way.
    """

    n_queries: Count = 5000
    p_init: Annotated[Number, Field(gt=0, le=1)] = 0.8


Component = Literal["apgd_ce", "apgd_dlr", "apgd_t", "fab", "fab_t", "square"]

STANDARD: tuple[Component, ...] = ("apgd_ce", "apgd_t", "fab_t", "square")
VERSIONS: dict[str, tuple[Component, ...]] = {
    "standard": STANDARD,
    "plus": ("apgd_ce", "apgd_dlr", "fab", "square", "apgd_t", "fab_t"),
    "rand": ("apgd_ce", "apgd_dlr"),
    "eot": STANDARD,
}
"""The components of each version of AutoAttack, in the order in which they run."""


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

    def passes(self) -> float:
        """Returns an upper bound of passes per image for ten classes; a broken image costs less."""
        targets = min(self.n_target_classes, N_TARGETS)
        climb = 2.0 * self.n_iter + 1
        cost: dict[Component, float] = {
            "apgd_ce": self.restarts * climb,
            "apgd_dlr": self.restarts * climb,
            "apgd_t": targets * climb + 1,
            "fab": self.restarts * (12.0 * self.n_iter + 2),  # two forward, ten backward a step
            "fab_t": targets * (4.0 * self.n_iter + 2) + 1,
            "square": float(self.n_queries),
        }
        return 1 + sum(cost[name] + 1 for name in self.sequence)


def _autoattack_classes(params: Mapping[str, object]) -> int:
    """Returns the fewest classes: the targeted dlr loss ranks 4 logits, the plain one 3."""
    version = str(params.get("version", "standard"))
    parts = params.get("components") or VERSIONS.get(version, ())
    assert isinstance(parts, tuple | list)
    return 4 if "apgd_t" in parts else 3 if "apgd_dlr" in parts else 2


class AutoParams(Spec):
    """Parameters of the budgeted attack.

    Attributes:
        n_passes: Passes per image at most; most images take far fewer. On a stochastic model it
            counts passes of one draw, so that it is multiplied by ``eot_iter``; what confirms a
            search in low precision comes on top.
        n_target_classes: Classes that an image is led to in turn, those with the nearest
            boundaries.
    """

    n_passes: Annotated[StrictInt, Field(ge=50)] = 1800
    n_target_classes: Count = 4


LP_NORMS = ("linf", "l2", "l1")
ENSEMBLE = Traits(steps="many", gradients="partly", returns_clean=True)

ATTACKS: tuple[Attack, ...] = (
    Attack(
        name="apgd",
        version=1,
        kind="bounded",
        norms=LP_NORMS,
        params=APGDParams,
        run=Deferred("bench.attacks.autoattack:apgd"),
        summary="Auto-PGD: gradient ascent with momentum that halves its step where it stalls",
        url="https://arxiv.org/abs/2003.01690",
        passes=lambda params: params.n_restarts * (2.0 * params.n_iter + 1),
        traits=Traits(steps="many"),
        takes_loss=True,
        takes_target=True,
    ),
    Attack(
        name="apgd_t",
        version=1,
        kind="bounded",
        norms=LP_NORMS,
        params=APGDTParams,
        run=Deferred("bench.attacks.autoattack:apgd"),
        summary="Auto-PGD toward each of the likeliest wrong classes",
        url="https://arxiv.org/abs/2003.01690",
        passes=lambda params: (
            1
            + min(params.n_target_classes, N_TARGETS)
            * params.n_restarts
            * (2.0 * params.n_iter + 1)
        ),
        traits=Traits(steps="many", min_classes=4),
    ),
    Attack(
        name="fab_t",
        version=2,
        kind="bounded",
        norms=LP_NORMS,
        params=FABParams,
        run=Deferred("bench.attacks.autoattack:fab_t"),
        summary="FAB: walks along the boundary to the closest point, at the likeliest wrong "
        "classes",
        url="https://arxiv.org/abs/1907.02044",
        passes=lambda params: (  # two a step, and two more where it crosses the boundary
            1
            + min(params.n_target_classes, N_TARGETS)
            * params.n_restarts
            * (4.0 * params.n_iter + 2)
        ),
        traits=Traits(returns_clean=True),
    ),
    Attack(
        name="square",
        version=1,
        kind="bounded",
        norms=LP_NORMS,
        params=SquareParams,
        run=Deferred("bench.attacks.autoattack:square"),
        summary="Square Attack: random search over square patches, without gradients",
        url="https://arxiv.org/abs/1912.00049",
        passes=lambda params: float(params.n_queries),
        traits=Traits(gradients="never"),
        takes_target=True,
    ),
    Attack(
        name="autoattack",
        version=3,
        kind="bounded",
        norms=LP_NORMS,
        params=AutoAttackParams,
        run=Deferred("bench.attacks.autoattack:autoattack"),
        summary="AutoAttack: APGD, FAB and Square in a row, aware of draws and of batches",
        url="https://arxiv.org/abs/2003.01690",
        passes=AutoAttackParams.passes,
        traits=ENSEMBLE,
        min_classes=_autoattack_classes,
    ),
    Attack(
        name="auto",
        version=2,
        kind="bounded",
        norms=LP_NORMS,
        params=AutoParams,
        run=Deferred("bench.attacks.auto:auto"),
        summary="This project's own: on each image the kind of step that pays there, within a "
        "budget",
        url="https://arxiv.org/abs/2203.05154",
        passes=lambda params: float(params.n_passes),  # at most; on average a fifth or less
        traits=ENSEMBLE,
    ),
)
