"""The analyses of a suite: checked, and planned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.core.analysis import AnalysisAttack, AnalysisKind, AnalysisSpec, Subject
from bench.core.attack import AttackInfo
from bench.core.cell import CellSpec, Manner, make_cell, refusals
from bench.core.errors import did_you_mean
from bench.core.norm_spec import BATCH_STATISTICS, NormSpec
from bench.suite.entry import AnalysisEntry
from bench.suite.protocols import manner_of
from bench.suite.resolve import Found, Parts, ResolvedSuite
from bench.suite.spec import AttackEntry, ModelEntry, repeated_labels
from bench.suite.yaml_source import KeyPath, Problem

CLEAN = AttackInfo(
    name="natural",
    version=1,
    library="",
    params={},
    kind="none",
    keeps_batch=True,
    may_be_fast=False,
    passes_per_image=0.0,
)
"""In place of the attack of an analysis that has none."""


def check_analyses(parts: Parts, found: Found) -> Iterator[Problem]:
    """Yields the problems of a suite's analyses."""
    positions = list(parts.analyses)
    for later, first in repeated_labels(list(parts.analyses.values())):
        yield Problem(
            ("analyses", positions[later], "label"),
            f"'{parts.analyses[positions[later]].label}' is the label of "
            f"analyses[{positions[first]}] too; give this one a label of its own",
        )
    for i, kind in found.analyses.items():
        entry, path = parts.analyses[i], ("analyses", i)
        yield from check_limit(path, entry, found)
        yield from _check_attack(path, entry, kind, parts.attacks)
        chosen: list[tuple[KeyPath, int]] = []
        unnamed = list(_choose(path, entry, parts.models, chosen))
        yield from unnamed
        if not unnamed and len(chosen) < kind.n_models:
            yield Problem(
                (*path, "models"),
                f"{entry.analysis} takes at least {kind.n_models} models, found {len(chosen)}",
            )
        for at, model in chosen:
            yield from _check_model(at, entry, kind, model, parts, found)


def check_limit(
    path: KeyPath, entry: AnalysisEntry | AttackEntry, found: Found
) -> Iterator[Problem]:
    """Yields a problem where an entry asks for more images than the suite has."""
    if entry.limit is not None and found.n_images is not None and entry.limit > found.n_images:
        message = f"the suite's slice has {found.n_images} images, found {entry.limit}"
        yield Problem((*path, "limit"), f"expected at most {found.n_images}: {message}")


def _check_attack(
    path: KeyPath, entry: AnalysisEntry, kind: AnalysisKind, attacks: Mapping[int, AttackEntry]
) -> Iterator[Problem]:
    labels = [attack.label for attack in attacks.values()]
    if kind.attacked and not entry.attack:
        hint = f"; labels: {', '.join(labels)}" if labels else ""
        message = f"{entry.analysis} looks at attacked images; add attack: LABEL{hint}"
        yield Problem(path, message)
    elif entry.attack and not kind.attacked:
        yield Problem((*path, "attack"), f"{entry.analysis} attacks nothing; remove attack")
    elif entry.attack and entry.attack not in labels:
        hint = did_you_mean(entry.attack, labels)
        message = f"no attack of this suite has the label '{entry.attack}'{hint}"
        yield Problem((*path, "attack"), message)


def _choose(
    path: KeyPath,
    entry: AnalysisEntry,
    models: Mapping[int, ModelEntry],
    chosen: list[tuple[KeyPath, int]],
) -> Iterator[Problem]:
    """Finds the positions of an entry's models; adds each with the place where it is named."""
    if not entry.models:
        chosen += [(path, i) for i in models]
    for j, name in enumerate(entry.models):
        at: KeyPath = (*path, "models", j)
        named = [i for i, model in models.items() if model.named(name)]
        if not named:
            hint = did_you_mean(name, [model.label for model in models.values()])
            yield Problem(at, f"no model of this suite has the label '{name}'{hint}")
        for i in named:
            if any(i == other for _, other in chosen):
                yield Problem(at, f"'{models[i].label}' is listed twice; remove one")
            else:
                chosen.append((at, i))


