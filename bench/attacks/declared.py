"""Declarations of native attacks, which do not need torch: parameters, traits, and what runs them.

An attack is a function in a module of this folder and an entry in ``ATTACKS`` below. APGD, FAB,
Square, AutoAttack and auto are in ``declared_search``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    StrictInt,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from bench.attacks.base import Attack
from bench.attacks.params import Count, NoParams, NotNegative, Positive
from bench.core.attack import CORRUPTION, Traits
from bench.core.ball import NORMS
from bench.core.errors import UserError
from bench.core.registry import Deferred
from bench.core.spec import Spec
from bench.data.corruptions import FILES_ONLY, CorruptionName, read_published


class StepParams(Spec):
    """Parameters of every attack that takes steps along the gradient.

    Attributes:
        n_iter: Steps, at least 1.
        alpha: Step size in pixel units, > 0; ``None`` is ``2.5 * eps / n_iter``, which is eps / 4
            for 10 steps. With a radius per channel it is the step of the channel with the largest
            radius, and the others' steps shrink with their radii.
    """

    n_iter: Count = 10
    alpha: Positive | None = None


class MIMParams(StepParams):
    """Parameters of MIM.

    Attributes:
        decay: Momentum factor; 0 is BIM.
    """

    decay: NotNegative = 1.0


class PGDParams(StepParams):
    """Parameters of PGD.

    Attributes:
        n_iter: Steps of each run, at least 1.
        random_start: Starts at a uniformly random point of the ball, otherwise at x.
        n_restarts: Runs, at least 1, each from its own start; the best of them is returned.
        keep: ``best`` returns the best of all iterates: the one that is wrong on the most draws,
            then the one with the highest loss. ``last`` returns the last iterate of a run. On a
            stochastic model both take the last iterate, as the best of many noisy losses is the
            luckiest, and fresh draws compare the runs. A mean-field surrogate is deterministic, so
            its iterates are compared.
        loss: Loss to climb: cross-entropy, difference of logits ratio, or margin of logits.
        early_stop: Stops attacking an image once it is broken, where the model is deterministic
            and images are independent. It changes no verdict and saves passes; what it finds has a
            lower loss, so it is weaker under protocol ``transfer``. For ``keep`` best.
    """

    n_iter: Count = 20
    random_start: bool = True
    n_restarts: Count = 1
    keep: Literal["best", "last"] = "best"
    loss: Literal["ce", "dlr", "margin"] = "ce"
    early_stop: bool = False

    @model_validator(mode="after")
    def _restarts_differ(self) -> PGDParams:
        if self.n_restarts > 1 and not self.random_start:
            raise ValueError("n_restarts above 1 needs random_start, or all runs are the same")
        if self.early_stop and self.keep == "last":
            raise ValueError("early_stop needs keep best: a broken image is left where it broke")
        return self

    @property
    def compares(self) -> bool:
        """Whether iterates are compared, which costs one more forward pass a run."""
        return self.keep == "best" or self.n_restarts > 1

    def passes(self) -> float:
        """Returns the passes per image."""
        return self.n_restarts * (2.0 * self.n_iter + self.compares)


class CWLinfParams(StepParams):
    """Parameters of CW linf: those of PGD, but for the loss.

    Attributes:
        n_iter: Steps from each start, at least 1.
        n_restarts: Random starts, at least 1, of which the best result is returned.
    """

    n_iter: Count = 30
    n_restarts: Count = 1

    def as_pgd(self) -> PGDParams:
        """Returns the parameters of the same attack as PGD."""
        return PGDParams(**self.model_dump(), loss="margin")


class NoiseParams(Spec):
    """Parameters of noise.

    Attributes:
        n_trials: Random points per image, of which the best is kept: the one that is wrong on the
            most draws, then the one with the highest loss.
    """

    n_trials: Count = 20


class CWParams(Spec):
    """Parameters of CW.

    Attributes:
        c: First weight of the misclassification term, where the search for c starts.
        binary_search_steps: Weights tried for each image.
        n_iter: Steps of Adam for each weight.
        lr: Its learning rate, in tanh space.
        kappa: Confidence: by how much the margin of logits must be won.
    """

    c: Positive = 0.01
    binary_search_steps: Count = 5
    n_iter: Count = 100
    lr: Positive = 0.01
    kappa: NotNegative = 0.0


class DeepFoolParams(Spec):
    """Parameters of DeepFool.

    Attributes:
        n_iter: Largest number of steps per image.
        overshoot: Share of the perturbation that is added to cross the boundary.
        n_candidates: Classes whose boundaries are looked at: the image's own and those with the
            highest logits on the clean image, 10 as is usual. Left out of a cell's identity at its
            default, so that older ids stay valid.
    """

    n_iter: Count = 50
    overshoot: NotNegative = 0.02
    n_candidates: Annotated[StrictInt, Field(ge=2)] = 10

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = handler(self)
        if self.n_candidates == type(self).model_fields["n_candidates"].default:
            written.pop("n_candidates", None)
        return written


class CorruptionParams(Spec):
    """Parameters of a common corruption.

    Attributes:
        name: Which: one of the 15 of Hendrycks & Dietterich 2019, or of their four extra ones.
        severity: 1 to 5.
        folder: Folder of the published files, such as ``CIFAR-10-C``, as given or under the data
            root; empty to make the images from the clean ones. Left out when empty.
        sha256: Of the file's images and labels; filled in, so that it is part of the cell's id.
    """

    name: CorruptionName = "gaussian_noise"
    severity: Annotated[StrictInt, Field(ge=1, le=5)] = 3
    folder: str = ""
    sha256: str = Field(default="", validate_default=True)

    @field_validator("sha256")
    @classmethod
    def _of_the_file(cls, sha256: str, info: ValidationInfo) -> str:
        folder, name, severity = (info.data.get(k) for k in ("folder", "name", "severity"))
        if not folder or sha256 or name is None or severity is None:
            return sha256
        try:
            return read_published(folder, name, severity).sha256()
        except UserError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _can_be_made(self) -> CorruptionParams:
        if self.name in FILES_ONLY and not self.folder:
            raise ValueError(
                f"{self.name} {FILES_ONLY[self.name]}; add folder: CIFAR-10-C, the folder of the "
                "published files, or leave it out"
            )
        return self

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = handler(self)
        return {key: value for key, value in written.items() if value != ""}


LP_NORMS = ("linf", "l2", "l1")
_CLIMBS = Traits(steps="many")

ATTACKS: tuple[Attack, ...] = (
    Attack(
        name="natural",
        version=1,
        kind="none",
        norms=NORMS,
        params=NoParams,
        run=Deferred("bench.attacks.pgd:natural"),
        summary="the clean image",
        url="",
        passes=lambda params: 0.0,
        traits=Traits(gradients="never"),
    ),
    Attack(
        name="fgsm",
        version=1,
        kind="bounded",
        norms=LP_NORMS,
        params=NoParams,
        run=Deferred("bench.attacks.pgd:fgsm"),
        summary="fast gradient sign method: one step of size eps",
        url="https://arxiv.org/abs/1412.6572",
        passes=lambda params: 2.0,
        traits=Traits(steps="one"),
        takes_loss=True,
        takes_target=True,
    ),
    Attack(
        name="bim",
        version=1,
        kind="bounded",
        norms=LP_NORMS,
        params=StepParams,
        run=Deferred("bench.attacks.pgd:bim"),
        summary="basic iterative method: small steps from x",
        url="https://arxiv.org/abs/1607.02533",
        passes=lambda params: 2.0 * params.n_iter,
        extends=True,
        traits=_CLIMBS,
        takes_loss=True,
        takes_target=True,
    ),
    Attack(
        name="pgd",
        version=2,
        kind="bounded",
        norms=LP_NORMS,
        params=PGDParams,
        run=Deferred("bench.attacks.pgd:pgd"),
        summary="projected gradient ascent from random starts",
        url="https://arxiv.org/abs/1706.06083",
        passes=PGDParams.passes,
        extends=True,
        traits=_CLIMBS,
        takes_loss=True,
        takes_target=True,
    ),
    Attack(
        name="mim",
        version=1,
        kind="bounded",
        norms=LP_NORMS,
        params=MIMParams,
        run=Deferred("bench.attacks.pgd:mim"),
        summary="momentum iterative method: BIM along a decaying sum of gradients",
        url="https://arxiv.org/abs/1710.06081",
        passes=lambda params: 2.0 * params.n_iter,
        extends=True,
        traits=_CLIMBS,
        takes_loss=True,
        takes_target=True,
    ),
    Attack(
        name=CORRUPTION,
        version=1,
        kind="corruption",
        norms=NORMS,
        params=CorruptionParams,
        run=Deferred("bench.attacks.corruption:corruption"),
        summary="a common corruption of Hendrycks and Dietterich, made or read from CIFAR-10-C",
        url="https://arxiv.org/abs/1903.12261",
        passes=lambda params: 0.0,
        traits=Traits(gradients="never"),
    ),
    Attack(
        name="noise",
        version=1,
        kind="bounded",
        norms=LP_NORMS,
        params=NoiseParams,
        run=Deferred("bench.attacks.pgd:noise"),
        summary="random corners of the ball, or points of the sphere: the control",
        url="https://arxiv.org/abs/1802.00420",
        passes=lambda params: float(params.n_trials),
        traits=Traits(gradients="never"),
    ),
    Attack(
        name="cw",
        version=1,
        kind="minimum-norm",
        norms=NORMS,
        params=CWParams,
        run=Deferred("bench.attacks.minimum_norm:cw"),
        summary="Carlini and Wagner: minimizes the l2 distance, with a search over c",
        url="https://arxiv.org/abs/1608.04644",
        passes=lambda params: 1 + 2.0 * params.n_iter * params.binary_search_steps,
        takes_target=True,
    ),
    Attack(
        name="cw_linf",
        version=2,
        kind="bounded",
        norms=("linf",),
        params=CWLinfParams,
        run=Deferred("bench.attacks.pgd:cw_linf"),
        summary="PGD on Carlini and Wagner's margin of logits",
        url="https://arxiv.org/abs/1706.06083",
        passes=lambda params: params.as_pgd().passes(),
        traits=_CLIMBS,
        takes_target=True,
    ),
    Attack(
        name="deepfool",
        version=2,
        kind="minimum-norm",
        norms=LP_NORMS,
        params=DeepFoolParams,
        run=Deferred("bench.attacks.minimum_norm:deepfool"),
        summary="DeepFool: steps to the nearest linearized boundary inside the box, in l2 or linf",
        url="https://arxiv.org/abs/1511.04599",
        # It rarely takes ten steps; each asks twice, and once backward for each class.
        passes=lambda params: 1 + (2.0 + params.n_candidates) * min(10, params.n_iter),
    ),
)
