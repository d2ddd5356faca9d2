"""A suite: which models meet which attacks on which data, and what is written about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from bench.core.base import Spec
from bench.core.cell import Adversary, DataSpec, Eot, Protocol, Search
from bench.core.errors import UserError
from bench.core.norm_spec import BATCH_STATISTICS, NormSpec, Stats
from bench.core.threat import ThreatModel
from bench.suite.labels import attack_label, model_label


def _selector_value(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("expected text or a number")
    return value


def _one_line(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("expected one line of printable text")
    return text


def as_tuples(value: object) -> object:
    """Returns lists as tuples: behind a validator of a whole entry, strict mode takes no list."""
    return tuple(map(as_tuples, value)) if isinstance(value, list) else value


def norm_in_force(norm: NormSpec, stats: Stats | None) -> NormSpec:
    """Returns a norm with other inference statistics in place of its own, if any are given.

    Raises:
        UserError: When the norm does not have the statistics that are asked for.
    """
    if stats is None:
        return norm
    if norm.name not in BATCH_STATISTICS:
        raise UserError(f"norm '{norm.name}' has no choice of statistics; remove stats")
    if stats == "tracked-mean" and norm.name != "rn":
        raise UserError(
            f"stats 'tracked-mean' is for norm 'rn' only, this is '{norm.name}'; expected "
            "population or batch"
        )
    return norm.model_copy(update={"stats": stats})


def check_eot(eot: Eot | None, eot_iter: int | None) -> None:
    """Raises a ``ValueError`` where one entry asks for both the mean field and several draws."""
    if eot == "mean_field" and (eot_iter or 1) > 1:
        raise ValueError(
            f"eot mean_field is one pass without draws, found eot_iter {eot_iter}; remove eot_iter"
        )


Selector = dict[str, Annotated[Any, AfterValidator(_selector_value)]]
"""Keys and values that pick rows of a published table, for example ``{norm: rna}``."""
Line = Annotated[str, AfterValidator(_one_line)]
"""One line of printable text, fit for a table."""


class SurrogateEntry(Spec):
    """What an attack is crafted on in place of the target model.

    A bare string stands for ``{checkpoint: STRING}``.

    Attributes:
        checkpoint: Name of the checkpoint under ``transfer``. Under ``stats_transfer`` it is
            always the entry's own, and is left out.
        stats: Inference statistics in force while crafting, in place of the card's. Required
            under ``stats_transfer``.
    """

    checkpoint: Annotated[str, AfterValidator(lambda name: name and _one_line(name))] = ""
    stats: Stats | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        return {"checkpoint": value} if isinstance(value, str) else value


class ModelEntry(Spec):
    """A row of the suite's tables. A bare string stands for ``{checkpoint: STRING}``.

    Attributes:
        checkpoint: Name of the checkpoint.
        label: Name in tables; by default the checkpoint's, with ``stats``, ``protocol``,
            ``eot_iter``, ``eot`` and ``adversary`` if they are given.
        stats: Inference statistics in place of the card's; for norms ``bn``, ``bgn`` and ``rn``.
        protocol: How it is attacked and scored.
        surrogate: What it is attacked through. ``transfer`` needs a checkpoint
            (``surrogate: NAME``), ``stats_transfer`` needs statistics
            (``surrogate: {stats: population}``): crafted under those, scored under ``stats``.
        eot_iter: Draws over which an attack averages gradients, in place of the suite's; for a
            stochastic model.
        eot: How these draws are averaged over, in place of the suite's; for a stochastic model.
        adversary: What an attack may perturb of a batch-dependent model's batch.
        batch_size: In place of the suite's.
        attacks: Labels of the attacks that it meets; empty for all.
        published: The row of the published tables to show beside it.
    """

    checkpoint: Line
    label: Line = ""
    stats: Stats | None = None
    protocol: Protocol = "white_box"
    surrogate: SurrogateEntry | None = None
    eot_iter: int | None = Field(default=None, ge=1)
    eot: Eot | None = None
    adversary: Adversary = "joint"
    batch_size: int | None = Field(default=None, ge=1)
    attacks: tuple[Line, ...] = ()
    published: Selector = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        if isinstance(value, str):
            value = {"checkpoint": value}
        label = model_label(value)
        return {**value, "label": label} if label and isinstance(value, dict) else value

    @field_validator("attacks", mode="before")
    @classmethod
    def _list_is_tuple(cls, value: object) -> object:
        return as_tuples(value)

    @model_validator(mode="after")
    def _draws_for_its_eot(self) -> ModelEntry:
        check_eot(self.eot, self.eot_iter)
        return self

    def norm_in_force(self, norm: NormSpec) -> NormSpec:
        """Returns a checkpoint's norm with this entry's statistics in place of its own.

        Raises:
            UserError: When the norm does not have the statistics that are asked for.
        """
        return norm_in_force(norm, self.stats)

    def meets(self, attack: str) -> bool:
        """Says whether the attack of this label is among its own."""
        return not self.attacks or attack in self.attacks

    @property
    def source_checkpoint(self) -> str:
        """The checkpoint that attacks are crafted on: the surrogate's, or its own."""
        return (self.surrogate.checkpoint if self.surrogate else "") or self.checkpoint


