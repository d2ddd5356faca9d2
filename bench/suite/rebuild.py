"""Rebuilds the manifest of a run folder from its stored cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from bench.core.cell import CellSpec
from bench.core.errors import UserError
from bench.core.spec import canonical_json
from bench.store.manifest import Manifest, ManifestCell
from bench.suite.grid import attack_label, model_label
from bench.suite.spec import SuiteSpec
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
    several = len({spec.threat_model.eps for spec in kept}) > 1
    models, rows = _entries(kept, _model, model_label)
    attacks, columns = _entries(kept, lambda spec: _attack(spec, eps=several), attack_label)
    first = kept[0]
    suite = check_spec(
        {
            "suite": name,
            "title": f"{name}, rebuilt from stored cells",
            "data": first.data.model_dump(mode="json"),
            "threat_model": first.threat_model.model_dump(mode="json"),
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


def _common(spec: CellSpec) -> Hashable:
    """Returns the settings that all cells of a suite share."""
    return canonical_json([spec.data.model_dump(mode="json"), spec.threat_model.norm, spec.seed])


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


def _attack(spec: CellSpec, *, eps: bool) -> dict[str, Any]:
    """Returns the entry of a cell's attack, with an eps of its own where they differ."""
    own = {"eps": spec.threat_model.eps} if eps and spec.attack != "natural" else {}
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
