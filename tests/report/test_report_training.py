"""Training curves: every epoch that was written down, and a word where none was."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from report_every_kind import report_of

from bench.report import to_csv
from bench.report.figure import Curves
from bench.report.table import Report


@pytest.fixture
def training(tmp_path: Path) -> Report:
    return report_of("training_curve", tmp_path)


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
