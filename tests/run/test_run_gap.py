"""One failed cell of many leaves a marked gap; the others are all there."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_checkpoints import save
from torch import Tensor
from typer.testing import CliRunner

from bench.attacks import ATTACKS
from bench.attacks.base import Attack
from bench.cli.app import app
from bench.core.spec import Spec
from bench.store.run_store import RunStore

pytestmark = pytest.mark.process

NORMS = {"gn": {"name": "gn", "groups": 4}}
NAMES = ["bn", "in", "gn", "ln", "fixup", "none"]
SUITE = """
suite: gap
data: {{name: "npz:{data}"}}
threat_model: {{norm: linf, eps: 0.1}}
batch_size: 4
convergence_images: 0
sentinel: false
models: [{models}]
attacks: [natural, fgsm, {{attack: pgd, params: {{n_iter: 3, alpha: 0.05}}}}, moody]
"""


class NoParams(Spec):
    """No parameters."""


@pytest.fixture
def moody() -> Iterator[None]:
    """Registers an attack that raises in its second batch of one of the models."""
    met: list[Tensor] = []

    def run(oracle: Any, x: Tensor, y: Tensor, *_: object) -> Tensor:
        logits = oracle.module()(x)
        met.append(logits)
        if len(met) == 6:
            raise RuntimeError("not today")
        return x

    fields = {"kind": "bounded", "norms": ("linf",), "params": NoParams, "summary": "", "url": ""}
    ATTACKS.add("moody", Attack(name="moody", version=1, run=run, passes=lambda p: 1.0, **fields))
    yield
    ATTACKS.remove("moody")


@pytest.mark.usefixtures("moody")
def test_23_of_24_cells_and_a_marked_gap(tmp_path: Path) -> None:
    for seed, norm in enumerate(NAMES):
        save(tmp_path / "checkpoints" / norm, NORMS.get(norm, norm), seed)
    x = np.random.default_rng(0).random((8, 1, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "made.npz", x=x, y=np.arange(8) % 3)
    suite = tmp_path / "gap.yaml"
    suite.write_text(SUITE.format(data=tmp_path / "made.npz", models=", ".join(NAMES)))
    arguments = ["run", str(suite), "--out", str(tmp_path / "out"), "--workers", "1"]
    arguments += ["--checkpoints", str(tmp_path / "checkpoints"), "--device", "cpu"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 3, done.output
    store = RunStore(tmp_path / "out")
    infos = [store.read_cell(cell_id)[0] for cell_id in store.cell_ids()]
    failed = [info for info in infos if not info.complete]
    assert len(infos) == 24 and len(failed) == 1
    assert failed[0].error == "batch 1: moody failed: RuntimeError: not today"
    with (tmp_path / "out" / "leaderboard.csv").open(newline="") as handle:
        lines = list(csv.DictReader(handle))
    gaps = [line for line in lines if line["status"] == "incomplete"]
    assert [(line["model"], line["attack"]) for line in gaps] == [
        (failed[0].spec.checkpoint, "moody")
    ]
    assert "incomplete" in (tmp_path / "out" / "leaderboard.md").read_text()
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 0, "the gap alone is run again, and closes"
