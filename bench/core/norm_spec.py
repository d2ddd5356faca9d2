"""Which normalization a model uses, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from bench.core.errors import UserError
from bench.core.registry import Plugin, Registry, known_name
from bench.core.spec import Number, Spec

NORM_NAMES = ("none", "fixup", "bn", "bgn", "gn", "in", "ln", "rn", "rna", "foreign")
NORM_GROUP = "rbench.norms"
"""Entry points by which other packages add norms."""


@dataclass(frozen=True)
class PluginNorm:
    """A norm of another package: what its entry point names.

    Attributes:
        make: ``"module:function"``; called with the number of channels, it returns the layer. It
            is named, so that what only reads specifications need not import torch.
        batch_dependent: Whether, at inference, an image's output depends on the rest of its batch.
        stochastic: Whether a forward pass draws at random, from torch's global generator.
        summary: One line for listings.
    """

    make: str
    batch_dependent: bool = False
    stochastic: bool = False
    summary: str = ""


def _adopt(plugin: Plugin, found: object) -> PluginNorm:
    """Returns a plugin's norm."""
    if not isinstance(found, PluginNorm):
        raise ValueError(f"expected a PluginNorm, found {type(found).__name__}")
    return found


PLUGIN_NORMS: Registry[PluginNorm] = Registry("norm", NORM_GROUP, _adopt)


def _known_norm(name: str) -> str:
    return known_name("norm", NORM_GROUP, NORM_NAMES, name)


Stats = Literal["population", "batch", "tracked-mean"]
BATCH_STATISTICS: dict[str, tuple[Stats, ...]] = {
    "bn": ("population", "batch"),
    "bgn": ("population", "batch"),
    "rn": ("population", "batch", "tracked-mean"),
}
"""Norms that compute statistics over the batch while training, and what inference may use."""


def uses_batch(stats: str | None) -> bool:
    """Says whether these inference statistics are the batch's, in full or in part."""
    return stats in ("batch", "tracked-mean")