def _check_model(
    at: KeyPath, entry: AnalysisEntry, kind: AnalysisKind, i: int, parts: Parts, found: Found
) -> Iterator[Problem]:
    model = parts.models[i]
    if model.surrogate is not None:
        yield Problem(
            at,
            f"'{model.label}' is attacked through a surrogate ({model.protocol}), and an analysis "
            "looks at a model by itself; list one of protocol white_box or fixed_path",
        )
    for key in ("gradient_model", "loss"):
        if getattr(model, key) is not None:
            yield Problem(
                at,
                f"'{model.label}' is attacked with a {key} of its own, and an analysis looks at a "
                "model by itself; list one without",
            )
    if model.checkpoint not in found.checkpoints:
        return  # reported for the model itself
    norm = found.checkpoints[model.checkpoint].spec.norm
    if not _fits(norm, kind.wants):
        yield Problem(
            at,
            f"{entry.analysis} looks at {_WANTED[kind.wants]}, and '{model.label}' has norm "
            f"{norm.label()}; list other models",
        )
    if kind.wants != "any" and model.adversary == "single":
        yield Problem(
            at,
            f"{entry.analysis} looks at batches that are attacked whole, and '{model.label}' has "
            "adversary single; list one with adversary joint",
        )
    if i not in found.models:
        return  # reported for the model itself
    labels = {a.label: j for j, a in parts.attacks.items() if kind.attacked}
    crafts = labels.get(entry.attack, -1)
    eot = parts.attacks[crafts].eot if crafts in parts.attacks else None
    manner = Manner(eot=eot or model.eot or parts.eot, batch_size=1, n_draws=1)
    for refusal in refusals(manner, *found.models[i], found.attacks.get(crafts)):
        what = f"attack '{entry.attack}'" if refusal.aspect == "attack" else f"{refusal.aspect}:"
        yield Problem(at, f"'{model.label}': {what} {refusal}")


_WANTED = {
    "tracked": "layers that track statistics (bn, bgn, rn)",
    "paths": "paths that are drawn layer by layer (rna with scope layer)",
}


def _fits(norm: NormSpec, wants: Literal["any", "tracked", "paths"]) -> bool:
    if wants == "tracked":
        return norm.name in BATCH_STATISTICS
    return wants == "any" or (norm.draws_paths and norm.scope == "layer")


@dataclass(frozen=True)
class PlannedAnalysis:
    """An analysis that may be run.

    Attributes:
        index: Position in the suite's analyses.
        label: Its name in reports.
        models: Labels of its subjects, in the order of ``spec.subjects``.
        spec: The analysis.
        n_images: Images in its slice.
        passes: Estimated forward plus backward passes over single images; ``None`` if unknown.
    """

    index: int
    label: str
    models: tuple[str, ...]
    spec: AnalysisSpec
    n_images: int
    passes: float | None

    @property
    def analysis_id(self) -> str:
        """The id of ``spec``."""
        return self.spec.analysis_id


def plan_analyses(suite: ResolvedSuite) -> tuple[PlannedAnalysis, ...]:
    """Plans the analyses of a suite.

    An analysis is left out if too few of its models have their checkpoint here.
    """
    planned = (_planned(i, suite) for i in range(len(suite.analyses)))
    return tuple(one for one in planned if one is not None)


def _planned(index: int, suite: ResolvedSuite) -> PlannedAnalysis | None:
    spec, kind = suite.spec, suite.analyses[index]
    entry = spec.analyses[index]
    here = {i: model for i, model in enumerate(spec.models) if i not in suite.absent}
    named = [i for name in entry.models for i, model in here.items() if model.named(name)]
    chosen = named if entry.models else list(here)
    if len(chosen) < max(kind.n_models, 1):
        return None
    crafts = next((j for j, a in enumerate(spec.attacks) if a.label == entry.attack), None)
    attack = CLEAN if crafts is None else suite.attacks[crafts]
    column = None if crafts is None else spec.attacks[crafts]
    data = spec.data if entry.limit is None else spec.data.first(entry.limit)
    images = suite.images(data)
    cells = [
        make_cell(
            suite.models[i][0],
            attack,
            data,
            images.sha256,
            column.threat_model(spec.threat_model) if column else spec.threat_model,
            manner_of(spec, here[i], column, suite.models[i], images.n_images, "exact"),
        )
        for i in chosen
    ]
    made = AnalysisSpec(
        analysis=entry.analysis,
        version=kind.version,
        params=kind.params,
        subjects=tuple(map(Subject.of, cells)),
        data=data,
        data_hash=images.sha256,
        threat_model=cells[0].threat_model,
        attack=AnalysisAttack.of(cells[0]) if column else None,
        seed=spec.seed,
    )
    labels = tuple(here[i].label for i in chosen)
    estimate = _passes(kind, attack, cells, images.n_images)
    return PlannedAnalysis(index, entry.label, labels, made, images.n_images, estimate)


def _passes(
    kind: AnalysisKind, attack: AttackInfo, cells: Sequence[CellSpec], n_images: int
) -> float | None:
    """Estimates passes; a single adversary pays for its whole batch while crafting."""
    if attack.passes_per_image is None:
        return None
    total = 0.0
    for cell in cells:
        crafting = min(cell.batch_size, n_images) if cell.adversary == "single" else 1
        attacking = attack.passes_per_image * crafting * kind.attack_runs
        total += cell.eot_iter * (attacking + kind.passes_per_image)
        total += cell.n_draws * kind.scores
    return n_images * total
