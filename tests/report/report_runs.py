"""Builds small runs row by row, for every report to read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.core.cell import CellSpec, DataSpec, Surrogate
from bench.core.checkpoint import CheckpointFacts
from bench.core.result import CellInfo, Row
from bench.core.threat import ThreatModel
from bench.store.manifest import Manifest, ManifestCell
from bench.store.run_store import RunStore
from bench.suite.grid import write_out
from bench.suite.spec import AttackEntry

HOSTILE = r"<script>alert(1)</script> | \input{x} %_&# [a](b) $x^2~ `c` **d**"
N = 16
KINDS = {
    "clean": "none",
    "natural": "none",
    "corruption": "corruption",
    "pgd": "bounded",
    "deepfool": "minimum-norm",
    "autoattack": "bounded",
}


def make_rows(scores: Sequence[float | None], clean: float = 1.0) -> list[Row]:
    """Rows of one score each; in batches of 4, distances that grow with the index."""
    return [
        Row(
            index=100 + i,
            label=3,
            clean_pred=3,
            clean_correct=clean,
            adv_pred=3 if score is not None and score > 0.5 else 7,
            adv_correct=score,
            robust=score,
            played="adv",
            linf=0.01 * (i + 1),
            l2=0.25 * (i + 1),
            status="ok" if score is not None else "out_of_ball",
            batch=i // 4,
            forwards=21.0,
            backwards=20.0,
        )
        for i, score in enumerate(scores)
    ]


def facts_of(checkpoint: str) -> CheckpointFacts:
    """What a card would say, from a name such as ``fmnist-resnet20-rna-at``."""
    _, arch, norm, *rest = checkpoint.split("-")
    training = ("black-box" if norm == "rna" else "adversarial") if "at" in rest else "natural"
    power = next((int(word[1:]) / 10 for word in rest if word[0] == "p"), 0.2)
    specs: dict[str, dict[str, Any]] = {
        "bn": {"name": "bn"},
        "in": {"name": "in"},
        "rn": {"name": "rn", "power": power},
    }
    return CheckpointFacts(
        arch=arch,
        norm=norm,
        norm_spec=specs.get(norm, {}),
        dataset="fashion-mnist",
        training=training,
        std=(0.3081,),
    )


class RunBuilder:
    """Writes a run's store: a suite of models and attacks, then cells at will."""

    def __init__(self, folder: Path, suite: dict[str, Any]) -> None:
        self.folder, self.suite, self.store = folder, suite, RunStore(folder)
        self._cells: dict[tuple[int, int], ManifestCell] = {}
        names = sorted({model["checkpoint"] for model in suite["models"]})
        self.facts = {name: facts_of(name) for name in names}
        for i in range(len(suite["models"])):
            for j in range(len(suite["attacks"])):
                self.plan(i, j)

    def spec(self, model: int, attack: int) -> CellSpec:
        entry, column = self.suite["models"][model], self.suite["attacks"][attack]
        surrogate, protocol = self.surrogate(entry), entry.get("protocol", "white_box")
        if protocol == "transfer" and surrogate and surrogate.checkpoint == entry["checkpoint"]:
            surrogate, protocol = None, "white_box"
        threat = {**self.suite["threat_model"]}
        threat |= {key: column[key] for key in ("norm", "eps") if key in column}
        return CellSpec(
            checkpoint=entry["checkpoint"],
            sha256=f"{model:x}" * 64,
            stats=entry.get("stats"),
            data=AttackEntry.model_validate(column).slice_of(
                DataSpec.model_validate(self.suite["data"])
            ),
            data_hash="0123",
            threat_model=ThreatModel.model_validate(threat),
            attack=column["attack"],
            attack_version=1,
            attack_params=column.get("params", {}),
            protocol=protocol,
            surrogate=surrogate,
            adversary=entry.get("adversary", "joint"),
            eot_iter=column.get("eot_iter", entry.get("eot_iter", 1)),
            batch_size=entry.get("batch_size", 4),
            n_draws=20 if "rna" in entry["checkpoint"] else 1,
            seed=0,
        )

    @staticmethod
    def surrogate(entry: dict[str, Any]) -> Surrogate | None:
        if "surrogate" not in entry:
            return None
        named = entry["surrogate"]
        named = {"checkpoint": named} if isinstance(named, str) else named
        given = {"checkpoint": entry["checkpoint"], "stats": None, **named}
        return Surrogate(sha256="e" * 64, **given)

    def plan(self, model: int, attack: int, refused: str = "") -> None:
        self._cells[model, attack] = ManifestCell(
            model_index=model,
            attack_index=attack,
            model_label=self.suite["models"][model]["label"],
            attack_label=self.suite["attacks"][attack]["label"],
            cell_id=self.spec(model, attack).cell_id,
            refused=refused,
        )

    def add(self, model: int, attack: int, rows: Sequence[Row], **changes: Any) -> None:
        spec = self.spec(model, attack)
        clustered = spec.stats == "batch" or spec.protocol == "fixed_path"
        fields: dict[str, Any] = {
            "cell_id": spec.cell_id,
            "spec": spec,
            "complete": True,
            "attack_kind": KINDS[spec.attack],
            "cluster": "batch" if clustered else "sample",
            "seconds": 1.0,
            "machine": "cpu, 2 threads",
            "versions": {"python": "3.11.7", "torch": "2.8.0"},
            "date": f"2026-01-0{attack + 1}T10:00:00Z",
        }
        self.store.write_cell(CellInfo(**{**fields, **changes}), rows)

    def finish(self) -> Path:
        cells = tuple(self._cells[place] for place in sorted(self._cells))
        self.store.write_manifest(Manifest(suite=self.suite, cells=cells, checkpoints=self.facts))
        return self.folder


def written_out(suite: dict[str, Any]) -> dict[str, Any]:
    """A suite as ``rbench run`` stores it, with every ``each`` written out."""
    grid = write_out(suite)
    assert not grid.problems
    return grid.value


def suite_of(reports: list[Any], models: list[Any], attacks: list[Any], **more: Any) -> Any:
    return {
        "suite": "small",
        "title": "A small run",
        "description": "Made by hand.",
        "data": {"name": "fashion-mnist", "limit": N, "seed": 0, "stratified": True},
        "threat_model": {"norm": "linf", "eps": 0.1},
        "models": models,
        "attacks": attacks,
        "reports": reports,
        **more,
    }


ATTACKS = [
    {"attack": "clean", "label": "natural", "published": "natural"},
    {"attack": "pgd", "label": "pgd20", "params": {"n_iter": 20}, "published": "pgd20"},
    {"attack": "deepfool", "label": "deepfool", "published": "deepfool"},
    {"attack": "autoattack", "label": "autoattack", "published": "autoattack"},
]
