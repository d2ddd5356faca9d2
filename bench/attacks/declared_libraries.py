"""Declarations of other libraries' attacks, which need neither torch nor the libraries.

``ATTACKS`` holds those with typed parameters; ``FACTS`` what is known of all others, whose
parameters the adapters read off the libraries themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from pydantic import model_validator

from bench.attacks.base import Attack
from bench.attacks.declared_search import ENSEMBLE, N_TARGETS
from bench.attacks.params import Count, NoParams, NotNegative, Positive
from bench.core.attack import AttackKind, Traits
from bench.core.ball import LIBRARY_NORMS
from bench.core.registry import Deferred
from bench.core.spec import Spec

_CLIMBS, _BLIND, _UNKNOWN = Traits(steps="many"), Traits(gradients="never"), Traits()
_CLIMBS_OR_CLEAN = Traits(steps="many", returns_clean=True)


@dataclass(frozen=True)
class Facts:
    """What the signature of a library's attack does not tell.

    Attributes:
        kind: Whether it knows eps.
        norm: The one norm that it minimizes or is bounded in; empty for the threat model's.
        keeps_batch: Whether it was seen to pass the whole batch, in order, in every call.
        traits: How it searches.
    """

    kind: Literal["bounded", "minimum-norm"]
    norm: str = ""
    keeps_batch: bool = False
    traits: Traits = _UNKNOWN

    @property
    def bounded(self) -> bool:
        """Whether it knows eps."""
        return self.kind == "bounded"

    @property
    def norms(self) -> tuple[str, ...]:
        """The norms of threat models that it serves."""
        return (self.norm,) if self.bounded and self.norm else LIBRARY_NORMS


TORCHATTACKS = {
    **dict.fromkeys(
        (
            *("BIM", "DIFGSM", "EOTPGD", "Jitter", "NIFGSM", "PGD", "PGDL2", "PIFGSM", "PIFGSMPP"),
            *("RFGSM", "SINIFGSM", "TIFGSM", "TPGD", "UPGD", "VMIFGSM", "VNIFGSM"),
        ),
        Facts("bounded", keeps_batch=True, traits=_CLIMBS),
    ),
    **dict.fromkeys(("PGDRS", "PGDRSL2"), Facts("bounded", traits=_CLIMBS)),
    **dict.fromkeys(("FGSM", "FFGSM"), Facts("bounded", "", True, Traits(steps="one"))),
    **dict.fromkeys(("CW", "EADEN", "EADL1"), Facts("minimum-norm", keeps_batch=True)),
    **dict.fromkeys(("DeepFool", "JSMA", "SparseFool"), Facts("minimum-norm")),
    **dict.fromkeys(("OnePixel", "Pixle"), Facts("minimum-norm", traits=_BLIND)),
    "APGD": Facts("bounded", traits=_CLIMBS_OR_CLEAN),
    "APGDT": Facts(
        "bounded",
        traits=Traits(family="apgd_t", steps="many", returns_clean=True, min_classes=4),
    ),
    "AutoAttack": Facts("bounded", traits=ENSEMBLE.model_copy(update={"min_classes": 4})),
    # It returns x where it ends beyond eps.
    "FAB": Facts("bounded", traits=Traits(returns_clean=True)),
    "MIFGSM": Facts("bounded", keeps_batch=True, traits=Traits(family="mim", steps="many")),
    "SPSA": Facts("bounded", traits=_BLIND),
    "Square": Facts("bounded", traits=Traits(gradients="never", returns_clean=True)),
}
"""By class. A class that is not listed is bounded, and may drop images."""

ADVLIB = {
    "alma": Facts("minimum-norm", "l2", keeps_batch=True),
    "apgd": Facts("bounded", traits=_CLIMBS_OR_CLEAN),
    "apgd_targeted": Facts(
        "bounded", traits=Traits(family="apgd_t", steps="many", returns_clean=True, min_classes=4)
    ),
    "carlini_wagner_l2": Facts("minimum-norm", "l2", keeps_batch=True),
    "carlini_wagner_linf": Facts("minimum-norm", "linf"),
    "ddn": Facts("minimum-norm", "l2", keeps_batch=True),
    "df": Facts("minimum-norm", traits=Traits(family="deepfool")),
    "fab": Facts("minimum-norm", keeps_batch=True, traits=Traits(returns_clean=True)),
    "fmn": Facts("minimum-norm", keeps_batch=True),
    "pdgd": Facts("minimum-norm", "l2", keeps_batch=True),
    "pdpgd": Facts("minimum-norm", keeps_batch=True),
    "pgd_linf": Facts(
        "bounded", "linf", traits=Traits(family="pgd", steps="many", returns_clean=True)
    ),
    "sdf": Facts("minimum-norm", "l2"),
    "str_attack": Facts("minimum-norm", "l2"),
    "tr": Facts("minimum-norm"),
}
"""By function; no other can be used."""

_ART_PGD = Facts("bounded", keeps_batch=True, traits=Traits(family="pgd", steps="many"))
ART = {
    "AutoAttack": Facts("bounded", traits=ENSEMBLE.model_copy(update={"min_classes": 3})),
    "AutoConjugateGradient": Facts("bounded", traits=_CLIMBS),
    "AutoProjectedGradientDescent": Facts("bounded", traits=Traits(family="apgd", steps="many")),
    "BasicIterativeMethod": Facts("bounded", "linf", True, Traits(family="bim", steps="many")),
    "BoundaryAttack": Facts("minimum-norm", "l2", traits=_BLIND),
    "BrendelBethgeAttack": Facts("minimum-norm"),
    "CarliniL2Method": Facts("minimum-norm", "l2"),
    "CarliniLInfMethod": Facts("minimum-norm", "linf"),
    "DeepFool": Facts("minimum-norm", "l2", keeps_batch=True),
    "FastGradientMethod": Facts("bounded", "", True, Traits(family="fgsm", steps="one")),
    "GeoDA": Facts("minimum-norm", traits=_BLIND),
    "HopSkipJump": Facts("minimum-norm", traits=_BLIND),
    "MomentumIterativeMethod": Facts("bounded", "", True, Traits(family="mim", steps="many")),
    "NewtonFool": Facts("minimum-norm", "l2", keeps_batch=True),
    "ProjectedGradientDescent": _ART_PGD,
    "ProjectedGradientDescentNumpy": _ART_PGD,
    "ProjectedGradientDescentPyTorch": _ART_PGD,
    "RescalingAutoConjugateGradient": Facts("bounded", traits=_CLIMBS),
    "SignOPTAttack": Facts("minimum-norm", "l2", traits=_BLIND),
    "SquareAttack": Facts("bounded", traits=Traits(family="square", gradients="never")),
    "UniversalPerturbation": Facts("bounded"),
    "ZooAttack": Facts("minimum-norm", "l2", traits=_BLIND),
}
"""By class; no other can be used."""

FACTS: Mapping[str, Mapping[str, Facts]] = {
    "torchattacks": TORCHATTACKS,
    "advlib": ADVLIB,
    "art": ART,
}
"""By prefix. Foolbox's classes tell what they are by their bases."""


