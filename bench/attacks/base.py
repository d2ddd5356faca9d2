"""What an attack is: a function that proposes x_adv through the oracle, and its declaration.

Neither needs torch, so that attacks can be listed, planned and compared without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from bench.core.attack import AttackKind, Traits
from bench.core.errors import UserError
from bench.core.spec import Spec
from bench.core.threat import ThreatModel


@dataclass(frozen=True)
class Budget:
    """The norm and radius that bound an attack, in pixel units.

    ``bench.attacks.ball.ball_of`` returns the geometry.

    Attributes:
        norm: Norm of the threat model.
        eps: Radius per channel (c,), or a single value; equal values for most threat models.
    """

    norm: str
    eps: tuple[float, ...]

    @classmethod
    def of(cls, threat_model: ThreatModel, std: tuple[float, ...]) -> Budget:
        """Returns the budget of a threat model on a model that divides its input by ``std``."""
        return cls(threat_model.norm, threat_model.pixel_eps(std))

    @property
    def scalar(self) -> float | None:
        """The radius if it is the same for every channel, else ``None``."""
        return self.eps[0] if len(set(self.eps)) == 1 else None

    def radius(self, attack: str) -> float:
        """Returns the one radius that a third-party attack takes.

        Raises:
            UserError: When channels have different radii; the message names ``attack``.
        """
        if self.scalar is None:
            found = ", ".join(f"{eps:g}" for eps in self.eps)
            raise UserError(
                f"attack '{attack}' takes one eps for all channels, found {found}; a threat model "
                "with a radius per channel needs a native attack"
            )
        return self.scalar


AttackFunction: TypeAlias = Callable[[Any, Any, Any, Budget, Any, int], Any]
"""``run(oracle, x, y, budget, params, seed) -> x_adv``: images (b, c, h, w) in [0, 1] and labels
(b,) to a candidate of x's shape. The verifier judges the candidate; the function is not trusted.
The same seed gives the same x_adv, and global random state is left as found."""


def dlr_classes(params: Mapping[str, object]) -> int:
    """Returns the fewest classes for which an attack's loss is defined: 3 for ``dlr``, else 2."""
    return 3 if "dlr" in (params.get("loss"), params.get("loss_function")) else 2


def resolved(traits: Traits, name: str, min_classes: int) -> Traits:
    """Returns traits as cells store them.

    Args:
        traits: As declared.
        name: Name of the attack, which is its family unless the traits name one.
        min_classes: Fewest classes for the parameters in use.
    """
    family = traits.family or name.rpartition(":")[2].lower()
    classes = max(traits.min_classes, min_classes)
    return traits.model_copy(update={"family": family, "min_classes": classes})


_UNKNOWN = Traits()


@dataclass(frozen=True)
class Attack:
    """The declaration of an attack: an entry of the attack registry.

    Attributes:
        name: Name in suites.
        version: Raised whenever the code's behaviour changes; part of a cell's identity.
        kind: ``none`` (the clean image), ``bounded``, ``minimum-norm`` (knows no eps, and succeeds
            only where its distance is within the threat model's), or ``corruption`` (no ball bounds
            it, and nobody chose it).
        norms: Norms of threat models that it can serve. A minimum-norm attack serves any: its
            distance is measured in the threat model's norm, whatever norm it minimizes.
        params: Its typed parameters.
        run: The function, or a ``bench.core.registry.Deferred`` that names it.
        summary: One line for listings.
        url: The paper or library.
        library: Distribution whose version is recorded; empty for native code.
        distribution: Distribution of the plugin that brings the attack, whose version is recorded
            too; empty for rbench's own.
        keeps_batch: Whether it always passes the whole batch to the oracle, in order. An attack
            that drops samples is refused on batch-dependent models.
        passes: Rough forward plus backward passes per image for given parameters, for planning;
            ``None`` where they cannot be known beforehand.
        extends: Whether at a given step size a run with a larger ``n_iter`` continues where one
            with a smaller ``n_iter`` ends.
        traits: How it searches.
        min_classes: Maps parameters to the fewest classes for which its losses are defined.
        takes_loss: Whether all that it climbs is one untargeted loss, which a user's own may
            replace.
        takes_target: Whether it does nothing but raise the oracle's loss until the answer is
            wrong, so that it can be aimed at a class (``QueryRules.targeted``).
    """

    name: str
    version: int
    kind: AttackKind
    norms: tuple[str, ...]
    params: type[Spec]
    run: AttackFunction
    summary: str
    url: str
    library: str = ""
    distribution: str = ""
    keeps_batch: bool = True
    passes: Callable[[Any], float] | None = None
    extends: bool = False
    traits: Traits = _UNKNOWN
    min_classes: Callable[[Mapping[str, object]], int] = dlr_classes
    takes_loss: bool = False
    takes_target: bool = False

    @property
    def may_be_fast(self) -> bool:
        """Whether it may search in low precision.

        Not an attack of a library or plugin, which decides for itself what is broken; nor one
        whose distances count.
        """
        return self.kind == "bounded" and not (self.library or self.distribution)

    def traits_under(self, params: Mapping[str, object]) -> Traits:
        """Returns its traits with these parameters: family filled in, classes counted."""
        return resolved(self.traits, self.name, self.min_classes(params))
