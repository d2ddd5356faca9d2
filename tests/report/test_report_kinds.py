"""Curves, heatmaps and gains: which cells are points of which line, and what the figures say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from report_kind_runs import (
    BN,
    IN,
    NATURAL,
    PGD,
    RUNS,
    batch_size_run,
    built,
    eps_run,
    gain_run,
    iteration_run,
    power_run,
    shares,
    transfer_run,
)
from report_runs import make_rows

from bench.metrics import relative_gain, wilson
from bench.report import Report, build_reports, to_csv, to_latex, to_markdown, to_text
from bench.report.figure import Curves, Heatmap


def only(run: Path) -> Report:
    ((_, report),) = build_reports(run)
    return report


def curves(report: Report) -> dict[str, Curves]:
    (figure,) = report.figures
    found = {}
    for panel in figure.panels:
        assert isinstance(panel, Curves)
        found[panel.title] = panel
    return found


@pytest.mark.parametrize("kind", RUNS)
def test_a_run_without_a_single_cell_can_be_reported(kind: str, tmp_path: Path) -> None:
    run = RUNS[kind](tmp_path / "full")
    empty = built(tmp_path / "empty", run.suite["reports"][0], [BN], [PGD])
    empty.suite, empty.facts = run.suite, run.facts
    for i in range(len(run.suite["models"])):
        for j in range(len(run.suite["attacks"])):
            empty.plan(i, j)
    report = only(empty.finish())
    for render in (to_markdown, to_latex, to_csv, to_text):
        assert render(report)


def test_an_eps_curve_starts_at_the_clean_accuracy(tmp_path: Path) -> None:
    panels = curves(only(eps_run(tmp_path).finish()))
    assert list(panels) == ["pgd", "autoattack"]
    bn, rna, other = panels["pgd"].series
    assert (bn.label, rna.label, other.label) == ("bn", "rna", "in | *x*")
    assert panels["pgd"].x_label == "eps (linf, in 1/255)"
    assert bn.x == pytest.approx((0, 2, 4, 8)) and panels["pgd"].ticks == bn.x
    assert bn.y == pytest.approx([100 * k / 16 for k in (15, 14, 10, 6)])
    assert (bn.low[1], bn.high[1]) == pytest.approx([100 * end for end in wilson(14, 16)])
    # The cell that broke leaves a gap, the one that was not run no point.
    assert [series.label for series in panels["autoattack"].series] == ["bn", "in | *x*"]
    assert panels["autoattack"].series[1].y == pytest.approx((81.25, None, 31.25))


def test_normalized_eps_is_shown_in_its_own_unit(tmp_path: Path) -> None:
    attacks = [{**PGD, "each": {"eps": [0.02, 0.06]}}]
    run = built(tmp_path, "eps_curve", [BN], attacks)
    run.suite["threat_model"]["eps_space"] = "normalized"
    for j in range(2):
        run.plan(0, j)
        run.add(0, j, make_rows(shares(8)))
    (panel,) = curves(only(run.finish())).values()
    assert panel.x_label == "eps (linf, in units of the normalized input)"
    assert panel.series[0].x == (0.02, 0.06)


def test_iterations_are_lines_of_each_of_a_series_and_of_panels(tmp_path: Path) -> None:
    report = only(iteration_run(tmp_path).finish())
    panels = curves(report)
    assert list(panels) == ["Gradients alone", "All"]
    assert [(s.label, s.x) for s in panels["Gradients alone"].series] == [
        (BN, (5, 20, 100)),
        (IN, (5, 20, 100)),
    ]
    assert [(s.label, s.x) for s in panels["All"].series] == [
        (f"{BN}, pgd", (5, 20, 100)),
        (f"{BN}, AA", (50, 100)),
        (f"{IN}, pgd", (5, 20, 100)),
        (f"{IN}, AA", (50, 100)),
    ]
    assert all(panel.log_x for panel in panels.values())
    left = dict(report.sections[-1].items)["not on the axis of n_iter"]
    assert "deepfool: the attack has no parameter n_iter" in left


def test_attacks_written_one_by_one_are_one_line(tmp_path: Path) -> None:
    attacks = [{**PGD, "label": f"pgd{n}", "params": {"n_iter": n}} for n in (1, 7)]
    run = built(tmp_path, "iteration_curve", [BN], attacks)
    for j in range(2):
        run.add(0, j, make_rows(shares(9 - j)))
    (panel,) = curves(only(run.finish())).values()
    assert [series.x for series in panel.series] == [(1, 7)]


def test_two_cells_of_one_place_are_two_lines(tmp_path: Path) -> None:
    attacks = [
        {**PGD, "label": f"{keep} {n}", "params": {"n_iter": n, "keep": keep}}
        for keep in ("best", "last")
        for n in (1, 7)
    ]
    run = built(tmp_path, "iteration_curve", [BN], attacks)
    for j in range(4):
        run.add(0, j, make_rows(shares(9 - j)))
    (panel,) = curves(only(run.finish())).values()
    points = {(series.label, series.x) for series in panel.series}
    assert points == {("best 1", (1,)), ("best 7", (7,)), ("last 1", (1,)), ("last 7", (7,))}


def test_batch_sizes_are_points_of_their_checkpoint(tmp_path: Path) -> None:
    panels = curves(only(batch_size_run(tmp_path).finish()))
    assert list(panels) == ["natural", "pgd"]
    assert [(s.label, s.x) for s in panels["pgd"].series] == [
        ("bn, batch", (2, 4, 8)),
        ("rn, batch", (2, 4, 8)),
    ]
    assert panels["natural"].y_label == "clean accuracy (%)"
    assert panels["pgd"].x_label == "images in a batch"


def test_powers_come_from_the_checkpoints(tmp_path: Path) -> None:
    report = only(power_run(tmp_path).finish())
    panels = curves(report)
    assert [(s.label, s.x) for s in panels["pgd"].series] == [
        ("batch", (0.2, 0.5, 1.0)),
        ("population", (0.2, 0.5, 1.0)),
    ]
    assert panels["pgd"].series[0].y == pytest.approx([100 * k / 16 for k in (10, 9, 8)])
    left = dict(report.sections[-1].items)["not on the axis of power"]
    assert "bn / natural: not RobustNorm" in left and "bn / pgd: not run yet" in left


def test_a_panel_holds_no_more_lines_than_can_be_told_apart(tmp_path: Path) -> None:
    models = [{"checkpoint": BN, "label": f"model {i}"} for i in range(10)]
    run = built(tmp_path, "eps_curve", models, [{**PGD, "each": {"eps": [0.1, 0.2]}}])
    for i in range(10):
        for j in range(2):
            run.add(i, j, make_rows(shares(8)))
    panels = curves(only(run.finish()))
    assert {title: len(panel.series) for title, panel in panels.items()} == {
        "pgd (1 of 2)": 8,
        "pgd (2 of 2)": 2,
    }


def heatmaps(report: Report) -> list[Heatmap]:
    (figure,) = report.figures
    found = []
    for panel in figure.panels:
        assert isinstance(panel, Heatmap)
        found.append(panel)
    return found


def test_a_heatmap_crosses_surrogates_and_targets(tmp_path: Path) -> None:
    report = only(transfer_run(tmp_path).finish())
    natural, adversarial = heatmaps(report)
    assert natural.title == "Natural training" and natural.columns == ("bn", "in", "rna")
    assert natural.rows == natural.columns and adversarial.rows == ("bn", "rna")
    # Rows are what is crafted on: bn's own attack, then what it does to in and to rna.
    assert natural.values[0] == pytest.approx((12.5, 68.75, 80))
    assert natural.values[1] == (None, pytest.approx(12.5), pytest.approx(80))
    assert natural.values[2] == (None, 68.75, pytest.approx(30))
    cells = report.tables[0].rows[1].cells
    assert cells[0].lines == ("incomplete",) and report.tables[0].rows[2].cells[0].lines[0] != "—"
    assert report.tables[0].rows[0].cells[0].protocol == "white_box"
    assert report.tables[0].rows[0].cells[1].protocol.startswith("transfer from")
    assert "target_model" in to_csv(report).splitlines()[0]


def test_a_white_box_row_is_the_diagonal_of_what_is_transferred(tmp_path: Path) -> None:
    cross = {"protocol": "transfer", "surrogate": BN}
    models: list[Any] = [
        {"checkpoint": BN, "label": "own"},
        {"checkpoint": IN, "label": "other", **cross},
        {"checkpoint": "fmnist-resnet20-gn", "label": "alone"},
    ]
    run = built(tmp_path, "transfer_heatmap", models, [NATURAL, PGD])
    for i, right in enumerate((3, 10, 5)):
        run.add(i, 0, make_rows(shares(16)))
        run.add(i, 1, make_rows(shares(right)))
    (heatmap,) = heatmaps(only(run.finish()))
    assert (heatmap.rows, heatmap.columns) == ((BN,), (IN, BN))
    assert heatmap.values == ((62.5, 18.75),)
    assert heatmap.title == "pgd"


def test_statistics_tell_models_of_one_checkpoint_apart(tmp_path: Path) -> None:
    each = {"stats": ["population", "batch"]}
    models = [{"checkpoint": BN, "protocol": "transfer", "surrogate": IN, "each": each}]
    run = built(tmp_path, "transfer_heatmap", models, [PGD])
    for i in range(2):
        run.add(i, 0, make_rows(shares(8)))
    (heatmap,) = heatmaps(only(run.finish()))
    assert heatmap.columns == (f"{BN} (population)", f"{BN} (batch)")


def test_gains_are_relative_paired_and_undefined_where_p_is_0(tmp_path: Path) -> None:
    report = only(gain_run(tmp_path).finish())
    (table,) = report.tables
    assert [row.labels for row in table.rows] == [
        ("fashion-mnist", BN, "natural"),
        ("fashion-mnist", f"{BN}-at", "adversarial"),
    ]
    natural, adversarial = (
        dict(zip([c.label for c in table.columns], row.cells, strict=True)) for row in table.rows
    )
    assert list(natural) == ["pgd", "deepfool", "autoattack"]
    assert natural["pgd"].value == pytest.approx(10 / 4 - 1)
    expected = relative_gain(make_rows(shares(10)), make_rows(shares(4)), "batch")
    assert expected is not None
    assert (natural["pgd"].low, natural["pgd"].high) == (expected.low, expected.high)
    assert natural["pgd"].published == pytest.approx(1.017)
    assert natural["pgd"].lines[-2:] == ("P 25.0, B 62.5", "(paper +101.7)")
    assert adversarial["deepfool"].value == pytest.approx(-0.5)
    assert natural["deepfool"].value is None and natural["deepfool"].lines[0] == "undefined"
    assert natural["deepfool"].reason == "not defined: P is 0"
    assert natural["autoattack"].status == "incomplete"


def test_what_a_run_has_nothing_of_says_so(tmp_path: Path) -> None:
    for kind in ("transfer_heatmap", "gain_table", "power_curve"):
        run = built(tmp_path / kind, kind, [BN], [PGD])
        run.add(0, 0, make_rows(shares(8)))
        report = only(run.finish())
        assert not report.figures and "Nothing to show" in report.head[-1]
        assert "Nothing to show" in to_markdown(report, kind)
