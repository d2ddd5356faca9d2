"""Which normalization a model uses, as data; and what is known of each family."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from bench.core.errors import UserError
from bench.core.registry import Plugin, Registry, known_name
from bench.core.spec import Number, Spec

Stats = Literal["population", "batch", "tracked-mean"]


@dataclass(frozen=True)
class Family:
    """A normalization family.

    Attributes:
        summary: One line for listings, with its parameters.
        parameters: Fields of ``NormSpec`` that it takes; no other family may set them.
        stats: What inference may use, the default first, for a family that computes statistics over
            the batch in training; empty where there is no choice.
        in_pool: Whether it may be in the pool of ``rna``.
    """

    summary: str
    parameters: tuple[str, ...] = ()
    stats: tuple[Stats, ...] = ()
    in_pool: bool = True


_GROUPS = ("groups", "group_size")

FAMILIES: dict[str, Family] = {
    "none": Family("no normalization, a learned shift only"),
    "fixup": Family("Fixup initialization with scalar scales and biases", in_pool=False),
    "bn": Family(
        "batch normalization; stats: population | batch",
        ("stats",),
        ("population", "batch"),
    ),
    "bgn": Family(
        "batch group normalization; groups | group_size; stats: population | batch",
        (*_GROUPS, "stats"),
        ("population", "batch"),
    ),
    "gn": Family("group normalization; groups | group_size", _GROUPS),
    "in": Family("instance normalization"),
    "ln": Family("layer normalization"),
    "rn": Family(
        "RobustNorm; power; stats: batch | tracked-mean | population",
        ("power", "stats"),
        ("batch", "tracked-mean", "population"),
    ),
    "rna": Family(
        "Random Normalization Aggregation; pool, scope: layer | network, per: batch | sample",
        ("pool", "scope", "per"),
        in_pool=False,
    ),
    "foreign": Family("any norm of a network of another library; cannot be built", in_pool=False),
}
"""Every family of this project, by name; the layers are in ``bench.norms``."""

BATCH_STATISTICS = {name: family.stats for name, family in FAMILIES.items() if family.stats}
"""Families that compute statistics over the batch in training, and what inference may use."""

NORM_GROUP = "rbench.norms"
"""Entry points by which other packages add norms."""


@dataclass(frozen=True)
class PluginNorm:
    """A norm of another package, as its entry point declares it.

    Attributes:
        make: ``"module:function"``; called with the number of channels, it returns the layer. A
            name rather than the function, so that reading specifications does not import torch.
        batch_dependent: Whether, at inference, an image's output depends on the rest of its batch.
        stochastic: Whether a forward pass draws at random, from torch's global generator.
        summary: One line for listings.
    """

    make: str
    batch_dependent: bool = False
    stochastic: bool = False
    summary: str = ""


def _adopt(plugin: Plugin, found: object) -> PluginNorm:
    if not isinstance(found, PluginNorm):
        raise ValueError(f"expected a PluginNorm, found {type(found).__name__}")
    return found


PLUGIN_NORMS: Registry[PluginNorm] = Registry("norm", NORM_GROUP, _adopt)


def uses_batch(stats: str | None) -> bool:
    """Returns whether inference statistics are those of the batch, in full or in part."""
    return stats in ("batch", "tracked-mean")


def _known_norm(name: str) -> str:
    return known_name("norm", NORM_GROUP, tuple(FAMILIES), name)


class NormSpec(Spec):
    """One normalization family with its parameters; the layer's channels come from the model.

    Attributes:
        name: A family, or a plugin's norm, which takes no parameters. ``foreign`` is any norm of a
            network of another library, without a choice of statistics; it cannot be built.
        groups: Number of channel groups.
        group_size: Channels per group; exactly one of this and ``groups`` is given.
        stats: What inference uses; ``None`` for the family's default. ``population``: tracked
            statistics; ``batch``: those of the batch; ``tracked-mean``: tracked mean, range of the
            batch.
        power: The exponent p of RobustNorm's range (paper, equation 6), in (0, 1].
        pool: The norms that ``rna`` draws from, each with its own affine parameters.
        scope: Draw a branch per ``layer``, or one for the whole ``network``.
        per: Draw one path per ``batch`` or one per ``sample``.
        declares: Properties that a network of another library declares beyond what its layers show.
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
        taken = self._family.parameters
        if self.stats is not None:
            self._check_stats(self.stats)
        for name, field in type(self).model_fields.items():
            if name in ("name", "declares", *taken) or getattr(self, name) == field.default:
                continue
            others = [f"'{k}'" for k, family in FAMILIES.items() if name in family.parameters]
            only = f"{' and '.join(others)} {'does' if len(others) == 1 else 'do'}"
            raise ValueError(f"norm '{self.name}' takes no {name}; only {only}")
        if "groups" in taken and (self.groups is None) == (self.group_size is None):
            raise ValueError(f"norm '{self.name}' needs either groups or group_size")
        if "pool" in taken and not self.pool:
            raise ValueError(f"norm '{self.name}' needs a pool of norms")
        for member in self.pool:
            if member.of_plugin or not member._family.in_pool:
                what = "a plugin's norm" if member.of_plugin else f"'{member.name}'"
                raise ValueError(f"the pool of '{self.name}' cannot hold {what}")
        if self.declares and self.name not in ("bn", "foreign"):
            raise ValueError("declares is for networks of other libraries")
        return self

    def _check_stats(self, stats: str) -> None:
        known = self._family.stats
        if stats not in known:
            has = f"has only {', '.join(known)}" if known else "has no choice of statistics"
            raise ValueError(f"stats '{stats}' was asked for, but norm '{self.label()}' {has}")

    def with_stats(self, stats: str) -> NormSpec:
        """Returns this spec with other inference statistics.

        The pool of ``rna`` keeps its own: a cell has no word for another choice.

        Raises:
            UserError: When the norm has no such choice.
        """
        try:
            self._check_stats(stats)
        except ValueError as error:
            raise UserError(str(error)) from None
        return self.model_copy(update={"stats": stats})

    @property
    def _family(self) -> Family:
        return FAMILIES.get(self.name, Family(""))

    @property
    def inference_stats(self) -> str | None:
        """The statistics that inference uses, defaults filled in; ``None`` without a choice."""
        return self.stats or next(iter(self._family.stats), None)

    @property
    def of_plugin(self) -> bool:
        """Whether the norm belongs to another package."""
        return self.name not in FAMILIES

    @property
    def stochastic(self) -> bool:
        """Whether a forward pass draws at random."""
        if self.of_plugin:
            return PLUGIN_NORMS.get(self.name).stochastic
        return self.draws_paths or "stochastic" in self.declares

    @property
    def draws_paths(self) -> bool:
        """Whether layers of this project draw paths that can be pinned, enumerated and averaged."""
        return len(self.pool) > 1

    @property
    def batch_dependent(self) -> bool:
        """Whether one image's logits depend on the other images in its batch at inference."""
        if self.of_plugin:
            return PLUGIN_NORMS.get(self.name).batch_dependent
        if any(member.batch_dependent for member in self.pool):
            return True
        return "batch-dependent" in self.declares or uses_batch(self.inference_stats)

    def label(self) -> str:
        """Returns a short name, for example ``bn``, ``gn8``, ``rna(bn+in)``."""
        if self.pool:
            return f"{self.name}({'+'.join(member.label() for member in self.pool)})"
        if self.groups:
            return f"{self.name}{self.groups}"
        return f"{self.name}[{self.group_size}]" if self.group_size else self.name


_MEMBER = re.compile(r"(?P<name>[a-z]+)(?:(?P<groups>\d+)|\[(?P<size>\d+)\])?")
_POOL = re.compile(r"(?P<name>\w+)\((?P<pool>[^()]*)\)")


def keys_of_label(label: str) -> object:
    """Returns the keys of a norm from a label such as ``gn8``, ``gn[16]`` or ``rna(bn+in)``.

    Spaces do not count. A text that is no such label is returned as it is: the name of a family or
    of a plugin's norm.
    """
    text = "".join(label.split())
    if pool := _POOL.fullmatch(text):
        return {"name": pool["name"], "pool": list(map(keys_of_label, pool["pool"].split("+")))}
    member = _MEMBER.fullmatch(text)
    if not member or not (member["groups"] or member["size"]) or member["name"] not in FAMILIES:
        return text or label
    if member["groups"]:
        return {"name": member["name"], "groups": int(member["groups"])}
    return {"name": member["name"], "group_size": int(member["size"])}
