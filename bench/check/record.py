"""The data that a check compares: the score of every image in every cell, with its identity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.core.cell import CellSpec
from bench.core.checkpoint import CheckpointFacts
from bench.core.errors import UserError
from bench.core.paths import Folder
from bench.core.result import CellInfo, Cluster, Row
from bench.metrics import Estimate, estimate_mean
from bench.metrics.accuracy import robust_scores
from bench.store.manifest import Manifest
from bench.store.run_store import RunStore

Key = tuple[str, str]
"""The labels of a cell's model and attack."""


@dataclass(frozen=True)
class Record:
    """The scores of one cell.

    Attributes:
        model: Label of the model.
        attack: Label of the attack.
        spec: The cell's identity.
        attack_kind: ``none``, ``bounded`` or ``minimum-norm``.
        cluster: The sampling unit: independent images, or batches.
        index: Position of each image in the split (n,), in the order of the batches.
        batch: Batch number of each image (n,).
        hits: Draws on which each image was right (n,), 0 to ``spec.n_draws``.
        alarms: Names of the alarms, sorted, each once.
        passes: Mean number of forward and backward passes per image of the attack.
    """

    model: str
    attack: str
    spec: CellSpec
    attack_kind: str
    cluster: Cluster
    index: tuple[int, ...]
    batch: tuple[int, ...]
    hits: tuple[int, ...]
    alarms: tuple[str, ...] = ()
    passes: float = 0.0

    @property
    def key(self) -> Key:
        """The labels by which cells of two runs are matched."""
        return self.model, self.attack

    @property
    def groups(self) -> tuple[int, ...] | None:
        """The batch of each image; ``None`` if images are independent."""
        return self.batch if self.cluster == "batch" else None

    @property
    def scores(self) -> list[float]:
        """The share of right draws of each image (n,)."""
        return [hits / self.spec.n_draws for hits in self.hits]

    @property
    def accuracy(self) -> Estimate:
        """The robust accuracy."""
        return estimate_mean(self.scores, self.groups)


@dataclass(frozen=True)
class Recording:
    """The data of a whole run.

    Attributes:
        suite: Name of the suite.
        records: Its complete cells, by their labels.
        missing: Why the other cells have no number, one line each.
        checkpoints: Facts about its checkpoints, by name.
        versions: Versions of libraries, such as ``torch 2.8.0``, and the machines; sorted.
        origin: Where it comes from, in a few words.
    """

    suite: str
    records: Mapping[Key, Record]
    missing: Mapping[Key, str] = field(default_factory=dict)
    checkpoints: Mapping[str, CheckpointFacts] = field(default_factory=dict)
    versions: tuple[str, ...] = ()
    origin: str = ""


def read_run(folder: Folder) -> Recording:
    """Reads a run folder.

    Raises:
        UserError: When it is not a run folder, or its store is damaged or of another version.
    """
    store = RunStore(folder)
    manifest = store.read_manifest()
    records: dict[Key, Record] = {}
    missing: dict[Key, str] = {}
    infos: list[CellInfo] = []
    for cell in manifest.cells:
        if cell.refused or cell.cell_id is None:
            continue
        key = (cell.model_label, cell.attack_label)
        if not store.stored(cell.cell_id):
            missing[key] = "not run"
            continue
        info, rows = store.read_cell(cell.cell_id)
        if not info.complete or not rows:
            missing[key] = f"incomplete: {info.error or 'no image was scored'}"
            continue
        records[key] = record_of(key, info, rows)
        infos.append(info)
    missing |= {key: "its checkpoint was missing" for key in _absent(manifest)}
    return Recording(
        suite=str(manifest.suite.get("suite", "")),
        records=records,
        missing=missing,
        checkpoints=manifest.checkpoints,
        versions=_versions(infos),
        origin=str(folder),
    )


def record_of(key: Key, info: CellInfo, rows: Sequence[Row]) -> Record:
    """Returns the record of a complete cell.

    Raises:
        UserError: When a score is not a multiple of 1 / ``n_draws``.
    """
    ordered = sorted(rows, key=lambda row: row.batch)  # stable: images keep their order in each
    draws = info.spec.n_draws
    scaled = [score * draws for score in robust_scores(ordered)]
    hits = [round(value) for value in scaled]
    off = next((v for v, h in zip(scaled, hits, strict=True) if abs(v - h) > 1e-6), None)
    if off is not None:
        raise UserError(
            f"{key[0]} / {key[1]}: expected scores that are shares of {draws} draws, found "
            f"{off / draws:g}; delete the run's folder and run the suite again"
        )
    return Record(
        model=key[0],
        attack=key[1],
        spec=info.spec,
        attack_kind=info.attack_kind,
        cluster=info.cluster,
        index=tuple(row.index for row in ordered),
        batch=tuple(row.batch for row in ordered),
        hits=tuple(hits),
        alarms=alarm_names(info.alarms),
        passes=sum(row.forwards + row.backwards for row in rows) / len(rows),
    )


def alarm_names(alarms: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of alarms, which are stored as ``name: explanation``."""
    return tuple(sorted({alarm.partition(":")[0].strip() for alarm in alarms}))


def _absent(manifest: Manifest) -> list[Key]:
    """Returns the cells of models that were left out because their checkpoint was missing."""
    attacks = manifest.suite.get("attacks")
    entries = attacks if isinstance(attacks, list | tuple) else ()
    labels = [str(one.get("label", "")) for one in entries if isinstance(one, dict)]
    return [(model, label) for model in manifest.absent for label in labels]


def _versions(infos: Sequence[CellInfo]) -> tuple[str, ...]:
    found = {f"{name} {version}" for info in infos for name, version in info.versions.items()}
    return tuple(sorted(found | {info.machine for info in infos}))


def is_run_folder(path: Path) -> bool:
    """Returns whether a local path is a run folder."""
    return (path / "store" / "run.json").is_file()
