"""Makes the manifest of a run folder anew: from its stored cells, or from its edited suite."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from bench.core.cell import CellSpec
from bench.core.errors import UserError
from bench.core.paths import suite_called
from bench.core.spec import canonical_json
from bench.core.threat import ThreatModel
from bench.store.manifest import Manifest, ManifestAnalysis, ManifestCell
from bench.suite.grid import attack_label, model_label
from bench.suite.spec import AttackEntry, ModelEntry, SuiteSpec
from bench.untrusted.spec_file import check_spec


def rebuild_manifest(specs: Sequence[CellSpec], name: str) -> Manifest:
    """Returns a manifest of stored cells, with default labels and one leaderboard.

    Labels, titles, reports and refused cells of the suite are lost. Cells on other images than
    most, such as those of convergence sweeps, are left out.

    Args:
        specs: The cells, each id once.
        name: The suite's name.

    Raises:
        UserError: When there is no cell, or the cells do not make a suite.
    """
    if not specs:
        raise UserError("no cell is stored, so that there is nothing to rebuild a manifest from")
    most = Counter(map(_common, specs)).most_common(1)[0][0]
    kept = sorted(
        (spec for spec in specs if _common(spec) == most),
        key=lambda spec: (spec.checkpoint, canonical_json(_model(spec)), spec.attack, spec.cell_id),
    )
    first = kept[0]
    balls = dict.fromkeys(spec.threat_model for spec in kept if spec.attack != "natural")
    several = len(balls) > 1
    models, rows = _entries(kept, _model, model_label)
    attacks, columns = _entries(
        kept, lambda spec: _attack(spec, first.threat_model, eps=several), attack_label
    )
    suite = check_spec(
        {
            "suite": name,
            "title": f"{name}, rebuilt from stored cells",
            "data": first.data.model_dump(mode="json"),
            "threat_model": first.threat_model.model_dump(mode="json"),
            "union": _union(balls, first.threat_model),
            "batch_size": first.batch_size,
            "n_draws": max(spec.n_draws for spec in kept),
            "seed": first.seed,
            "models": models,
            "attacks": attacks,
            "reports": [{"kind": "leaderboard"}],
        },
        SuiteSpec,
        "the suite of the stored cells",
    )
    cells = [
        ManifestCell(
            model_index=row,
            attack_index=column,
            model_label=suite.models[row].label,
            attack_label=suite.attacks[column].label,
            cell_id=spec.cell_id,
        )
        for spec, row, column in zip(kept, rows, columns, strict=True)
    ]
    cells.sort(key=lambda cell: (cell.model_index, cell.attack_index))
    return Manifest(suite=suite.model_dump(mode="json"), cells=tuple(cells))


WORDS = frozenset({"label", "series", "varied", "published", "attacks"})
"""Keys of an entry that decide no number."""

FRAME = frozenset({"title", "description", "models", "attacks", "analyses", "reports"})
"""Keys of a suite that are words too, or are compared entry by entry."""


def edited_manifest(manifest: Manifest, suite: SuiteSpec) -> Manifest:
    """Returns a run's manifest in the words of its edited suite.

    Labels, titles, order, reports and published rows may have changed; entries may be gone.

    Args:
        manifest: Of the run.
        suite: The suite as it is now.

    Raises:
        UserError: When the suite asks for anything that the run was not planned to measure.
    """
    old = check_spec(manifest.suite, SuiteSpec, "the suite of the run")
    if old.search == "exact":  # --exact asks for it, whatever the suite says
        suite = suite.model_copy(update={"search": "exact"})
    _refuse_other_frame(old, suite)
    models = _places(
        suite, "models", [_key(m) for m in old.models], [_key(m) for m in suite.models]
    )
    attacks = _places(
        suite, "attacks", [_key(a) for a in old.attacks], [_key(a) for a in suite.attacks]
    )
    analyses = _places(suite, "analyses", _analysis_keys(old), _analysis_keys(suite))
    before = {suite.models[i].label: old.models[place].label for i, place in enumerate(models)}
    absent = {
        label: manifest.absent[was] for label, was in before.items() if was in manifest.absent
    }
    here = [i for i, model in enumerate(suite.models) if model.label not in absent]
    return manifest.model_copy(
        update={
            "suite": suite.model_dump(mode="json"),
            "cells": tuple(_edited_cells(manifest, suite, {i: models[i] for i in here}, attacks)),
            "analyses": tuple(_edited_analyses(manifest, suite, before, analyses)),
            "absent": absent,
        }
    )


def _edited_cells(
    manifest: Manifest, suite: SuiteSpec, models: Mapping[int, int], attacks: Sequence[int]
) -> Iterator[ManifestCell]:
    """Yields the cells of an edited suite; models and attacks are mapped to their old places."""
    planned = {(cell.model_index, cell.attack_index): cell for cell in manifest.cells}
    for i, place in models.items():
        model = suite.models[i]
        for j, attack in enumerate(suite.attacks):
            if not model.meets(attack):
                continue
            cell = planned.get((place, attacks[j]))
            if cell is None:
                raise _not_planned(suite, f"'{model.label}' under '{attack.label}'")
            labels = {"model_label": model.label, "attack_label": attack.label}
            yield cell.model_copy(update={**labels, "model_index": i, "attack_index": j})


def _edited_analyses(
    manifest: Manifest, suite: SuiteSpec, before: Mapping[str, str], places: Sequence[int]
) -> Iterator[ManifestAnalysis]:
    """Yields the analyses of an edited suite; ``before`` has each model's old label."""
    now = {was: label for label, was in before.items()}
    planned = {one.index: one for one in manifest.analyses}
    for i, place in enumerate(places):
        if place in planned:  # it is not where too few checkpoints were here
            named = tuple(now.get(label, label) for label in planned[place].models)
            words = {"index": i, "label": suite.analyses[i].label, "models": named}
            yield planned[place].model_copy(update=words)


