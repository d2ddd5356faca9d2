"""A suite: its models, attacks and data, its analyses and its reports.

An entry of ``models`` or ``attacks`` may stand for many by ``each``, a mapping from fields to
lists. It is written out as the Cartesian product of the lists, in order, before all checks::

    models:
      - each: {checkpoint: {bn: fmnist-resnet20-bn, in: fmnist-resnet20-in}, batch_size: [8, 64]}
      - {label: rna, checkpoint: fmnist-resnet20-rna-at, each: {eot_iter: [1, 5]}}
    attacks:
      - {attack: pgd, each: {eps: [2/255, 4/255, 8/255], params.n_iter: [10, 100]}}

``threat_model`` may be a list, a union of threat models::

    threat_model: [linf:8/255, l2:0.5, l1:12]

Each attack without an ``eps`` or ``norm`` of its own is then written out once for every ball whose
norm it serves (``apgd, linf 8/255``; ``apgd, l2 0.5``; ...), and the worst case is of all of them:
the images that are right in every ball.

A model may vary in ``checkpoint``, ``surrogate``, ``stats``, ``batch_size``, ``adversary``,
``eot_iter``, ``protocol``, ``gradient_model`` and ``loss``, an attack in ``eps``, ``eot_iter`` and
``params.NAME``, which is any parameter. A mapping in place of a list gives its values short names.
The labels are the entry's own followed by the varied values (``bn, batch size 8``; ``rna, EOT 5``;
``pgd, eps 2/255, n_iter 10``). Where labels are asked for, in ``attacks`` of a model and in panels
of a report, ``pgd`` or ``n_iter 10`` means all entries of an ``each`` that have it among the parts
of their labels.

Under ``transfer``, a model whose surrogate is its own checkpoint under the same statistics is
attacked as under ``white_box`` (its cell is that one), and under other statistics as under
``stats_transfer``; so ``checkpoint`` and ``surrogate`` may run over the same list::

    - {protocol: transfer, each: {checkpoint: [A, B], surrogate: [A, B]}}
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from bench.core.attack import CORRUPTION, YTarget
from bench.core.ball import Norm
from bench.core.cell import Adversary, DataSpec, Eot, Protocol, Search, check_eot
from bench.core.model_uri import canonical_name, with_identity
from bench.core.norm_spec import Stats
from bench.core.spec import Number, Spec
from bench.core.threat import ThreatModel
from bench.suite.entry import AnalysisEntry, Entry, Line, ReportEntry, Selector, as_tuples, one_line
from bench.suite.grid import attack_label, in_every_ball, model_label


class SurrogateEntry(Spec):
    """The model that an attack is crafted on in place of the target model.

    A bare string stands for ``{checkpoint: STRING}``.

    Attributes:
        checkpoint: Name or URI of the checkpoint under ``transfer``. Under ``stats_transfer`` it is
            always the entry's own, and is left out.
        stats: Inference statistics in force while crafting, in place of the card's. Required
            under ``stats_transfer``.
    """

    checkpoint: Annotated[
        str,
        AfterValidator(lambda name: name and one_line(name)),
        AfterValidator(canonical_name),
    ] = ""
    stats: Stats | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        return {"checkpoint": value} if isinstance(value, str) else value


def _told_apart(value: object) -> object:
    """Returns a model's entry with its ``identity`` in the URI, where every process sees it."""
    if not isinstance(value, dict) or not isinstance(value.get("identity"), str):
        return value
    name = value.get("checkpoint")
    if not isinstance(name, str):
        return value
    rest = {key: one for key, one in value.items() if key != "identity"}
    return {**rest, "checkpoint": with_identity(name, value["identity"])}


