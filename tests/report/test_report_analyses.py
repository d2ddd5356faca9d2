"""The reports of analyses: what a reader must not miss in them."""

from __future__ import annotations

import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from report_analyses import ANALYSES, analysis_run, run_of, shift_values
from report_runs import HOSTILE, RunBuilder, make_rows, suite_of

from bench.core.errors import UserError
from bench.metrics import real_mean, real_median, wilson
from bench.report import Report, build_reports
from bench.report.figure import Curves, Histograms, Surface, Tiles
from bench.report.table import Cell
from bench.untrusted.pictures import why_not_png


def only(kind: str, folder: Path) -> Report:
    ((_, report),) = build_reports(run_of(kind, folder))
    return report


def cells(report: Report, *labels: str, table: int = 0) -> dict[str, Cell]:
    found = report.tables[table]
    (row,) = [row for row in found.rows if row.labels == labels]
    return dict(zip([column.label for column in found.columns], row.cells, strict=True))


def test_shift_is_the_median_of_each_batch(tmp_path: Path) -> None:
    report = only("statistics_shift", tmp_path)
    row = cells(report, "bn")
    # Sizes of batch b: 0.01 (1 + b + layer + 2 channel); the median is that of channel 1.
    assert row["mean, clean"].value == pytest.approx(real_mean([0.035, 0.045]).value)
    assert row["mean, attacked - clean"].low == pytest.approx(real_mean([0.07, 0.09]).low)
    assert row["spread, attacked"].n == 8
    figure, other = report.figures
    assert (figure.name, other.name) == ("bn", "rn")
    mean, variance = figure.panels
    assert isinstance(mean, Curves) and isinstance(variance, Curves)
    clean, attacked = mean.series
    assert clean.x == (1.0, 2.0) and clean.y == pytest.approx((0.035, 0.045))
    assert attacked.y == pytest.approx((0.105, 0.135))
    shift, width = other.panels
    assert isinstance(shift, Curves) and isinstance(width, Curves)
    assert (shift.y_label, width.title) == ("mean shift in ranges", "range")
    assert "n = 8 images" in figure.caption and "2 batches of 4" in figure.caption


def test_similarity_counts_images_without_direction(tmp_path: Path) -> None:
    report = only("gradient_similarity", tmp_path)
    row = cells(report, f"rn vs {HOSTILE}")
    known = [0.2, 0.3, 0.3, 0.4, 0.05]
    assert row["mean"].value == pytest.approx(real_mean(known).value) and row["mean"].n == 5
    assert row["median"].low is None  # five values do not reach 95 %
    assert row["images without direction"].lines == ("3",)
    median = real_median([0.1 * k for k in range(1, 9)])
    assert (cells(report, "bn vs rn")["median"].low) == pytest.approx(median.low)
    (panel,) = report.figures[0].panels
    assert isinstance(panel, Histograms)
    assert panel.edges[0] == -0.3 and panel.edges[-1] == 0.8
    assert all(sum(shares) == pytest.approx(100) for _, shares in panel.series)
    assert "means over 5 draw(s)" in report.figures[0].caption
    assert any("share statistics" in text for _, text in report.footnotes)


def test_surface_is_laid_out_by_its_axes(tmp_path: Path) -> None:
    report = only("loss_surface", tmp_path)
    plane, bowl = report.figures[0].panels
    assert isinstance(plane, Surface) and isinstance(bowl, Surface)
    assert plane.x == plane.y == (-1.0, 0.0, 1.0)
    assert plane.z[0] == pytest.approx((-0.1, 0.9, 1.9))  # v = -1: along the gradient it rises
    assert plane.z_range == bowl.z_range == pytest.approx((-0.1, 2.5))
    row = cells(report, "near", "bn")
    assert row["at the image"].value == 1 and row["eps up the gradient"].value == 2
    assert row["largest on the grid"].extra["along_random"] == 1.0
    assert cells(report, "far", "bn, rn")["at the image"].status == "incomplete"
    assert cells(report, "never", "bn")["at the image"].status == "missing"
    texts = " ".join(text for _, text in report.footnotes)
    assert "MemoryError: 3 GB" in texts and "not run yet" in texts


