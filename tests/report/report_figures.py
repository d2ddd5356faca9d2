"""A figure of each type of panel, and what hostile words may stand in."""

from __future__ import annotations

import math
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from report_runs import ATTACKS, HOSTILE, RunBuilder, make_rows, suite_of

from bench.report.figure import (
    Curves,
    Figure,
    Heatmap,
    Histograms,
    Panel,
    Series,
    Surface,
    Tile,
    Tiles,
)
from bench.report.page.html import to_html
from bench.report.run_view import RunView
from bench.report.table import Report
from bench.report.write import build_from

EPS = (0.0, 0.05, 0.1, 0.2)
NAMES = ("bn", "bn (batch statistics)", "in", HOSTILE)


def picture(shade: int) -> bytes:
    """A grey PNG of 8 x 8 pixels."""
    out = BytesIO()
    Image.new("L", (8, 8), shade).save(out, "PNG")
    return out.getvalue()


def line(k: int) -> Series:
    y = [90 * math.exp(-(8 + 3 * k) * x) for x in EPS]
    low, high = tuple(v - 3 for v in y), tuple(v + 3 for v in y)
    return Series(NAMES[k], EPS, (*y[:3], None if k == 2 else y[3]), low, high)


CURVES = Curves(
    "natural training",
    "eps (linf, pixels in [0, 1])",
    "robust accuracy (%)",
    tuple(line(k) for k in range(4)),
    y_range=(0, 100),
    band="95 % intervals",
)
STEPS = Curves(
    "steps",
    "iterations",
    "robust accuracy (%)",
    (Series("_bn $", (1, 2, 5, 10, 100), (90, 50, 20, 10, 9)),),
    log_x=True,
    ticks=(1, 2, 5, 10, 100),
)
HEATMAP = Heatmap(
    HOSTILE,
    "target model",
    "surrogate",
    NAMES,
    NAMES,
    ((0, 7, 14, 21), (20, 27, None, 41), (40, 47, 54, 61), (60, 67, 74, 81)),
    "robust accuracy (%)",
    (0, 100),
)
HISTOGRAMS = Histograms(
    "paths",
    "cosine similarity",
    "share of images (%)",
    (-1.0, -0.5, 0.0, 0.5, 1.0),
    (("bn / in", (10, 20, 30, 40)), (HOSTILE, (40, 30, 20, 10))),
)
GRID = tuple(float(g) for g in np.linspace(-0.1, 0.1, 7))
SURFACE = Surface(
    "loss",
    "along the gradient (pixels)",
    HOSTILE,
    "cross-entropy",
    GRID,
    GRID,
    tuple(tuple(10 * x + y * y for x in GRID) for y in GRID),
)
TILES = Tiles(
    HOSTILE,
    ("clean", "adversarial"),
    (("bn", (Tile(picture(40), "ankle boot"), Tile(picture(90), f"sandal\n{HOSTILE}"))),),
)
PANELS: dict[str, Panel] = {
    "curves": CURVES,
    "steps": STEPS,
    "heatmap": HEATMAP,
    "histograms": HISTOGRAMS,
    "surface": SURFACE,
    "tiles": TILES,
}
FIGURES = (
    Figure("eps", "Robust accuracy on n = 16 images; bands are 95 % intervals.", (CURVES, CURVES)),
    *(Figure(f"{name}", f"{name}: {HOSTILE}", (PANELS[name],)) for name in list(PANELS)[1:]),
)


def whole_run(folder: Path) -> tuple[RunView, list[tuple[str, Report]]]:
    """A run with hostile words in every place, and its reports with a figure of each type."""
    models = [
        {"checkpoint": "fmnist-resnet20-bn", "label": "bn", "published": {"norm": "bn"}},
        {"checkpoint": "fmnist-resnet20-rna", "label": "rna", "protocol": "fixed_path"},
        {"checkpoint": "fmnist-resnet20-gn", "label": "gn"},
        {"checkpoint": "fmnist-resnet20-in", "label": HOSTILE},
    ]
    entry = {"kind": "leaderboard", "published": "rna/table1", "where": {"model": "resnet18"}}
    suite = suite_of([entry, "stats_table"], models, ATTACKS, title=HOSTILE, description=HOSTILE)
    run = RunBuilder(folder, suite)
    for j in range(4):
        run.add(0, j, make_rows([1, 0, 1, 1] * 4))
        run.add(2, j, make_rows([1] * 15 + [0]), alarms=(f"higher_than_clean: {HOSTILE}",))
    run.add(1, 1, make_rows([0.5] * 16))
    run.add(3, 0, make_rows([1] * 4 + [0] * 12), machine=HOSTILE, versions={HOSTILE: HOSTILE})
    run.add(3, 1, [], complete=False, error=f"batch 2: {HOSTILE}")
    run.plan(3, 2, refused=HOSTILE)
    view = RunView(run.finish())
    reports = build_from(view)
    return view, [(reports[0][0], replace(reports[0][1], figures=FIGURES)), *reports[1:]]


def write_page(folder: Path) -> Path:
    """Writes the page of ``whole_run``."""
    page = folder / "report.html"
    page.write_text(to_html(*whole_run(folder)))
    return page
