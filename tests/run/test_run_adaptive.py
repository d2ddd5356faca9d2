"""Adaptive attacks from a suite's file to its tables, exports and checks."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from bench import run_suite
from bench.check.identity import differences
from bench.check.record import Record
from bench.cli.app import app
from bench.core.errors import UserError
from bench.core.result import CellInfo, Row
from bench.export.huggingface import export_cards
from bench.export.tables import cells_table
from bench.models.external import library_model
from bench.report.run_view import RunView
from bench.run.pipeline import SuiteRun

pytestmark = pytest.mark.process

N, LEVELS = 40, 32
MODULE = """
import torch
from torch import nn
from torch.nn import functional as F


class Linear(nn.Module):
    declares = {"size": 8, "channels": 1, "classes": 2}

    def __init__(self, quantized=False):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.w = nn.Parameter(torch.randn(64, generator=generator))
        self.quantized, self.margin = quantized, nn.Identity()

    def forward(self, x):
        x = (x * LEVELS).round() / LEVELS if self.quantized else x
        margin = self.margin((x.flatten(1) - 0.5) @ self.w)
        return torch.stack([-margin, margin], 1) / 2


def quantized():
    return Linear(quantized=True)


class Large(Linear):
    declares = {"size": 16, "channels": 1, "classes": 2}

    def forward(self, x):
        return super().forward(x[:, :, :8, :8])


def cross_entropy(logits, y):
    return F.cross_entropy(logits, y, reduction="none")


def of_the_margin(logits, y, outputs):
    return outputs["margin"] * (1 - 2 * y)


of_the_margin.outputs = ("margin",)
""".replace("LEVELS", str(LEVELS))


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module of its own name in the working directory, and images beside it."""
    library_model._FACTS.clear()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = f"mine_{re.sub(r'[^a-z0-9]', '_', tmp_path.name.lower())}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    x = np.random.default_rng(0).integers(8, 24, (N, 1, 8, 8)) / LEVELS
    w = _weights()
    y = (((x.reshape(N, -1) - 0.5) @ w) > 0).astype(np.int64)
    np.savez(tmp_path / "made.npz", x=x.astype(np.float32), y=y)
    yield name
    sys.modules.pop(name, None)
    library_model._FACTS.clear()


def _weights() -> Any:
    import torch

    return torch.randn(64, generator=torch.Generator().manual_seed(1)).double().numpy()


def closed_form() -> float:
    """Robust accuracy of the linear model at two steps of the grid."""
    data, w = np.load("made.npz"), _weights()
    signed = ((data["x"].reshape(N, -1) - 0.5) @ w) * (2 * data["y"] - 1)
    return float((signed > 2 / LEVELS * np.abs(w).sum()).mean())


def suite(mine: str, **changes: Any) -> dict[str, Any]:
    quantized = f"python:{mine}:quantized"
    return {
        "suite": "adaptive",
        "data": {"name": "npz:made.npz"},
        "threat_model": {"norm": "linf", "eps": f"2/{LEVELS}"},
        "batch_size": 16,
        "convergence_images": 8,
        "models": [
            {"checkpoint": quantized, "label": "plain"},
            {
                "checkpoint": quantized,
                "gradient_model": f"python:{mine}:Linear",
                "label": "BPDA",
                "attacks": ["natural", "pgd", "square"],
            },
            {
                "checkpoint": f"python:{mine}:Linear",
                "loss": f"python:{mine}:of_the_margin",
                "label": "margin",
                "attacks": ["pgd", "square"],
            },
        ],
        "attacks": [
            "natural",
            {"attack": "pgd", "params": {"n_iter": 5}},
            {"attack": "square", "params": {"n_queries": 20}},
        ],
        **changes,
    }


def run(mine: str, **changes: Any) -> SuiteRun:
    return run_suite(
        suite(mine, **changes), out="out", workers=1, device="cpu", trust_code=True, save_adv=True
    )


def cell(run: SuiteRun, model: str, attack: str = "pgd") -> tuple[CellInfo, list[Row]]:
    (found,) = (c for c in run.plan.cells if (c.model_label, c.attack_label) == (model, attack))
    return run.store.read_cell(found.cell_id)


def record(info: CellInfo, rows: list[Row]) -> Record:
    return Record(
        model="",
        attack="",
        spec=info.spec,
        attack_kind=info.attack_kind,
        cluster=info.cluster,
        index=tuple(row.index for row in rows),
        batch=tuple(row.batch for row in rows),
        hits=tuple(int(row.robust or 0) for row in rows),
    )


