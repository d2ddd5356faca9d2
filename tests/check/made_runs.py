"""Made-up run folders for tests of the check."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from made_records import made_facts

from bench.check.record import Key, Record
from bench.core.result import CellInfo, Row
from bench.store.manifest import Manifest, ManifestCell
from bench.store.run_store import RunStore


def write_run(
    folder: Path,
    *records: Record,
    missing: Mapping[Key, Record] | None = None,
    suite: str = "made",
    torch: str = "2.8.0",
) -> Path:
    """Writes the run folder of these cells; those of ``missing`` are planned and were not run."""
    missing = missing or {}
    store = RunStore(folder)
    planned = [*records, *missing.values()]
    models = list(dict.fromkeys(record.model for record in planned))
    attacks = list(dict.fromkeys(record.attack for record in planned))
    cells = tuple(
        ManifestCell(
            model_index=models.index(record.model),
            attack_index=attacks.index(record.attack),
            model_label=record.model,
            attack_label=record.attack,
            cell_id=record.spec.cell_id,
        )
        for record in planned
    )
    store.write_manifest(
        Manifest(
            suite={"suite": suite},
            cells=cells,
            checkpoints={record.spec.checkpoint: made_facts() for record in planned},
        )
    )
    for record in records:
        store.write_cell(_info(record, torch), _rows(record))
    return folder


def _info(record: Record, torch: str) -> CellInfo:
    return CellInfo(
        cell_id=record.spec.cell_id,
        spec=record.spec,
        complete=True,
        attack_kind="bounded",
        cluster=record.cluster,
        alarms=tuple(f"{name}: found in a test" for name in record.alarms),
        seconds=1.0,
        machine="cpu, 1 thread",
        versions={"torch": torch},
        date="2026-01-01T00:00:00Z",
    )


def _rows(record: Record) -> list[Row]:
    scores = zip(record.index, record.batch, record.scores, strict=True)
    return [
        Row(
            index=index,
            label=1,
            clean_pred=1,
            clean_correct=1.0,
            adv_pred=1 if score > 0.5 else 2,
            adv_correct=score,
            robust=score,
            played="adv",
            linf=0.1,
            l2=1.0,
            status="ok",
            batch=batch,
            forwards=21.0,
            backwards=20.0,
        )
        for index, batch, score in scores
    ]
