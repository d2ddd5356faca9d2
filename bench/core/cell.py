"""A cell: one model under one attack on one slice of data; its identity, and its one maker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from bench.core.adaptive import Adaptive
from bench.core.attack import AttackInfo, YTarget
from bench.core.errors import UserError
from bench.core.spec import Spec, digest
from bench.core.threat import ThreatModel

Protocol = Literal["white_box", "fixed_path", "transfer", "stats_transfer"]
"""``white_box``: gradients of the model as deployed, averaged over ``eot_iter`` draws if it is
stochastic. ``fixed_path``: the RNA paper's; one path is held while a batch is attacked, others are
drawn to score it. ``transfer``: crafted on a surrogate. ``stats_transfer``: crafted on the same
weights under other inference statistics."""

Adversary = Literal["joint", "single"]
"""Of a batch-dependent model: ``joint`` perturbs the whole batch (the papers' way), ``single`` one
image in an otherwise clean batch."""

Eot = Literal["plain", "stratified", "mean_field"]
"""How an attack on a stochastic model averages over its draws. ``plain``: over ``eot_iter``
independent draws. ``stratified``: over draws in which the branches of every RNA layer occur equally
often, each of them distributed as a plain one. ``mean_field``: not at all; one pass through a
surrogate in which every RNA layer returns the mean of its branches gives the direction. That is
another model, so its candidates are compared, and scored, on draws of the model itself."""

RULES = 2
"""Version of judging, scoring and seeding, part of the id of every cell and analysis. Raise it when
code outside the attacks changes stored rows."""

Search = Literal["fast", "exact"]
"""The precision of an attack's passes. Claims are confirmed, and numbers scored, in float32."""


class Surrogate(Spec):
    """The model that an attack is crafted on in place of the target model.

    Attributes:
        checkpoint: Its name.
        sha256: Of its weights, and of all else that decides its logits but ``stats``.
        stats: Its inference statistics; ``None`` for a norm without the choice.
    """

    checkpoint: str
    sha256: str
    stats: str | None


class DataSpec(Spec):
    """A fixed slice of a data set's split.

    Attributes:
        name: The data set, as ``rbench list datasets`` names it.
        split: ``test`` or ``train``.
        limit: Number of images; ``None`` takes all from ``offset`` on.
        offset: Images skipped, after shuffling if there is a seed.
        seed: Shuffles before slicing; ``None`` keeps the split's own order.
        stratified: Takes the same number of images of each class, as far as ``limit`` divides.
        index: Explicit positions in the split, in evaluation order; excludes limit, offset, seed
            and stratified. Left out of the id when unset, so that older ids stay valid.
    """

    name: str
    split: Literal["test", "train"] = "test"
    limit: int | None = Field(default=None, ge=1)
    offset: int = Field(default=0, ge=0)
    seed: int | None = Field(default=None, ge=0)
    stratified: bool = False
    index: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(default=None, min_length=1)

    @field_validator("index")
    @classmethod
    def _unique(cls, index: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if index is not None and len(set(index)) < len(index):
            twice = Counter(index).most_common(1)[0][0]
            raise ValueError(f"expected each position once, found {twice} twice")
        return index

    @model_validator(mode="after")
    def _either_way(self) -> DataSpec:
        sliced = (self.limit, self.offset, self.seed, self.stratified) != (None, 0, None, False)
        if self.index is not None and sliced:
            raise ValueError(
                "expected index alone, or limit, offset, seed and stratified; found both: leave "
                "out one of them"
            )
        return self

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = handler(self)
        if self.index is None:
            written.pop("index", None)
        return written

    @property
    def n_images(self) -> int | None:
        """Number of images; ``None`` for all of the split."""
        return self.limit if self.index is None else len(self.index)

    def first(self, n: int) -> DataSpec:
        """Returns the slice of this one's first ``n`` images."""
        if self.index is not None:
            return self.model_copy(update={"index": self.index[:n]})
        return self.model_copy(update={"limit": n})


class CellSpec(Spec):
    """Everything that decides a cell's rows; its hash is the cell's id.

    Attributes:
        checkpoint: Name of the checkpoint.
        sha256: Of its weights, and of all else that decides its logits but ``stats``.
        stats: Inference statistics in force: ``population``, ``batch``, ``tracked-mean``; ``None``
            for a norm without the choice.
        data: The slice.
        data_hash: Of the slice's pixels and labels.
        threat_model: The ball; minimum-norm attacks succeed only inside it. ``WHOLE_BOX`` for a
            common corruption, whatever the suite's is, so that its id does not depend on that.
        attack: Name in the attack registry.
        attack_version: Version of its code; a change of behaviour raises it.
        library: The library or plugin that it comes from, with its version; empty for native code.
        attack_params: Its parameters, every default filled in, as plain JSON values.
        protocol: See ``Protocol``.
        surrogate: The model that it is crafted on under ``transfer`` and ``stats_transfer``.
        adversary: See ``Adversary``; ``joint`` for a model that takes each image alone.
        eot_iter: Draws over which gradients are averaged; 1 for a deterministic model.
        eot: How they are drawn. Left out of the id when ``plain``, so that older ids stay valid.
        batch_size: Images that are attacked and scored together.
        n_draws: Fresh draws that score each image; 1 for a deterministic model.
        search: ``exact`` if the attack sees the model in float32, ``fast`` if in the precision that
            is fastest on the device, with what it finds confirmed in float32. Scoring is always
            exact.
        seed: Of everything random in the cell.
        adaptive: What the attack brings that was made for the defence; ``None``, and left out of
            the id, for any other attack, and for one that follows no gradient.
        y_target: The class that images are to be brought to; ``None``, and left out of the id, for
            an untargeted attack, which wants any wrong class.
    """

    checkpoint: str
    sha256: str
    stats: str | None
    data: DataSpec
    data_hash: str
    threat_model: ThreatModel
    attack: str
    attack_version: int
    library: str = ""
    attack_params: dict[str, Any]
    protocol: Protocol
    surrogate: Surrogate | None = None
    adversary: Adversary = "joint"
    eot_iter: int = Field(default=1, ge=1)
    eot: Eot = "plain"
    batch_size: int = Field(ge=1)
    n_draws: int = Field(ge=1)
    search: Search = "exact"
    seed: int = Field(ge=0)
    adaptive: Adaptive | None = None
    y_target: YTarget | None = None

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = handler(self)
        for name in ("adaptive", "y_target"):
            if getattr(self, name) is None:
                written.pop(name, None)
        return written

    @property
    def cell_id(self) -> str:
        """The first 16 hex digits of the sha256 of this spec's canonical JSON and ``RULES``."""
        plain = {"eot"} if self.eot == "plain" else set()
        return digest(self.model_dump(mode="json", exclude=plain) | {"rules": RULES})


@dataclass(frozen=True)
class CellModel:
    """A model as the rules of cells see it.

    Attributes:
        checkpoint: Its name.
        sha256: Of its weights, and of all else that decides its logits but ``stats``.
        stats: Inference statistics in force; ``None`` for a norm without the choice.
        stochastic: Whether a forward pass draws at random.
        draws_paths: Whether RNA layers draw a path that can be held, enumerated and averaged.
        batch_dependent: Whether the images of a batch share statistics at inference.
        called: The model in an error message.
    """

    checkpoint: str
    sha256: str
    stats: str | None
    stochastic: bool
    draws_paths: bool
    batch_dependent: bool
    called: str

    @property
    def shares_draws(self) -> bool:
        """Whether the images of a pass may share a draw, though no statistics.

        Paths of this project's RNA layers are drawn for each image; how another model draws is not
        known.
        """
        return self.stochastic and not self.draws_paths and not self.batch_dependent


BATCH_SIZE = 128
"""Images that are attacked and scored together, unless that is said."""

CLUSTERS = 12
"""Batches, at least, of a model whose images may share a draw."""


def default_batch_size(n_images: int, *, shared_draws: bool) -> int:
    """Returns how many of n images are attacked and scored together unless that is said.

    Args:
        n_images: At least 1.
        shared_draws: Whether the images of a pass may share a draw, though no statistics: such
            images stand or fall together, so a few large batches would decide nothing.
    """
    return max(1, min(BATCH_SIZE, n_images // CLUSTERS)) if shared_draws else BATCH_SIZE


Aspect = Literal["eot", "eot_iter", "adversary"]


class Manner(Spec):
    """How a model is to be attacked and scored.

    Attributes:
        protocol: See ``Protocol``.
        adversary: For a batch-dependent model.
        eot_iter: Draws over which gradients are averaged, for a stochastic model.
        eot: How they are averaged, for a stochastic model.
        batch_size: Images that are attacked and scored together.
        n_draws: Fresh draws that score each image of a stochastic model.
        search: ``fast`` is for attacks that may search in low precision; others are exact.
        seed: Of everything random.
        asked: The options that were given for this model, and not as a default for many. They are
            refused where the model has no use for them; defaults are ignored there.
        adaptive: What attacks bring; passed over by those that follow no gradient.
        y_target: The class that images are to be brought to; ``None`` for any wrong one.
    """

    protocol: Protocol = "white_box"
    adversary: Adversary = "joint"
    eot_iter: int = Field(default=1, ge=1)
    eot: Eot = "plain"
    batch_size: int = Field(ge=1)
    n_draws: int = Field(ge=1)
    search: Search = "exact"
    seed: int = Field(default=0, ge=0)
    asked: frozenset[Aspect] = frozenset()
    adaptive: Adaptive | None = None
    y_target: YTarget | None = None


class RefusedCellError(UserError):
    """A cell that is not valid and must not be run.

    Args:
        aspect: The part that is to blame: ``protocol``, ``surrogate``, ``adversary``, ``eot``,
            ``eot_iter``, ``gradient_model``, ``y_target`` or ``attack``.
        why: What is wrong with it.
        cell: The identity that the cell would have, by which tables keep its place.
    """

    def __init__(self, aspect: str, why: str, cell: CellSpec | None = None) -> None:
        self.aspect, self.cell = aspect, cell
        super().__init__(why)


WHOLE_BOX = ThreatModel(norm="linf", eps=1.0)
"""Threat model of a cell whose images no ball bounds: linf 1, which holds every image."""


def make_cell(
    model: CellModel,
    attack: AttackInfo,
    data: DataSpec,
    data_hash: str,
    threat_model: ThreatModel,
    manner: Manner,
    source: CellModel | None = None,
) -> CellSpec:
    """Returns the cell of a model under an attack; equal measurements get equal cells.

    Args:
        model: The model that is scored.
        attack: With its parameters filled in.
        data: The slice.
        data_hash: Of the slice's pixels and labels.
        threat_model: The ball.
        manner: How the model is attacked and scored; defaults that do not fit it are ignored.
        source: The model that the attack is crafted on under ``transfer`` and ``stats_transfer``;
            the model itself if ``None``.

    Raises:
        RefusedCellError: When the combination is not valid.
    """
    source = source or model
    protocol, surrogate = _resolve_protocol(manner.protocol, model, source)
    averages = source.stochastic and protocol != "fixed_path"
    eot, eot_iter = averaging(manner.eot, manner.eot_iter if averages else 1)
    adaptive = manner.adaptive if attack.follows_gradient else None
    exact = not attack.may_be_fast or (adaptive is not None and adaptive.exact)
    cell = CellSpec(
        checkpoint=model.checkpoint,
        sha256=model.sha256,
        stats=model.stats,
        data=data,
        data_hash=data_hash,
        threat_model=WHOLE_BOX if attack.kind == "corruption" else threat_model,
        attack=attack.name,
        attack_version=attack.version,
        library=attack.library,
        attack_params=attack.params,
        protocol=protocol,
        surrogate=surrogate,
        adversary=manner.adversary if _shares_batch(model, source) else "joint",
        eot_iter=eot_iter,
        eot=eot if averages else "plain",
        batch_size=manner.batch_size,
        n_draws=manner.n_draws if model.stochastic else 1,
        search="exact" if exact else manner.search,
        seed=manner.seed,
        adaptive=adaptive,
        y_target=manner.y_target,
    )
    for refusal in refusals(manner, model, source, attack):
        raise RefusedCellError(refusal.aspect, str(refusal), cell)
    return cell


def refusals(
    manner: Manner, model: CellModel, source: CellModel, attack: AttackInfo | None = None
) -> Iterator[RefusedCellError]:
    """Yields everything that makes a combination invalid; see ``make_cell``.

    Args:
        manner: How the model is to be attacked and scored.
        model: The model that is scored.
        source: The model that the attack is crafted on, often the same.
        attack: ``None`` judges the models alone.
    """
    if attack is not None and source.batch_dependent and not attack.keeps_batch:
        why = "drops samples from the batch, which changes a batch-dependent model"
        yield RefusedCellError("attack", why)
    paths = "is for models that draw a path at random (rna)"
    if manner.protocol == "fixed_path" and not model.draws_paths:
        why = f"fixed_path {paths}; {model.called} draws none; use white_box"
        yield RefusedCellError("protocol", why)
    if manner.eot != "plain" and source.stochastic and not source.draws_paths:
        yield RefusedCellError(
            "eot", f"{manner.eot} {paths}; {source.called} draws none; use plain"
        )
    own_weights = source.checkpoint == model.checkpoint
    if manner.protocol == "stats_transfer" and own_weights and source.stats == model.stats:
        yield RefusedCellError(
            "surrogate",
            f"crafts and scores under the same statistics ({model.stats}); choose others here or "
            "in stats, or use white_box",
        )
    yield from _refused_draws(manner, source)
    yield from _refused_aids(manner, model, source, attack)
    if attack is not None and manner.y_target is not None:
        why = target_fault(attack, own_loss=manner.adaptive is not None and manner.adaptive.loss)
        if why:
            yield RefusedCellError("y_target", why)
    single = manner.adversary == "single" and "adversary" in manner.asked
    if single and not _shares_batch(model, source):
        yield RefusedCellError(
            "adversary",
            "single is for models whose images share statistics of the batch; "
            f"{model.called} takes each image alone; remove adversary",
        )


def target_fault(attack: AttackInfo, *, own_loss: object = None) -> str:
    """Says why an attack cannot be aimed at a target class; empty if it can.

    Args:
        attack: With its parameters filled in.
        own_loss: A user's loss that it would climb, if any.
    """
    if not attack.takes_target:
        return (
            f"'{attack.name}' cannot be given a target class; fgsm, bim, mim, pgd, cw_linf, apgd, "
            "square and cw take y_target"
        )
    if attack.params.get("loss") == "dlr":
        return (
            f"'{attack.name}' climbs the difference of logits ratio, whose targeted form is that "
            "of apgd_t; give its params loss ce"
        )
    if own_loss:
        return "a loss of one's own says itself what it aims at; remove loss or y_target"
    return ""


def _refused_draws(manner: Manner, source: CellModel) -> Iterator[RefusedCellError]:
    """Yields options about draws where the attack has none."""
    wanted: dict[Aspect, bool] = {"eot_iter": manner.eot_iter > 1, "eot": manner.eot != "plain"}
    for key in (key for key in wanted if wanted[key] and key in manner.asked):
        if not source.stochastic:
            yield RefusedCellError(key, f"{source.called} draws nothing at random; remove {key}")
        elif manner.protocol == "fixed_path":
            yield RefusedCellError(
                key,
                "fixed_path attacks one path, so there is nothing to average; "
                f"remove {key}, or use white_box",
            )


def _refused_aids(
    manner: Manner, model: CellModel, source: CellModel, attack: AttackInfo | None
) -> Iterator[RefusedCellError]:
    """Yields what an adaptive attack brings where it has no meaning."""
    if manner.adaptive is not None:
        elsewhere = _resolve_protocol(manner.protocol, model, source)[1] is not None
        averaged = manner.eot == "mean_field" and source.stochastic
        crafted_on = source.called if elsewhere else ""
        for aspect, why in manner.adaptive.faults(attack, crafted_on, averaged=averaged):
            yield RefusedCellError(aspect, why)


def _resolve_protocol(
    protocol: Protocol, model: CellModel, source: CellModel
) -> tuple[Protocol, Surrogate | None]:
    """Returns the protocol and the surrogate.

    A grid of surrogates and targets has a diagonal on which a model meets its own weights: that is
    ``white_box`` under the same statistics, and ``stats_transfer`` under others.
    """
    if protocol in ("white_box", "fixed_path"):
        return protocol, None
    if protocol == "transfer" and source.checkpoint == model.checkpoint:
        if source.stats == model.stats:
            return "white_box", None
        protocol = "stats_transfer"
    surrogate = Surrogate(checkpoint=source.checkpoint, sha256=source.sha256, stats=source.stats)
    return protocol, surrogate


def _shares_batch(model: CellModel, source: CellModel) -> bool:
    return model.batch_dependent or source.batch_dependent


def averaging(eot: Eot, eot_iter: int) -> tuple[Eot, int]:
    """Returns the canonical ``eot`` and ``eot_iter`` of a cell, so that equal attacks have one id.

    A surrogate's pass has no draws, and over a single draw there is nothing to balance.
    """
    if eot == "mean_field":
        return eot, 1
    return ("plain" if eot_iter == 1 else eot), eot_iter


def check_eot(eot: Eot | None, eot_iter: int | None) -> None:
    """Raises a ``ValueError`` where the mean field is to be attacked with several draws."""
    if eot == "mean_field" and (eot_iter or 1) > 1:
        raise ValueError(
            f"eot mean_field is one pass without draws, found eot_iter {eot_iter}; remove eot_iter"
        )