def test_a_suite_runs_them_and_every_table_marks_them(mine: str) -> None:
    done = run(mine)
    assert done.status == "finished", done.cells.incomplete
    accuracy = done.table()["accuracy"]
    assert accuracy["BPDA", "pgd"] == accuracy["margin", "pgd"] == closed_form()
    assert accuracy["plain", "pgd"] > closed_form() + 0.3

    plain, adaptive = (cell(done, label)[0] for label in ("plain", "BPDA"))
    assert any("probe_masked_gradient" in alarm for alarm in plain.alarms)
    beaten = [alarm for alarm in plain.alarms if alarm.startswith("control_beats_gradient")]
    assert "pgd with gradients of Linear" in beaten[0]
    assert adaptive.alarms == ()

    text = Path("out/leaderboard.md").read_text()
    assert "BPDA" in text and f"its gradients are those of python:{mine}:Linear" in text
    assert f"it climbs the loss python:{mine}:of_the_margin" in text
    with Path("out/leaderboard.csv").open() as file:
        protocols = {(row["model"], row["attack"]): row["protocol"] for row in csv.DictReader(file)}
    assert protocols["BPDA", "pgd"] == f"white_box, gradients of Linear ({mine})"
    assert protocols["plain", "pgd"] == protocols["BPDA", "square"] == "white_box"
    assert f"loss of_the_margin ({mine})" in protocols["margin", "worst case"]
    assert f"gradients of Linear ({mine})" in Path("out/report.html").read_text()

    view = RunView(Path("out"))
    (line,) = (
        one
        for one in cells_table(view).to_pylist()
        if (one["model"], one["attack"]) == ("margin", "pgd")
    )
    assert (line["gradient_model"], line["loss"]) == (None, f"python:{mine}:of_the_margin")
    assert f"gradients of Linear ({mine})" in export_cards(view)["BPDA.md"].decode()

    again = run(mine)
    assert (again.cells.ran, again.cells.kept) == (0, done.cells.ran)
    result = CliRunner().invoke(app, ["verify", "out", "--trust-code", "--device", "cpu"])
    assert result.exit_code == 0, result.output


def test_another_stand_in_or_loss_is_another_cell_and_not_comparable(mine: str) -> None:
    first = run(mine)
    quantized = f"python:{mine}:quantized"
    entry = {"checkpoint": quantized, "loss": f"python:{mine}:cross_entropy", "label": "margin"}
    models = [*suite(mine)["models"][:2], {**entry, "attacks": ["pgd"]}]
    second = run(mine, models=models)
    assert second.cells.ran == 1
    old, new = (record(*cell(first, label)) for label in ("plain", "BPDA"))
    search, brought = differences(old, new)
    assert search == "search exact, was fast"
    assert brought.startswith("attack with gradients of Linear")
    assert brought.endswith("was not adaptive")
    assert differences(new, new) == ()


def test_code_that_is_not_trusted_is_not_run(mine: str) -> None:
    path = Path("adaptive.yaml")
    path.write_text(json.dumps(suite(mine)))
    sys.modules.pop(mine, None)
    with pytest.raises(UserError) as caught:
        run_suite(path, out="out", workers=1, device="cpu")
    for key in ("models[1].gradient_model", "models[2].loss"):
        assert any(key in line and "--trust-code" in line for line in str(caught.value).split("\n"))
    assert mine not in sys.modules


def test_a_stand_in_of_another_shape_is_refused(mine: str) -> None:
    models = [{"checkpoint": f"python:{mine}:quantized", "gradient_model": f"python:{mine}:Large"}]
    with pytest.raises(UserError, match=r"models\[0\].gradient_model: expected a model of 1 chan"):
        run(mine, models=models)


def test_a_stand_in_that_fails_makes_its_cells_incomplete(mine: str) -> None:
    models = [
        {"checkpoint": f"python:{mine}:Linear", "label": "plain"},
        {
            "checkpoint": f"python:{mine}:Linear",
            "loss": f"python:{mine}:missing_layer",
            "label": "wrong",
        },
    ]
    with Path(f"{mine}.py").open("a") as file:
        file.write(
            "\n\ndef missing_layer(logits, y, outputs):\n    return y\n\n\n"
            "missing_layer.outputs = ('nowhere',)\n"
        )
    done = run(mine, models=models, attacks=[{"attack": "pgd", "params": {"n_iter": 2}}])
    assert (done.exit_code, done.table()["status"]["plain", "pgd"]) == (3, "ok")
    assert "expected a layer 'nowhere' in Linear" in done.table()["reason"]["wrong", "pgd"]