def _refuse_other_frame(old: SuiteSpec, suite: SuiteSpec) -> None:
    """Raises ``UserError`` where a suite measures everything otherwise than a run did."""
    if old.suite != suite.suite:
        raise UserError(f"the run is one of suite '{old.suite}', found suite '{suite.suite}'")
    before, now = old.model_dump(mode="json"), suite.model_dump(mode="json")
    for key in {**before, **now}:
        if key not in FRAME and before.get(key) != now.get(key):
            raise _not_planned(suite, _changed(key, before.get(key), now.get(key)))


def _changed(key: str, before: object, now: object) -> str:
    """Describes the first change of a value, of a part of it where it has parts."""
    if isinstance(before, dict) and isinstance(now, dict):
        part = next(k for k in {**before, **now} if before.get(k) != now.get(k))
        return _changed(f"{key}.{part}", before.get(part), now.get(part))
    return f"{key} {_short(now)} in place of {_short(before)}"


def _short(value: object) -> str:
    text = value if isinstance(value, str) else canonical_json(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _key(entry: ModelEntry | AttackEntry) -> str:
    """Returns what an entry measures, apart from its words."""
    return canonical_json(entry.model_dump(mode="json", exclude=set(WORDS)))


def _analysis_keys(suite: SuiteSpec) -> list[str]:
    """Returns what each analysis measures, with models and attack by what they are."""
    attacks = {attack.label: _key(attack) for attack in suite.attacks}
    keys = []
    for one in suite.analyses:
        named = [m for name in one.models for m in suite.models if m.named(name)]
        chosen = named if one.models else suite.models
        own = one.model_dump(mode="json", exclude={"label", "models", "attack"})
        keys.append(canonical_json([own, attacks.get(one.attack), [_key(m) for m in chosen]]))
    return keys


def _places(suite: SuiteSpec, what: str, old: Sequence[str], new: Sequence[str]) -> list[int]:
    """Returns the position among a run's entries of each entry of the edited suite."""
    for i, key in enumerate(new):
        if key not in old:
            label = getattr(suite, what)[i].label
            raise _not_planned(suite, f"'{label}' of its {what} as it is written there")
    return [old.index(key) for key in new]


def _not_planned(suite: SuiteSpec, what: str) -> UserError:
    name = suite_called(suite.suite) or "FILE"
    return UserError(
        f"suite '{suite.suite}' asks for {what}, which this run has not measured: labels, titles, "
        f"order, reports and 'published' may change without a new run; run the rest with "
        f"rbench run {name}"
    )


def _common(spec: CellSpec) -> Hashable:
    """Returns the settings that all cells of a suite share."""
    return canonical_json([spec.data.model_dump(mode="json"), spec.seed])


def _union(balls: Iterable[ThreatModel], own: ThreatModel) -> list[dict[str, Any]]:
    """Returns the largest ball of every other norm than the suite's own."""
    largest: dict[str, ThreatModel] = {}
    for ball in balls:
        if ball.norm != own.norm and ball.eps >= largest.get(ball.norm, ball).eps:
            largest[ball.norm] = ball
    return [ball.model_dump(mode="json") for ball in largest.values()]


def _model(spec: CellSpec) -> dict[str, Any]:
    """Returns the entry of a cell's model."""
    entry: dict[str, Any] = {"checkpoint": spec.checkpoint, "batch_size": spec.batch_size}
    entry |= {"stats": spec.stats, "protocol": spec.protocol, "adversary": spec.adversary}
    if spec.eot_iter > 1 or spec.eot != "plain":
        entry |= {"eot_iter": spec.eot_iter, "eot": spec.eot}
    if spec.surrogate is not None:
        named = {"checkpoint": spec.surrogate.checkpoint} if spec.protocol == "transfer" else {}
        entry["surrogate"] = {**named, "stats": spec.surrogate.stats}
    if (aids := spec.adaptive) is not None:
        entry["gradient_model"] = aids.gradient_model and aids.gradient_model.name
        entry["loss"] = aids.loss and aids.loss.name
    return {key: value for key, value in entry.items() if value is not None}


def _attack(spec: CellSpec, suite: ThreatModel, *, eps: bool) -> dict[str, Any]:
    """Returns the entry of a cell's attack, with a ball of its own where they differ."""
    ball = spec.threat_model
    own: dict[str, Any] = {"eps": ball.eps} if eps and spec.attack != "natural" else {}
    if own and ball.norm != suite.norm:
        own["norm"] = ball.norm
    if spec.y_target is not None:
        own["y_target"] = spec.model_dump(mode="json")["y_target"]
    return {"attack": spec.attack, "params": spec.attack_params, **own}


def _entries(
    specs: Iterable[CellSpec],
    entry_of: Callable[[CellSpec], dict[str, Any]],
    label_of: Callable[[dict[str, Any]], str],
) -> tuple[list[dict[str, Any]], list[int]]:
    """Returns the different entries, each with a label of its own, and each cell's place there."""
    found: dict[str, dict[str, Any]] = {}
    places: list[int] = []
    taken: Counter[str] = Counter()
    for spec in specs:
        entry = entry_of(spec)
        key = canonical_json(entry)
        if key not in found:
            label = label_of(entry)
            taken[label] += 1
            suffix = f" #{taken[label]}" if taken[label] > 1 else ""
            found[key] = {**entry, "label": label + suffix}
        places.append(list(found).index(key))
    return list(found.values()), places
