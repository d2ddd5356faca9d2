"""A cell: one model under one attack on one slice of data, and what identifies it."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

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
another model, so what it finds is compared, and scored, on draws of the model itself."""

RULES = 2
"""Version of how x_adv is judged and scored, and of the draws that an attack and a score see; part
of every cell's id. Whatever changes what a row says, and no attack's version tells, raises it."""

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
        index: The images themselves, by position in the split and in this order, in place of all
            of the above but name and split. Written, and part of an id, only where it is given, so
            that the ids of cells from before there was a choice stay as they are.
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
        """How many images it takes; ``None`` for all of the split."""
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
        threat_model: The ball; minimum-norm attacks succeed only inside it.
        attack: Name in the attack registry.
        attack_version: Version of its code; a change of behaviour raises it.
        library: The library or plugin that it comes from, with its version; empty for native code.
        attack_params: Its parameters, every default filled in, as plain JSON values.
        protocol: What the attack may use of the model.
        surrogate: What it is crafted on under ``transfer`` and ``stats_transfer``, else ``None``.
        adversary: What it may perturb of a batch-dependent model's batch.
        eot_iter: Draws over which gradients are averaged; 1 for a deterministic model.
        eot: How they are drawn. Part of the id only if it is not ``plain``, so that the ids of
            cells from before there was a choice stay as they are.
        batch_size: Images that are attacked and scored together.
        n_draws: Fresh draws that score each image; 1 for a deterministic model.
        search: ``exact`` if the attack sees the model in float32, ``fast`` if in the precision that
            is fastest on the device, with what it finds confirmed in float32. Scoring is always
            exact.
        seed: Of everything random in the cell.
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

    @property
    def cell_id(self) -> str:
        """The first 16 hex digits of the sha256 of this spec's canonical JSON and ``RULES``."""
        plain = {"eot"} if self.eot == "plain" else set()
        return digest(self.model_dump(mode="json", exclude=plain) | {"rules": RULES})


def averaging(eot: Eot, eot_iter: int) -> tuple[Eot, int]:
    """Returns ``eot`` and ``eot_iter`` as a cell has them, so that equal attacks have one id.

    A surrogate's pass has no draws, and over a single draw there is nothing to balance.
    """
    if eot == "mean_field":
        return eot, 1
    return ("plain" if eot_iter == 1 else eot), eot_iter