class ModelEntry(Entry):
    """A row of the suite's tables. A bare string stands for ``{checkpoint: STRING}``.

    A ``python:`` model may have ``identity: TEXT``, which becomes part of its URI: a text that
    changes whenever its weights do.

    Attributes:
        checkpoint: Name of the checkpoint, or a URI (docs/models.md).
        label: Name in tables; by default the checkpoint's, a URI's in short, with ``stats``,
            ``protocol``, ``eot_iter``, ``eot``, ``adversary``, ``gradient_model`` and ``loss`` if
            they are given.
        stats: Inference statistics in place of the card's; for norms ``bn``, ``bgn`` and ``rn``.
        protocol: How it is attacked and scored.
        surrogate: The model that attacks are crafted on. ``transfer`` needs a checkpoint
            (``surrogate: NAME``), ``stats_transfer`` needs statistics
            (``surrogate: {stats: population}``): crafted under those, scored under ``stats``.
        eot_iter: Draws over which an attack averages gradients, in place of the suite's; for a
            stochastic model.
        eot: How these draws are averaged over, in place of the suite's; for a stochastic model.
        adversary: ``joint`` or ``single``, for a batch-dependent model.
        batch_size: In place of the suite's.
        gradient_model: Name or URI of the model whose backward pass attacks follow in place of the
            entry's own, while they see its logits (BPDA); attacks that follow no gradient pass it
            over (docs/adaptive.md).
        loss: ``python:MODULE:FUNCTION`` of a loss that attacks climb in place of their own; for
            fgsm, bim, mim, pgd and apgd.
        attacks: Labels of the attacks that it meets, or series of them; empty for all.
        published: The row of the published tables to show beside it.
    """

    checkpoint: Annotated[Line, AfterValidator(canonical_name)]
    stats: Stats | None = None
    protocol: Protocol = "white_box"
    surrogate: SurrogateEntry | None = None
    eot_iter: int | None = Field(default=None, ge=1)
    eot: Eot | None = None
    adversary: Adversary = "joint"
    batch_size: int | None = Field(default=None, ge=1)
    gradient_model: Annotated[Line, AfterValidator(canonical_name)] | None = None
    loss: Line | None = None
    attacks: tuple[Line, ...] = ()
    published: Selector = Field(default_factory=dict)

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = handler(self)
        for name in ("gradient_model", "loss"):
            if written.get(name) is None:
                written.pop(name, None)
        return written

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        if isinstance(value, str):
            value = {"checkpoint": value}
        value = _told_apart(value)
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

    def meets(self, attack: AttackEntry) -> bool:
        """Returns whether an attack is among its own."""
        return not self.attacks or any(map(attack.named, self.attacks))

    @property
    def source_checkpoint(self) -> str:
        """The checkpoint that attacks are crafted on: the surrogate's, or its own."""
        return (self.surrogate.checkpoint if self.surrogate else "") or self.checkpoint

    @property
    def model_names(self) -> tuple[str, ...]:
        """Every model that it needs, each once, its own first."""
        names = (self.checkpoint, self.source_checkpoint, self.gradient_model or self.checkpoint)
        return tuple(dict.fromkeys(names))


class AttackEntry(Entry):
    """A column of the suite's tables. A bare string stands for ``{attack: STRING}``.

    Attributes:
        attack: Name in the attack registry.
        label: Name in tables; by default the attack's, without its library, with ``eot_iter`` and
            ``eot`` and ``eps`` if they are given, for example ``PGD EOT-20``.
        params: Its parameters; the rest are at their defaults.
        norm: Norm of its ball in place of the suite's; needs an eps, which is then in pixels. Left
            out of files when unset.
        eps: Radius of its ball in place of the suite's, in the suite's norm and space.
        eot_iter: Draws over which gradients are averaged, in place of the model's and the
            suite's; counts for stochastic models only.
        eot: How these draws are averaged over, in place of the model's and the suite's.
        y_target: Makes the attack targeted: ``least_likely``, ``random``, a class, or a list with a
            class for each image (docs/threat-models.md). Its success is a prediction of the
            target, so that such a column is no part of the worst case. Left out of files when
            unset.
        limit: So many images only, the first of the suite's slice; ``None`` for all. Such a column
            is no part of the worst case, which is of all images.
        published: The column of the published tables to show beside it.
    """

    attack: Line
    params: dict[str, Any] = Field(default_factory=dict)
    norm: Norm | None = None
    eps: Number | None = None
    eot_iter: int | None = Field(default=None, ge=1)
    eot: Eot | None = None
    y_target: YTarget | None = None
    limit: int | None = Field(default=None, ge=1)
    published: str = ""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        if isinstance(value, str):
            value = {"attack": value}
        label = attack_label(value)
        return {**value, "label": label} if label and isinstance(value, dict) else value

    @field_validator("y_target", mode="before")
    @classmethod
    def _list_is_tuple(cls, value: object) -> object:
        return as_tuples(value)

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = handler(self)
        for name in ("norm", "y_target"):
            if written.get(name) is None:
                written.pop(name, None)
        return written

    @model_validator(mode="after")
    def _norm_with_its_eps(self) -> AttackEntry:
        if self.attack == CORRUPTION and self.eps is not None:
            raise ValueError("a corruption has no eps, as no ball bounds it: severity says how far")
        if self.norm is not None and self.eps is None:
            raise ValueError(
                f"norm {self.norm} needs an eps of its own, which has another meaning in each "
                "norm; add eps"
            )
        return self

    def threat_model(self, suite: ThreatModel) -> ThreatModel:
        """Returns the suite's threat model with this entry's norm and eps, where it has its own.

        Raises:
            ValidationError: When the eps is none of that norm and space.
        """
        if self.eps is None:
            return suite
        norm = self.norm or suite.norm
        space = suite.eps_space if norm == suite.norm else "pixel"
        return ThreatModel(norm=norm, eps=self.eps, eps_space=space)

    def in_worst_case(self, *balls: ThreatModel) -> bool:
        """Returns whether it is part of the worst case: on all images, inside one of the balls.

        A targeted attack is not, as its score says how many images were brought to a target, and
        not how many are still right; nor is a corruption, which nobody chose.

        Args:
            balls: The suite's threat models, its own first.
        """
        own = self.threat_model(balls[0])
        on_all = self.limit is None and self.y_target is None and self.attack != CORRUPTION
        return on_all and any(ball.holds(own) for ball in balls)

    def slice_of(self, data: DataSpec) -> DataSpec:
        """Returns the images of the suite's slice that it is run on."""
        return data if self.limit is None else data.first(self.limit)

    @model_validator(mode="after")
    def _draws_for_its_eot(self) -> AttackEntry:
        check_eot(self.eot, self.eot_iter)
        return self


