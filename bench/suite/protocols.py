"""How the models of a suite are attacked and scored, and what of it is not valid.

The rules that need no suite stand in ``bench.core.cell``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from bench.core.adaptive import Adaptive
from bench.core.attack import AttackInfo
from bench.core.cell import (
    Aspect,
    CellModel,
    Eot,
    Manner,
    Search,
    default_batch_size,
    refusals,
)
from bench.core.checkpoint import ModelFacts
from bench.core.model_spec import size_text
from bench.suite.spec import AttackEntry, ModelEntry, SuiteSpec
from bench.suite.yaml_source import KeyPath, Problem


def manner_of(
    suite: SuiteSpec,
    entry: ModelEntry,
    column: AttackEntry | None,
    models: Iterable[CellModel],
    n_images: int,
    search: Search | None = None,
    adaptive: Adaptive | None = None,
) -> Manner:
    """Returns the manner of a cell: the attack's draws override the model's, those the suite's.

    Args:
        suite: Gives the defaults.
        entry: The model.
        column: The attack; ``None`` for an analysis that attacks nothing.
        models: The model, and the one that attacks are crafted on.
        n_images: Images of the cell, which decide the size of its batches where nothing else does.
        search: In place of the suite's.
        adaptive: What attacks on it bring.
    """
    own = column or AttackEntry(attack="natural")
    shared = any(model.shares_draws for model in models)
    return Manner(
        protocol=entry.protocol,
        adversary=entry.adversary,
        eot_iter=own.eot_iter or entry.eot_iter or suite.eot_iter,
        eot=own.eot or entry.eot or suite.eot,
        batch_size=entry.batch_size
        or suite.batch_size
        or default_batch_size(n_images, shared_draws=shared),
        n_draws=suite.n_draws,
        search=search or suite.search,
        seed=suite.seed,
        adaptive=adaptive,
        y_target=own.y_target,
    )


def check_protocol(
    path: KeyPath,
    entry: ModelEntry,
    models: tuple[CellModel, CellModel] | None,
    adaptive: Adaptive | None = None,
) -> Iterator[Problem]:
    """Yields the problems of a model's protocol, surrogate, draws, adversary and adaptive attacks.

    Args:
        path: The entry's place in the file.
        entry: The model.
        models: The model, and the one that attacks are crafted on; ``None`` while one of them is
            not known.
        adaptive: What attacks on it bring.
    """
    faults = list(_check_surrogate(path, entry))
    yield from faults
    for refusal in refusals(_asked(entry, adaptive), *models) if models else ():
        if refusal.aspect != "surrogate" or not faults:
            yield Problem((*path, refusal.aspect), str(refusal))


def _asked(entry: ModelEntry, adaptive: Adaptive | None) -> Manner:
    """Returns the manner that an entry itself asks for.

    Where ``each`` varies the models, an option may fit only some of them, and is not held against
    the others.
    """
    asked: set[Aspect] = {"eot", "eot_iter", "adversary"}
    if {"checkpoint", "surrogate"} & set(entry.varied):
        asked -= {"adversary"} if entry.protocol == "fixed_path" else asked
    return Manner(
        protocol=entry.protocol,
        adversary=entry.adversary,
        eot_iter=entry.eot_iter or 1,
        eot=entry.eot or "plain",
        batch_size=1,
        n_draws=1,
        asked=frozenset(asked),
        adaptive=adaptive,
    )


def check_adaptive(
    path: KeyPath,
    entry: ModelEntry,
    facts: Mapping[str, ModelFacts],
    attacks: Mapping[int, AttackEntry],
    infos: Mapping[int, AttackInfo],
) -> Iterator[Problem]:
    """Yields a gradient_model that fits no model, and aids that no attack would use.

    Args:
        path: The entry's place in the file.
        entry: The model.
        facts: What is known of checkpoints, by name.
        attacks: The suite's, by position.
        infos: What is known of them, by position.
    """
    own, stand_in = facts.get(entry.checkpoint), facts.get(entry.gradient_model or "")
    if entry.gradient_model == entry.checkpoint:
        yield Problem(
            (*path, "gradient_model"),
            "is the model itself, whose gradients attacks follow anyway; name a differentiable "
            "stand-in for it, or remove gradient_model",
        )
    elif own is not None and stand_in is not None and _input(own) != _input(stand_in):
        words = "{} channel(s), size {}, {} classes"
        yield Problem(
            (*path, "gradient_model"),
            f"expected a model of {words.format(*_input(own))}, as '{entry.checkpoint}' is, found "
            f"{words.format(*_input(stand_in))}",
        )
    keys = [key for key in ("gradient_model", "loss") if getattr(entry, key) is not None]
    met = [infos[j] for j, attack in attacks.items() if j in infos and entry.meets(attack)]
    if keys and met and not any(info.follows_gradient for info in met):
        names = ", ".join(f"'{info.name}'" for info in met)
        yield Problem(
            (*path, keys[0]),
            f"none of its attacks ({names}) follows a gradient; add pgd, or remove {keys[0]}",
        )


def _input(facts: ModelFacts) -> tuple[int, str, int]:
    return facts.spec.channels, size_text(facts.spec.size), facts.spec.classes


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


def check_draws(
    models: Mapping[int, ModelEntry], attacks: Mapping[int, AttackEntry], eot: Eot
) -> Iterator[Problem]:
    """Yields entries whose draws would be passed over, as the mean field is attacked instead.

    Args:
        models: By their position in the file.
        attacks: By their position in the file.
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
