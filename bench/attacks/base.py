"""What an attack is: a proposal of x_adv, made through the oracle, judged elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from bench.core.errors import UserError
from bench.core.spec import Spec
from bench.core.threat import ThreatModel

if TYPE_CHECKING:  # names of attacks are listed without importing torch
    from torch import Tensor

    from bench.oracle import Oracle


@dataclass(frozen=True)
class Budget:
    """The ball an attack must stay in, in pixel units.

    Attributes:
        norm: ``linf`` or ``l2``.
        eps: Radius per channel (c,), or a single value; equal values for most threat models.
    """

    norm: str
    eps: tuple[float, ...]

    @classmethod
    def of(cls, threat_model: ThreatModel, std: tuple[float, ...]) -> Budget:
        """Returns a threat model's ball around the images of a model that divides by ``std``."""
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


AttackFunction: TypeAlias = "Callable[[Oracle, Tensor, Tensor, Budget, Spec, int], Tensor]"
"""``run(oracle, x, y, budget, params, seed) -> x_adv``: images (b, c, h, w) in [0, 1] and labels
(b,) to a candidate of x's shape. The caller verifies it; the function may not be trusted. The same
seed gives the same x_adv, and global random state is left as found."""


@dataclass(frozen=True)
class Attack:
    """An entry of the attack registry.

    Attributes:
        name: Name in suites.
        version: Raised whenever the code's behaviour changes; part of a cell's identity.
        kind: ``none`` (the clean image), ``bounded``, or ``minimum-norm`` (knows no eps, and
            succeeds only where its distance is within the threat model's).
        norms: Which norms of a threat model it can serve. A minimum-norm attack serves any: its
            distance is measured in the threat model's norm, whatever norm it minimizes.
        params: Its typed parameters.
        run: The function.
        summary: One line for listings.
        url: The paper or library.
        library: Distribution whose version is recorded; empty for native code.
        distribution: Distribution of the plugin that brings the attack, whose version is recorded
            too; empty for rbench's own.
        keeps_batch: Whether it always passes the whole batch to the oracle, in order. An attack
            that drops samples is refused on batch-dependent models.
        passes: Rough forward plus backward passes per image for given parameters, for planning;
            ``None`` where nobody knows.
        extends: Whether at a given step size it goes on where the same attack with a smaller
            ``n_iter`` ends.
    """

    name: str
    version: int
    kind: Literal["none", "bounded", "minimum-norm"]
    norms: tuple[str, ...]
    params: type[Spec]
    run: AttackFunction
    summary: str
    url: str
    library: str = ""
    distribution: str = ""
    keeps_batch: bool = True
    passes: Callable[[Spec], float] | None = None
    extends: bool = False

    @property
    def may_be_fast(self) -> bool:
        """Whether it may search in low precision.

        Not a library's or a plugin's, which decides for itself what is broken; nor one whose
        distances count.
        """
        return self.kind == "bounded" and not (self.library or self.distribution)
