"""Which protocol, surrogate, draws and adversary go together, and with which models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bench.core.cell import Eot
from bench.core.errors import UserError
from bench.core.norm_spec import NormSpec
from bench.suite.catalog import CheckpointInfo
from bench.suite.spec import AttackEntry, ModelEntry, norm_in_force
from bench.suite.yaml_source import KeyPath, Problem


def check_protocol(
    path: KeyPath, entry: ModelEntry, card: CheckpointInfo | None, source: CheckpointInfo | None
) -> Iterator[Problem]:
    """Yields what is wrong with how a model is to be attacked.

    Args:
        path: The entry's place in the file.
        entry: The model.
        card: Of its checkpoint; ``None`` where it is not known.
        source: Of the checkpoint that attacks are crafted on; ``None`` where it is not known.
    """
    yield from _check_surrogate(path, entry)
    norm = source_norm = None
    if card is not None:
        try:
            norm = entry.norm_in_force(card.norm)
        except UserError as error:
            yield Problem((*path, "stats"), str(error))
    if source is not None:
        try:
            stats = entry.surrogate.stats if entry.surrogate else entry.stats
            source_norm = norm_in_force(source.norm, stats)
        except UserError as error:
            if entry.surrogate:
                yield Problem((*path, "surrogate", "stats"), str(error))
    if norm is not None and source_norm is not None:
        yield from _check_norms(path, entry, norm, source_norm)


def _check_surrogate(path: KeyPath, entry: ModelEntry) -> Iterator[Problem]:
    """Finds a surrogate without the protocol for it, and the reverse."""
    surrogate = entry.surrogate
    at: KeyPath = (*path, "surrogate")
    if entry.protocol == "transfer":
        if surrogate is None or not surrogate.checkpoint:
            yield Problem(
                at if surrogate else (*path, "protocol"),
                "transfer needs the checkpoint to craft on; add for example surrogate: NAME",
            )
    elif entry.protocol == "stats_transfer":
        if surrogate is None or surrogate.stats is None:
            yield Problem(
                at if surrogate else (*path, "protocol"),
                "stats_transfer needs the statistics to craft under; add for example "
                "surrogate: {stats: population}",
            )
        elif entry.source_checkpoint != entry.checkpoint:
            yield Problem(
                (*at, "checkpoint"),
                "stats_transfer crafts on the same weights; remove checkpoint, or use transfer",
            )
    elif surrogate is not None:
        yield Problem(
            at,
            f"a surrogate is for transfer and stats_transfer, found protocol {entry.protocol}; "
            "remove it or change protocol",
        )


def _check_norms(
    path: KeyPath, entry: ModelEntry, norm: NormSpec, source: NormSpec
) -> Iterator[Problem]:
    """Finds what the norms in force have no use for."""
    named = f"'{entry.checkpoint}' ({norm.label()})"
    if entry.protocol == "fixed_path" and not norm.draws_paths:
        yield Problem(
            (*path, "protocol"),
            f"fixed_path is for models that draw a path at random (rna); {named} draws none; use "
            "white_box",
        )
    if (entry.eot or "plain") != "plain" and source.stochastic and not source.draws_paths:
        yield Problem(
            (*path, "eot"),
            f"{entry.eot} is for layers that draw a path at random (rna), and "
            f"'{entry.source_checkpoint}' has none; use plain",
        )
    same = entry.surrogate is not None and entry.surrogate.stats == norm.inference_stats
    if entry.protocol == "stats_transfer" and same and entry.source_checkpoint == entry.checkpoint:
        yield Problem(
            (*path, "surrogate"),
            f"crafts and scores under the same statistics ({norm.inference_stats}); choose others "
            "here or in stats, or use white_box",
        )
    mixed = bool({"checkpoint", "surrogate"} & set(entry.varied))  # what fits some of them may stay
    for key in _about_draws(entry):
        if not source.stochastic and mixed:
            continue
        if not source.stochastic:
            attacked = f"'{entry.source_checkpoint}' ({source.label()})"
            yield Problem((*path, key), f"{attacked} draws nothing at random; remove {key}")
        elif entry.protocol == "fixed_path":
            yield Problem(
                (*path, key),
                f"fixed_path attacks one path, so there is nothing to average; remove {key}, or "
                "use white_box",
            )
    alone = not (norm.batch_dependent or source.batch_dependent)
    if entry.adversary == "single" and alone and not mixed:
        yield Problem(
            (*path, "adversary"),
            f"single is for models whose images share statistics of the batch; {named} takes each "
            "image alone; remove adversary",
        )


def _about_draws(entry: ModelEntry) -> Iterator[str]:
    """Yields the keys by which an entry asks for an average over draws."""
    if (entry.eot_iter or 1) > 1:
        yield "eot_iter"
    if (entry.eot or "plain") != "plain":
        yield "eot"


def check_draws(
    models: Mapping[int, ModelEntry], attacks: Mapping[int, AttackEntry], eot: Eot
) -> Iterator[Problem]:
    """Yields entries whose draws would be passed over, as the mean field is attacked instead.

    Args:
        models: By their position in the file.
        attacks: Likewise.
        eot: The suite's.
    """
    remedy = "remove eot_iter, or add eot: plain or eot: stratified here"
    for i, model in models.items():
        if eot == "mean_field" and model.eot is None and (model.eot_iter or 1) > 1:
            yield Problem(
                ("models", i, "eot_iter"),
                f"the suite's eot is mean_field, one pass without draws; {remedy}",
            )
    for i, attack in attacks.items():
        met = [model for model in models.values() if model.meets(attack)]
        through = [m.label for m in met if (m.eot or eot) == "mean_field"]
        if attack.eot is None and (attack.eot_iter or 1) > 1 and through:
            yield Problem(
                ("attacks", i, "eot_iter"),
                f"'{through[0]}' is attacked with eot mean_field, one pass without draws; {remedy}",
            )