class IterativeParams(Spec):
    """Parameters of torchattacks' BIM.

    Attributes:
        n_iter: Steps.
        alpha: Step size in pixel units; ``None`` keeps the library's ratio to eps, which is 1/4.
    """

    n_iter: Count = 10
    alpha: Positive | None = None


class TorchattacksPGDParams(IterativeParams):
    """Parameters of torchattacks' PGD.

    Attributes:
        random_start: Starts at a uniformly random point of the ball, otherwise at x.
    """

    random_start: bool = True


class MIFGSMParams(IterativeParams):
    """Parameters of torchattacks' MIFGSM.

    Attributes:
        decay: Momentum factor.
    """

    decay: NotNegative = 1.0


class TorchattacksCWParams(Spec):
    """Parameters of torchattacks' CW.

    Attributes:
        c: Weight of the misclassification loss; far below 1 it changes few images.
        kappa: Confidence: margin of logits to reach.
        n_iter: Steps of Adam.
        lr: Its learning rate, in tanh space.
    """

    c: Positive = 1.0
    kappa: NotNegative = 0.0
    n_iter: Count = 50
    lr: Positive = 0.01


class TorchattacksDeepFoolParams(Spec):
    """Parameters of torchattacks' DeepFool.

    Attributes:
        n_iter: Largest number of steps per image.
        overshoot: Share by which each step goes beyond the linearized boundary.
    """

    n_iter: Count = 50
    overshoot: NotNegative = 0.02


Part = Literal["apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"]

VERSIONS: dict[str, tuple[Part, ...]] = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
    "rand": ("apgd-ce", "apgd-dlr"),
}
"""The components of each version of pyautoattack, in the order in which they run."""

MIN_CLASSES: dict[str, int] = {"apgd-dlr": 3, "apgd-t": 4}
"""The (targeted) DLR loss divides by a difference to the third (and fourth) largest logit."""