class AttackEntry(Spec):
    """A column of the suite's tables. A bare string stands for ``{attack: STRING}``.

    Attributes:
        attack: Name in the attack registry.
        label: Name in tables; by default the attack's, without its library, with ``eot_iter`` and
            ``eot`` if they are given, for example ``PGD EOT-20``.
        params: Its parameters; the rest are at their defaults.
        eot_iter: Draws over which gradients are averaged, in place of the model's and the
            suite's; counts for stochastic models only.
        eot: How these draws are averaged over, likewise.
        published: The column of the published tables to show beside it.
    """

    attack: Line
    label: Line = ""
    params: dict[str, Any] = Field(default_factory=dict)
    eot_iter: int | None = Field(default=None, ge=1)
    eot: Eot | None = None
    published: str = ""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        if isinstance(value, str):
            value = {"attack": value}
        label = attack_label(value)
        return {**value, "label": label} if label and isinstance(value, dict) else value

    @model_validator(mode="after")
    def _draws_for_its_eot(self) -> AttackEntry:
        check_eot(self.eot, self.eot_iter)
        return self


class ReportEntry(Spec):
    """A table to write.

    Attributes:
        kind: ``leaderboard`` (models x attacks), ``stats_table`` (population next to batch) or
            ``agreement`` (two attacks on the same images).
        published: The published table to show beside it, for example ``rna/table1``.
        where: Narrows that table's rows down, for all models.
        pairs: For ``agreement``, the labels of the attacks to compare, two by two.
    """

    kind: Literal["agreement", "leaderboard", "stats_table"]
    published: str = ""
    where: Selector = Field(default_factory=dict)
    pairs: tuple[tuple[Line, Line], ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        return {"kind": value} if isinstance(value, str) else value

    @field_validator("pairs", mode="before")
    @classmethod
    def _lists_are_tuples(cls, value: object) -> object:
        return as_tuples(value)

    @model_validator(mode="after")
    def _pairs_for_agreement(self) -> ReportEntry:
        if (self.kind == "agreement") != bool(self.pairs):
            raise ValueError("kind 'agreement' needs pairs, and only 'agreement' takes them")
        if any(one == other for one, other in self.pairs):
            raise ValueError("pairs compares an attack with itself")
        return self


def repeated_labels(entries: Sequence[ModelEntry | AttackEntry]) -> Iterator[tuple[int, int]]:
    """Yields the positions of each entry whose label is taken and of the one that has it."""
    first: dict[str, int] = {}
    for position, entry in enumerate(entries):
        taken = first.setdefault(entry.label, position)
        if taken != position:
            yield position, taken


class SuiteSpec(Spec):
    """A whole suite file.

    Attributes:
        suite: Its name; results go to a folder of that name.
        title: Heading of its tables; the name if empty.
        description: Printed with the tables.
        data: The slice that every model is scored on.
        threat_model: What every attack may do.
        batch_size: Images that are attacked and scored together.
        n_draws: Fresh draws that score each image of a stochastic model.
        eot_iter: Draws over which gradients of a stochastic model are averaged.
        eot: How: over ``plain`` or ``stratified`` draws, or not at all but in one pass through the
            model's ``mean_field``, which takes no ``eot_iter``.
        search: ``fast`` lets attacks search in the precision that is fastest on the device, with
            what they find confirmed in float32; ``exact`` is float32 throughout. Libraries' and
            minimum-norm attacks are always exact, and so is scoring.
        seed: Of everything random.
        convergence_images: Images on which a run tries out, for each model's longest white-box
            attack that follows gradients, whether more iterations or draws break more; 0 for none.
        models: The rows.
        attacks: The columns.
        reports: What is written.
    """

    suite: str = Field(pattern=r"^[a-z0-9_-]+$")
    title: Annotated[str, AfterValidator(lambda title: title and _one_line(title))] = ""
    description: str = ""
    data: DataSpec
    threat_model: ThreatModel
    batch_size: int = Field(default=128, ge=1)
    n_draws: int = Field(default=20, ge=1)
    eot_iter: int = Field(default=1, ge=1)
    eot: Eot = "plain"
    search: Search = "fast"
    convergence_images: int = Field(default=32, ge=0)
    seed: int = Field(default=0, ge=0)
    models: tuple[ModelEntry, ...] = Field(min_length=1)
    attacks: tuple[AttackEntry, ...] = Field(min_length=1)
    reports: tuple[ReportEntry, ...] = (ReportEntry(kind="leaderboard"),)

    @field_validator("models", "attacks")
    @classmethod
    def _labels_differ(
        cls, entries: tuple[ModelEntry | AttackEntry, ...]
    ) -> tuple[ModelEntry | AttackEntry, ...]:
        for position, _ in repeated_labels(entries):
            label = entries[position].label
            raise PydanticCustomError("repeated_label", "two are labelled '{l}'", {"l": label})
        return entries