def test_paths_have_a_band_of_the_pairs(tmp_path: Path) -> None:
    report = only("path_difference", tmp_path)
    (panel,) = report.figures[0].panels
    assert isinstance(panel, Curves)
    (line,) = panel.series
    assert (line.x, line.y) == ((0.0, 1.0, 2.0), (31.25, 56.25, 81.25))
    assert (line.low, line.high) == ((25.0, 50.0, 75.0), (37.5, 62.5, 87.5))
    row = cells(report, HOSTILE, "1")
    assert (row["mean over pairs"].low, row["mean over pairs"].high) == wilson(4.5, 8)
    assert row["lowest pair"].value == 0.5 and row["pairs"].lines == ("2",)


def test_a_picture_too_large_for_memory_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    content = BytesIO()
    Image.new("L", (8, 8)).save(content, "PNG")
    assert why_not_png(content.getvalue()) == ""

    def load(picture: Image.Image) -> None:
        raise MemoryError  # which says nothing

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    assert why_not_png(content.getvalue()) == "MemoryError"


def test_examples_show_pictures_and_both_predictions(tmp_path: Path) -> None:
    report = only("examples", tmp_path)
    fooled, held = report.figures[0].panels
    assert isinstance(fooled, Tiles) and isinstance(held, Tiles)
    assert fooled.columns == ("clean", "attacked", "difference × 5")  # noqa: RUF001
    name, tiles = fooled.rows[0]
    assert name == "Ankle boot"
    assert [tile.caption for tile in tiles] == ["Ankle boot 99 %", "Sneaker 75 %", "linf 0.1"]
    assert all(tile.png.startswith(b"\x89PNG") for tile in tiles)
    row = cells(report, "bn", "Ankle boot, image 100")
    assert row["attacked"].extra["predicted"] == "Sneaker"
    choice = dict(report.sections[-1].items)["choice"]
    assert "all of the models get right" in choice and "of each class" in choice


def test_shown_tables_stay_readable(tmp_path: Path) -> None:
    """The grid, the bins and the layers are for the CSV file alone."""
    for kind in ANALYSES:
        report = only(kind, tmp_path / kind)
        assert len(report.shown_tables) == 1
        assert all(len(table.columns) <= 6 for table in report.shown_tables)


def test_alarms_of_the_models_are_passed_on(tmp_path: Path) -> None:
    entry = {"analysis": "statistics_shift", "models": ["bn", "rn"], "attack": "PGD"}
    run = analysis_run(tmp_path, [entry], [shift_values()])
    models = [{"checkpoint": "fmnist-resnet20-bn", "label": "bn"}]
    attacks = [{"attack": "pgd", "label": "PGD", "params": {"n_iter": 20}}]
    builder = RunBuilder(run, suite_of([], models, attacks))
    builder.add(0, 0, make_rows([1] * 16), alarms=("gradients vanish",))
    manifest = builder.store.read_manifest()
    cells = tuple(builder._cells.values())
    builder.store.write_manifest(manifest.model_copy(update={"cells": cells}))
    ((_, report),) = build_reports(run)
    section = next(s for s in report.sections if s.title == "Alarms")
    assert dict(section.items) == {"bn": "gradients vanish"}


def test_a_report_of_no_analysis_is_refused(tmp_path: Path) -> None:
    run = run_of("examples", tmp_path)
    with pytest.raises(UserError, match="expected an analysis of that name in the run's suite"):
        build_reports(run, ("loss_surface",))


@pytest.mark.process
def test_reports_of_analyses_never_import_torch(tmp_path: Path) -> None:
    run = run_of("examples", tmp_path)
    code = (
        "import sys; from pathlib import Path; from bench.report import write_reports; "
        f"write_reports(Path({str(run)!r}), formats=('md',)); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