def in_each_ball(entry: AttackEntry, balls: Sequence[ThreatModel]) -> list[AttackEntry]:
    """Returns an attack once for each ball of a union, as a suite writes it out, or it alone."""
    written = in_every_ball(entry.model_dump(exclude_defaults=True), balls)
    if written is None:
        return [entry]
    return [AttackEntry.model_validate(one) for _, one in written]


Labelled = ModelEntry | AttackEntry | AnalysisEntry


def repeated_labels(entries: Sequence[Labelled]) -> Iterator[tuple[int, int]]:
    """Yields the positions of each entry whose label is taken and of the one that has it."""
    first: dict[str, int] = {}
    for position, entry in enumerate(entries):
        taken = first.setdefault(entry.label, position)
        if taken != position:
            yield position, taken


def _leaderboard() -> tuple[ReportEntry, ...]:
    return (ReportEntry(kind="leaderboard"),)


class SuiteSpec(Spec):
    """A whole suite file.

    Attributes:
        suite: Its name; results go to a folder of that name.
        title: Heading of its tables; the name if empty.
        description: Printed with the tables.
        data: The slice that every model is scored on.
        threat_model: The ball of every attack; of several that a file lists, the first.
        union: The others. A file gives all of them as the list ``threat_model``; left out of files
            when empty.
        batch_size: Images that are attacked and scored together. ``None`` for 128, or for a twelfth
            of the images where those of a batch may share a draw of a random model.
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
        sentinel: Whether a short ``auto`` looks again at the first images, behind each model's
            white-box attacks, unless one of them is as strong. Where it breaks many more, the
            cells carry the alarm ``weak_attack``.
        models: The rows.
        attacks: The columns.
        analyses: Measurements that need more than rows.
        reports: The reports to write.
    """

    suite: str = Field(pattern=r"^[a-z0-9_-]+$")
    title: Annotated[str, AfterValidator(lambda title: title and one_line(title))] = ""
    description: str = ""
    data: DataSpec
    threat_model: ThreatModel
    union: tuple[ThreatModel, ...] = ()
    batch_size: int | None = Field(default=None, ge=1)
    n_draws: int = Field(default=20, ge=1)
    eot_iter: int = Field(default=1, ge=1)
    eot: Eot = "plain"
    search: Search = "fast"
    convergence_images: int = Field(default=32, ge=0)
    sentinel: bool = True
    seed: int = Field(default=0, ge=0)
    models: tuple[ModelEntry, ...] = Field(min_length=1)
    attacks: tuple[AttackEntry, ...] = Field(min_length=1)
    analyses: tuple[AnalysisEntry, ...] = ()
    reports: tuple[ReportEntry, ...] = Field(default_factory=_leaderboard)

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = handler(self)
        if not self.union:
            written.pop("union", None)
        return written

    @property
    def threat_models(self) -> tuple[ThreatModel, ...]:
        """All its balls, its own first; more than one form a union."""
        return (self.threat_model, *self.union)

    @field_validator("models", "attacks", "analyses")
    @classmethod
    def _labels_differ(cls, entries: tuple[Labelled, ...]) -> tuple[Labelled, ...]:
        for position, _ in repeated_labels(entries):
            label = entries[position].label
            raise PydanticCustomError("repeated_label", "two are labelled '{l}'", {"l": label})
        return entries