class PyAutoAttackParams(Spec):
    """Parameters of pyautoattack. Any but ``version`` makes it another attack than the published.

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
    attacks_to_run: tuple[Part, ...] = ()
    n_iter: Count = 100
    n_queries: Count = 5000
    n_restarts: Count | None = None
    eot_iter: Count | None = None

    @model_validator(mode="after")
    def _consistent(self) -> PyAutoAttackParams:
        if (self.version == "custom") != bool(self.attacks_to_run):
            raise ValueError("version 'custom' needs attacks_to_run, and only 'custom' takes it")
        if len(set(self.attacks_to_run)) != len(self.attacks_to_run):
            raise ValueError("attacks_to_run names a component twice")
        return self

    @property
    def components(self) -> tuple[Part, ...]:
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

    def passes(self) -> float:
        """Returns an upper bound of passes per image for ten classes; a broken image costs less."""
        gradient = 2.0 * (self.n_iter + 1) * self.eot
        cost: dict[Part, float] = {
            "apgd-ce": self.restarts * gradient,
            "apgd-dlr": self.restarts * gradient,
            "fab": self.restarts * (self.n_iter * 12.0 + 3),  # forward, ten backward, check
            "square": self.n_queries + 3.0,
            "apgd-t": N_TARGETS * (gradient + 1),
            "fab-t": N_TARGETS * (self.n_iter * 3.0 + 3),
        }
        checks = 8.0
        return checks + sum(cost[component] + 2 for component in self.components)


def _pyautoattack_classes(params: Mapping[str, Any]) -> int:
    parts = params.get("attacks_to_run") or VERSIONS.get(params.get("version", "standard"), ())
    return max((MIN_CLASSES.get(part, 2) for part in parts), default=2)


def _torchattacks(
    name: str,
    params: type[Spec],
    summary: str,
    url: str,
    passes: Callable[[Any], float],
    kind: AttackKind = "bounded",
    keeps_batch: bool = True,
) -> Attack:
    """Returns a class of torchattacks whose parameters are declared here, in our words."""
    return Attack(
        name=f"torchattacks:{name}",
        version=1,
        kind=kind,
        norms=("linf",) if kind == "bounded" else LIBRARY_NORMS,
        params=params,
        run=partial(Deferred("bench.attacks.adapters.torchattacks:run_class"), name),
        summary=summary,
        url=url,
        library="torchattacks",
        keeps_batch=keeps_batch,
        passes=passes,
        traits=TORCHATTACKS[name].traits if kind == "bounded" else Traits(),
    )


ATTACKS: tuple[Attack, ...] = (
    Attack(
        name="pyautoattack",
        version=1,
        kind="bounded",
        norms=("linf", "l2", "l1"),
        params=PyAutoAttackParams,
        run=Deferred("bench.attacks.adapters.pyautoattack:run"),
        summary="AutoAttack by its authors' package: APGD, FAB and Square in a row",
        url="https://arxiv.org/abs/2003.01690",
        library="pyautoattack",
        keeps_batch=False,
        passes=PyAutoAttackParams.passes,
        traits=ENSEMBLE.model_copy(update={"family": "autoattack"}),
        min_classes=_pyautoattack_classes,
    ),
    _torchattacks(
        "FGSM",
        NoParams,
        "fast gradient sign method: one step of size eps",
        "https://arxiv.org/abs/1412.6572",
        lambda params: 2.0,
    ),
    _torchattacks(
        "BIM",
        IterativeParams,
        "basic iterative method: sign steps from x",
        "https://arxiv.org/abs/1607.02533",
        lambda params: 2.0 * params.n_iter,
    ),
    _torchattacks(
        "PGD",
        TorchattacksPGDParams,
        "projected gradient descent from a random start",
        "https://arxiv.org/abs/1706.06083",
        lambda params: 2.0 * params.n_iter,
    ),
    _torchattacks(
        "MIFGSM",
        MIFGSMParams,
        "momentum iterative FGSM",
        "https://arxiv.org/abs/1710.06081",
        lambda params: 2.0 * params.n_iter,
    ),
    _torchattacks(
        "CW",
        TorchattacksCWParams,
        "Carlini and Wagner: minimizes the l2 distance for one fixed c",
        "https://arxiv.org/abs/1608.04644",
        lambda params: 2.0 * params.n_iter,
        kind="minimum-norm",
    ),
    _torchattacks(
        "DeepFool",
        TorchattacksDeepFoolParams,
        "DeepFool: steps to the nearest linearized boundary in l2, image by image",
        "https://arxiv.org/abs/1511.04599",
        # One forward and ten backward passes a step for ten classes; it rarely takes ten steps.
        lambda params: 11.0 * min(10.0, float(params.n_iter)),
        kind="minimum-norm",
        keeps_batch=False,
    ),
)
