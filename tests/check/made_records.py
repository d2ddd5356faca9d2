"""Made-up recordings for tests of the check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.check.record import Record, Recording
from bench.core.cell import CellSpec, DataSpec
from bench.core.checkpoint import CheckpointFacts
from bench.core.threat import ThreatModel


def made_spec(**changes: Any) -> CellSpec:
    """Returns the identity of a made-up cell, with some parts of one's own."""
    fields: dict[str, Any] = {
        "checkpoint": "net",
        "sha256": "a" * 64,
        "stats": None,
        "data": DataSpec(name="made"),
        "data_hash": "d" * 64,
        "threat_model": ThreatModel(eps=0.1),
        "attack": "pgd",
        "attack_version": 1,
        "attack_params": {"n_iter": 20, "alpha": None},
        "protocol": "white_box",
        "batch_size": 50,
        "n_draws": 1,
        "seed": 0,
    }
    return CellSpec(**(fields | changes))


def made_record(
    hits: Sequence[int],
    model: str = "m",
    attack: str = "a",
    alarms: tuple[str, ...] = (),
    cluster: Any = "sample",
    **changes: Any,
) -> Record:
    """Returns the record of a cell with these hits."""
    spec = made_spec(**changes)
    return Record(
        model=model,
        attack=attack,
        spec=spec,
        attack_kind="bounded",
        cluster=cluster,
        index=tuple(range(100, 100 + len(hits))),
        batch=tuple(i // spec.batch_size for i in range(len(hits))),
        hits=tuple(hits),
        alarms=alarms,
    )


def made_facts(**changes: Any) -> CheckpointFacts:
    """Returns what is known of a made-up checkpoint."""
    fields: dict[str, Any] = {
        "arch": "resnet20",
        "norm": "bn",
        "dataset": "made",
        "training": "natural",
        "std": (1.0,),
    }
    return CheckpointFacts(**(fields | changes))


def made_recording(
    *records: Record,
    facts: CheckpointFacts | None = None,
    missing: Mapping[tuple[str, str], str] | None = None,
    versions: tuple[str, ...] = (),
) -> Recording:
    """Returns a recording of these cells."""
    known = {} if facts is None else {record.spec.checkpoint: facts for record in records}
    return Recording(
        suite="made",
        records={record.key: record for record in records},
        missing=missing or {},
        checkpoints=known,
        versions=versions,
        origin="made up",
    )