class NormSpec(Spec):
    """One normalization family with its parameters; the layer's channels come from the model.

    Attributes:
        name: The family, or a plugin's norm, which takes no parameters. ``foreign`` is whatever a
            network of another library has, without a choice of statistics; it cannot be built.
        groups: Number of channel groups, for ``gn`` and ``bgn``.
        group_size: Channels per group, for ``gn`` and ``bgn``; give this or ``groups``.
        stats: What inference uses. ``bn``, ``bgn``: ``population`` (tracked) or ``batch``.
            ``rn`` also knows ``tracked-mean`` (tracked mean, batch range), and ``population``
            means that both are tracked. ``None`` is the family's default.
        power: The exponent p of RobustNorm's range (paper, equation 6), in (0, 1].
        pool: For ``rna``: the norms to draw from, each with its own affine parameters.
        scope: For ``rna``: draw a branch per ``layer``, or one for the whole ``network``.
        per: For ``rna``: draw one path per ``batch`` or one per ``sample``.
        declares: What a network of others says of itself, beyond what its layers show.
    """

    name: Annotated[str, AfterValidator(_known_norm)]
    groups: int | None = Field(default=None, ge=1)
    group_size: int | None = Field(default=None, ge=1)
    stats: Stats | None = None
    power: Number = 0.2
    pool: tuple[NormSpec, ...] = Field(default=(), max_length=32)
    scope: Literal["layer", "network"] = "layer"
    per: Literal["batch", "sample"] = "batch"
    declares: tuple[Literal["stochastic", "batch-dependent"], ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: object) -> object:
        """Lets a bare name stand for a spec without parameters: ``norm: bn``."""
        return {"name": value} if isinstance(value, str) else value

    @field_validator("power")
    @classmethod
    def _power_range(cls, power: float) -> float:
        if not 0 < power <= 1:
            raise ValueError(f"power must be in (0, 1], found {power}")
        return power

    @model_validator(mode="after")
    def _consistent(self) -> NormSpec:
        grouped = self.name in ("gn", "bgn")
        if grouped and (self.groups is None) == (self.group_size is None):
            raise ValueError(f"norm '{self.name}' needs either groups or group_size")
        if not grouped and (self.groups or self.group_size):
            raise ValueError(f"norm '{self.name}' takes neither groups nor group_size")
        if (self.name == "rna") != bool(self.pool):
            raise ValueError("norm 'rna' needs a pool of norms, and only 'rna' takes one")
        if any(member.name in ("rna", "fixup", "foreign") for member in self.pool):
            raise ValueError("the pool of 'rna' cannot hold 'rna', 'fixup' or 'foreign'")
        if self.declares and self.name not in ("bn", "foreign"):
            raise ValueError("declares is for networks of other libraries")
        if any(member.name not in NORM_NAMES for member in self.pool):
            raise ValueError("the pool of 'rna' cannot hold a plugin's norm")
        if self.power != 0.2 and self.name != "rn":
            raise ValueError(f"norm '{self.name}' takes no power; only 'rn' does")
        if (self.scope, self.per) != ("layer", "batch") and self.name != "rna":
            raise ValueError(f"norm '{self.name}' takes neither scope nor per; only 'rna' does")
        if self.stats is not None and self.name not in BATCH_STATISTICS:
            raise ValueError(f"norm '{self.name}' has no choice of statistics")
        if self.stats == "tracked-mean" and self.name != "rn":
            raise ValueError("stats 'tracked-mean' is for norm 'rn' only")
        return self

    def with_stats(self, stats: str) -> NormSpec:
        """Returns this spec with other inference statistics; for ``rna``, those of its pool.

        Raises:
            UserError: When the norm has no such choice.
        """
        if self.name == "rna" and any(m.name in BATCH_STATISTICS for m in self.pool):
            pool = [m.with_stats(stats) if m.name in BATCH_STATISTICS else m for m in self.pool]
            return self.model_copy(update={"pool": tuple(pool)})
        known = BATCH_STATISTICS.get(self.name, ())
        if stats not in known:
            has = f"has only {', '.join(known)}" if known else "has no choice of statistics"
            raise UserError(f"stats '{stats}' was asked for, but norm '{self.label()}' {has}")
        return self.model_copy(update={"stats": stats})

    @property
    def inference_stats(self) -> str | None:
        """What inference uses once defaults are filled in; ``None`` where there is no choice."""
        if self.name not in BATCH_STATISTICS:
            return None
        return self.stats or ("batch" if self.name == "rn" else "population")

    @property
    def of_plugin(self) -> bool:
        """Whether another package brings it."""
        return self.name not in NORM_NAMES

    @property
    def stochastic(self) -> bool:
        """Whether a forward pass draws at random."""
        if self.of_plugin:
            return PLUGIN_NORMS.get(self.name).stochastic
        return self.draws_paths or "stochastic" in self.declares

    @property
    def draws_paths(self) -> bool:
        """Whether layers of this project draw a path that can be held, enumerated and averaged."""
        return self.name == "rna" and len(self.pool) > 1

    @property
    def batch_dependent(self) -> bool:
        """Whether one image's logits depend on the other images in its batch at inference."""
        if self.of_plugin:
            return PLUGIN_NORMS.get(self.name).batch_dependent
        if self.name == "rna":
            return any(member.batch_dependent for member in self.pool)
        declared = "batch-dependent" in self.declares
        return declared or uses_batch(self.inference_stats)

    def label(self) -> str:
        """Returns a short name, for example ``bn``, ``gn8``, ``rna(bn+in)``."""
        if self.name == "rna":
            return "rna(" + "+".join(member.label() for member in self.pool) + ")"
        if self.groups:
            return f"{self.name}{self.groups}"
        return f"{self.name}[{self.group_size}]" if self.group_size else self.name
