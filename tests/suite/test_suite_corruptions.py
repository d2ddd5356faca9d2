"""Common corruptions in suites: cells, labels, ids, the leaderboard and a report of their own."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.attacks.registry import attack_info
from bench.core.errors import UserError
from bench.core.result import CellInfo, Row
from bench.report.write import build_reports, write_reports
from bench.store.run_store import RunStore
from bench.suite.load import load_suite
from bench.suite.plan import Plan, make_plan
from bench.suite.resolve import Lookup

GRID = {"params.name": ["fog", "gaussian_noise"], "params.severity": [1, 2, 5]}
ALL: dict[str, Any] = {"attack": "corruption", "each": GRID}


def plan(folder: Path, lookup: Lookup, *attacks: Any, **changes: Any) -> Plan:
    suite = {
        "suite": "demo",
        "data": {"name": "fashion-mnist", "limit": 8},
        "threat_model": {"norm": "linf", "eps": 0.1},
        "models": [{"checkpoint": "fmnist-resnet20-bn", "label": "bn"}],
        "attacks": list(attacks),
        **changes,
    }
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump(suite, sort_keys=False), encoding="utf-8")
    return make_plan(load_suite(path, replace(lookup, attack=attack_info)))


def test_each_makes_a_cell_of_every_corruption_and_severity(tmp_path: Path, lookup: Lookup) -> None:
    found = plan(tmp_path, lookup, "natural", "fgsm", ALL)
    mine = {c.attack_label: c for c in found.cells if c.attack_kind == "corruption"}
    assert list(mine)[:2] == ["corruption, fog, severity 1", "corruption, fog, severity 2"]
    assert len(mine) == 6 and {c.passes for c in mine.values()} == {16}
    assert {c.spec.threat_model.describe() for c in mine.values()} == {"linf 1"}
    other = plan(tmp_path, lookup, ALL, threat_model="l2:0.5")
    assert {c.cell_id for c in other.cells} == {c.cell_id for c in mine.values()}
    inside = [a.label for a in found.suite.attacks if a.in_worst_case(*found.suite.threat_models)]
    assert inside == ["natural", "fgsm"]


def test_one_is_called_by_its_name_and_severity(tmp_path: Path, lookup: Lookup) -> None:
    fog = {"attack": "corruption", "params": {"name": "fog", "severity": 4}}
    assert plan(tmp_path, lookup, fog).cells[0].attack_label == "fog 4"


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({**ALL, "eps": 0.1}, "attacks[0]: a corruption has no eps"),
        ({"attack": "corruption", "params": {"name": "mist"}}, "attacks[0].params.name"),
        ({"attack": "corruption", "params": {"severity": 0}}, "attacks[0].params.severity"),
        ({"attack": "corruption", "params": {"folder": "nowhere"}}, "gaussian_noise.npy: no such"),
    ],
)
def test_what_is_wrong_is_said_where_it_stands(
    tmp_path: Path, lookup: Lookup, entry: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError) as error:
        plan(tmp_path, lookup, entry)
    assert said in str(error.value)


def test_its_report_needs_corruptions(tmp_path: Path, lookup: Lookup) -> None:
    with pytest.raises(UserError, match=r"corruptions needs attacks that are corruptions, found"):
        plan(tmp_path, lookup, "fgsm", reports=["corruptions"])


def stored(folder: Path, found: Plan, scores: dict[str, list[int]], without: str = "") -> Path:
    """Writes a run whose cells have the given scores."""
    store = RunStore(folder / "run")
    for cell in found.cells:
        if cell.attack_label == without:
            continue
        rows = [
            Row(i, 0, 0, 1.0, 1 - s, float(s), float(s), "adv", 0.1, 0.1, "ok", 0, 0.0, 0.0)
            for i, s in enumerate(scores[cell.attack_label])
        ]
        info = CellInfo(
            cell_id=cell.cell_id,
            spec=cell.spec,
            complete=True,
            attack_kind=cell.attack_kind,
            cluster="sample",
            seconds=1.0,
            machine="cpu",
            versions={},
            date="2026-01-01T00:00:00Z",
        )
        store.write_cell(info, rows)
    store.write_manifest(found.manifest())
    return folder / "run"


SCORES = {
    "natural": [1] * 8,
    "fgsm": [1, 1, 1, 1, 0, 0, 0, 0],
    "corruption, fog, severity 1": [1, 1, 1, 1, 1, 1, 1, 1],
    "corruption, fog, severity 2": [1, 1, 1, 1, 1, 1, 0, 0],
    "corruption, fog, severity 5": [1, 1, 0, 0, 0, 0, 0, 0],
    "corruption, gaussian_noise, severity 1": [1, 1, 1, 1, 1, 1, 1, 0],
    "corruption, gaussian_noise, severity 2": [1, 1, 1, 1, 1, 0, 0, 0],
    "corruption, gaussian_noise, severity 5": [0, 0, 0, 0, 0, 0, 0, 0],
}
MEAN = sum(sum(s) for label, s in SCORES.items() if "corruption" in label) / 48


def test_tables_have_each_corruption_each_severity_and_the_mean(
    tmp_path: Path, lookup: Lookup
) -> None:
    reports = ["leaderboard", "corruptions"]
    found = plan(tmp_path, lookup, "natural", "fgsm", ALL, reports=reports)
    folder = stored(tmp_path, found, SCORES)
    (_, board), (_, report) = build_reports(folder)
    heads = [column.label for column in board.tables[0].columns]
    assert heads == ["natural", "fgsm", "corruptions", "worst case", "rank"]
    cells = dict(zip(heads, board.tables[0].rows[0].cells, strict=True))
    assert cells["corruptions"].value == pytest.approx(MEAN) and cells["worst case"].value == 0.5
    main, by_severity = report.tables
    lines = {row.labels: row.cells[0] for row in main.rows}
    assert list(lines) == [
        ("none", "clean images"),
        ("gaussian_noise", "1, 2, 5"),
        ("fog", "1, 2, 5"),
        ("mean of 2", "1, 2, 5"),
    ], "in the order of the benchmark"
    assert lines["fog", "1, 2, 5"].value == pytest.approx(16 / 24)
    mean = lines["mean of 2", "1, 2, 5"]
    assert mean.value == pytest.approx(MEAN) and mean.n == 8 and mean.low is not None
    assert [row.cells[0].value for row in by_severity.rows] == [15 / 16, 11 / 16, 2 / 16]
    assert "Threat model" not in " ".join(report.head)
    write_reports(folder, formats=("csv",))
    with (folder / "corruptions.csv").open(encoding="utf-8") as handle:
        assert len(list(csv.DictReader(handle))) == 7


def test_a_mean_that_lacks_a_cell_has_no_number(tmp_path: Path, lookup: Lookup) -> None:
    found = plan(tmp_path, lookup, ALL, reports=["corruptions"])
    folder = stored(tmp_path, found, SCORES, without="corruption, fog, severity 2")
    ((_, report),) = build_reports(folder)
    lines = {row.labels[0]: row.cells[0] for row in report.tables[0].rows}
    assert lines["gaussian_noise"].value == pytest.approx(12 / 24)
    for name in ("fog", "mean of 2"):
        assert lines[name].status == "incomplete" and lines[name].value is None
        assert "lacks 1 of" in lines[name].reason
