"""Training curves: every epoch that was written down, and a word where none was."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import pytest
from report_runs import ATTACKS, RunBuilder, facts_of, make_rows, suite_of

from bench.report import build_reports, to_csv, to_markdown
from bench.report.figure import Curves
from bench.report.table import Report
from bench.store import Epoch, Manifest

GOLDEN = Path(__file__).parent / "golden"
POWERS = {"fmnist-resnet20-rn-p005": 3, "fmnist-resnet20-rn": 2, "fmnist-resnet20-rn-p1": 0}


def history(n: int, scored: bool) -> tuple[Epoch, ...]:
    return tuple(
        Epoch(
            epoch=i + 1,
            loss=2.0 / (i + 1),
            accuracy=0.5 + i / 10,
            test_accuracy=0.6 + i / 10 if scored else None,
        )
        for i in range(n)
    )


@pytest.fixture
def training(tmp_path: Path) -> Report:
    """Three checkpoints, one of them in two rows, one scored on no test images, one unrecorded."""
    models = [{"checkpoint": name, "label": f"p of {name[15:]}"} for name in POWERS]
    models.append({"checkpoint": "fmnist-resnet20-rn", "label": "again", "stats": "tracked-mean"})
    run = RunBuilder(tmp_path / "run", suite_of(["training_curve"], models, ATTACKS[:1]))
    run.add(0, 0, make_rows([1] * 16))
    store = run.finish()
    manifest = run.store.read_manifest()
    facts = {
        name: facts_of(name).model_copy(update={"history": history(n, scored=n == 3)})
        for name, n in POWERS.items()
    }
    run.store.write_manifest(
        Manifest(suite=manifest.suite, cells=manifest.cells, checkpoints=facts)
    )
    ((name, report),) = build_reports(store)
    assert name == "training_curve"
    return report


@pytest.mark.parametrize("ending", ["md", "csv"])
def test_training_curves_are_as_they_were_looked_at(ending: str, training: Report) -> None:
    text = to_csv(training) if ending == "csv" else to_markdown(training, "training_curve")
    path = GOLDEN / f"training_curve.{ending}"
    if os.environ.get("RBENCH_UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text(), f"{path.name} changed"


def test_figure_and_table_hold_the_same_numbers(training: Report) -> None:
    (figure,) = training.figures
    loss, accuracy, test = figure.panels
    assert isinstance(loss, Curves) and isinstance(accuracy, Curves) and isinstance(test, Curves)
    assert [series.label for series in loss.series] == ["p of -rn-p005", "p of -rn"]
    assert loss.series[0].x == (1.0, 2.0, 3.0) and loss.series[0].y == (2.0, 1.0, 2 / 3)
    assert accuracy.series[1].y == pytest.approx((50.0, 60.0))
    assert [series.label for series in test.series] == ["p of -rn-p005"]
    lines = list(csv.DictReader(io.StringIO(to_csv(training))))
    assert len(lines) == 15  # three quantities in each of 3 + 2 epochs
    assert lines[3]["quantity"] == "training loss" and float(lines[3]["value"]) == 1.0
    assert {line["status"] for line in lines if line["model"] == "p of -rn"} == {"ok", "missing"}


def test_a_checkpoint_without_a_record_is_named(training: Report) -> None:
    assert any("Without a record of their training: p of -rn-p1." in text for text in training.head)
