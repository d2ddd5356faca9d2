"""Unions of threat models in a leaderboard: each ball's worst case, then that of all."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from report_runs import RunBuilder, make_rows, suite_of, written_out

from bench.report.kinds import BUILDERS
from bench.report.run_view import RunView
from bench.report.table import Cell, Report
from bench.report.text import SCRIPT_L, setting
from bench.report.write import write_reports
from bench.suite.entry import ReportEntry

BALLS = [{"norm": "linf", "eps": 0.1}, {"norm": "l2", "eps": 0.5}, {"norm": "l1", "eps": 12}]
SCORES = {
    "pgd, linf 0.1": [0, 0, 0, 1, 1, 1, 1, 1] * 2,
    "pgd, l2 0.5": [1, 0, 1, 0, 1, 1, 1, 1] * 2,
    "pgd, l1 12": [1, 1, 1, 1, 1, 0, 1, 1] * 2,
    "autoattack, linf 0.1": [0, 0, 0, 0, 1, 1, 1, 1] * 2,
    "autoattack, l2 0.5": [1, 0, 1, 0, 1, 1, 1, 1] * 2,
    "autoattack, l1 12": [1, 1, 1, 1, 1, 0, 0, 1] * 2,
}


def run(folder: Path, extra: tuple[Any, ...] = (), without: str = "") -> Path:
    models = [{"checkpoint": "fmnist-resnet20-bn", "label": "bn"}]
    attacks = [
        {"attack": "natural", "label": "natural"},
        {"attack": "pgd", "label": "pgd"},
        {"attack": "autoattack", "label": "autoattack"},
        *extra,
    ]
    suite = written_out(suite_of(["leaderboard"], models, attacks, threat_model=BALLS))
    builder = RunBuilder(folder / "small", suite)
    for j, attack in enumerate(suite["attacks"]):
        if attack["label"] != without:
            builder.add(0, j, make_rows(SCORES.get(attack["label"], [1.0] * 16)))
    return builder.finish()


def board(folder: Path) -> Report:
    return BUILDERS.get("leaderboard")(RunView(folder), ReportEntry(kind="leaderboard"))


def cells_of(report: Report) -> dict[str, Cell]:
    table = report.tables[0]
    columns = (column.label for column in table.columns)
    return dict(zip(columns, table.rows[0].cells, strict=True))


def lowest(word: str) -> float:
    rows = np.array([scores for label, scores in SCORES.items() if word in label])
    return float(rows.min(0).mean())


def test_each_ball_has_its_worst_case_and_the_union_the_minimum_of_each_image(
    tmp_path: Path,
) -> None:
    report = board(run(tmp_path))
    cells = cells_of(report)
    for ball in ("linf 0.1", "l2 0.5", "l1 12"):
        cell = cells[f"worst case, {ball}"]
        assert cell.value == lowest(ball) and cell.low is not None and cell.n == 16
    union = cells["worst case"]
    assert union.value == lowest("") == 4 / 16 and union.low is not None
    assert union.low < 4 / 16 < (union.high or 0)
    assert report.ranking[0].accuracy.value == 4 / 16, "ranked by the union"
    assert "Threat model: the union of linf 0.1, l2 0.5 and l1 12." in " ".join(report.head)
    reading = dict(report.sections[-1].items)["worst case"]
    assert "in the union of linf 0.1, l2 0.5 and l1 12" in reading


def test_a_missing_attack_makes_its_ball_and_the_union_upper_bounds(tmp_path: Path) -> None:
    cells = cells_of(board(run(tmp_path, without="autoattack, l1 12")))
    bounds = {label: cell.status for label, cell in cells.items() if "worst case" in label}
    assert bounds == {
        "worst case, linf 0.1": "ok",
        "worst case, l2 0.5": "ok",
        "worst case, l1 12": "partial",
        "worst case": "partial",
    }


def test_an_attack_outside_all_balls_does_not_count(tmp_path: Path) -> None:
    wide = {"attack": "pgd", "label": "wide", "norm": "l2", "eps": 5.0}
    SCORES["wide"] = [0] * 16
    try:
        report = board(run(tmp_path, (wide,)))
    finally:
        del SCORES["wide"]
    cells = cells_of(report)
    assert cells["wide"].value == 0 and cells["worst case"].value == 4 / 16
    said = dict(report.sections[-1].items)
    assert said["wide"].startswith("of a larger eps than the suite's")


def test_files_have_a_line_for_each(tmp_path: Path) -> None:
    folder = run(tmp_path)
    write_reports(folder, formats=("csv",))
    with (folder / "leaderboard.csv").open(encoding="utf-8") as handle:
        lines = {line["attack"]: line for line in csv.DictReader(handle)}
    assert lines["worst case, l1 12"]["value"] == "0.75" and lines["worst case"]["value"] == "0.25"
    assert f"{SCRIPT_L}2, ε=0.5 or {SCRIPT_L}1, ε=12" in setting(RunView(folder))
