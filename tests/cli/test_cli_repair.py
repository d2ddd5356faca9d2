"""A run folder that has lost its manifest is read again; what is damaged is named."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from bench.cli.app import app
from bench.core.errors import UserError
from bench.core.model_spec import ModelSpec
from bench.models import build_model
from bench.zoo import Card, CleanAccuracy, save_checkpoint

SUITE = """
suite: lost
data: {{name: "npz:{data}"}}
threat_model: {{norm: linf, eps: 0.1}}
batch_size: 5
models: [first, {{checkpoint: first, stats: batch, batch_size: 10, label: mine}},
  {{checkpoint: first, protocol: transfer, surrogate: second}}]
attacks: [natural, {{attack: pgd, params: {{n_iter: 2, alpha: 0.03}}}},
  {{attack: pgd, label: wide, eps: 0.2, params: {{n_iter: 2, alpha: 0.03}}}}]
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run of 9 cells and some of convergence sweeps."""
    for seed, name in enumerate(("first", "second")):
        fields = {"arch": "resnet20", "channels": 1, "size": 8, "classes": 3, "norm": "bn"}
        spec = ModelSpec.model_validate({**fields, "mean": [0.5], "std": [0.5]})
        model = build_model(spec, seed=seed)
        accuracy = CleanAccuracy(value=0.3, n=1, split="made")
        card = Card(
            name=name,
            model=spec,
            dataset="made",
            training="none",
            clean_accuracy=accuracy,
            versions={"torch": torch.__version__},
            sha256="0" * 64,
        )
        save_checkpoint(tmp_path / "checkpoints" / name, model.net, card)
    x = np.random.default_rng(0).random((40, 1, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "made.npz", x=x, y=np.arange(40) % 3)
    (tmp_path / "suite.yaml").write_text(SUITE.format(data=tmp_path / "made.npz"))
    out = tmp_path / "Lost run"
    arguments = ["run", str(tmp_path / "suite.yaml"), "--out", str(out), "--workers", "1"]
    arguments += ["--checkpoints", str(tmp_path / "checkpoints"), "--device", "cpu"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return out


def numbers(out: Path) -> list[tuple[str, ...]]:
    with (out / "leaderboard.csv").open(newline="") as handle:
        wanted = ("value", "low", "high", "n", "protocol", "status")
        lines = [line for line in csv.DictReader(handle) if line["status"]]
        return sorted(tuple(line[name] for name in wanted) for line in lines)


@pytest.mark.process
def test_a_lost_manifest_is_rebuilt_and_the_numbers_are_the_same(run: Path) -> None:
    before = numbers(run)
    (run / "store" / "run.json").write_text("{")
    assert isinstance(CliRunner().invoke(app, ["report", str(run)]).exception, UserError)
    done = CliRunner().invoke(app, ["repair", str(run)])
    assert done.exit_code == 0 and "0 are damaged" in done.output
    assert CliRunner().invoke(app, ["report", str(run), "--format", "csv"]).exit_code == 0
    assert numbers(run) == before
    again = CliRunner().invoke(app, ["repair", str(run)])
    assert again.exit_code == 0 and "the manifest is in order" in again.output


@pytest.mark.process
def test_what_is_damaged_is_named(run: Path) -> None:
    cell = sorted((run / "store" / "cells").iterdir())[0]
    (cell / "rows.parquet").write_bytes(b"PAR1")
    done = CliRunner().invoke(app, ["repair", str(run)])
    assert done.exit_code == 3
    assert cell.name in done.output and "1 are damaged" in done.output
    with pytest.raises(UserError, match="expected the folder of a run"):
        CliRunner().invoke(app, ["repair", str(run.parent)], catch_exceptions=False)
