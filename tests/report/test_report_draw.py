"""Drawings: the same bytes everywhere, no wider than a column, other people's words as words."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from itertools import combinations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image
from report_figures import CURVES, FIGURES, HEATMAP, NAMES, PANELS, STEPS, TILES, picture
from report_runs import HOSTILE

from bench.report.draw import draw, inline_svg
from bench.report.draw.layout import DPI, compose
from bench.report.draw.matrix import _readable_on
from bench.report.draw.theme import PAGE, PRINT, Theme, drawing
from bench.report.figure import Curves, Figure, Heatmap, Panel, Series, Surface, Tile, Tiles

pytestmark = pytest.mark.process

ENDINGS = ("png", "svg", "pdf")
SCRIPT = """
import hashlib
from report_figures import FIGURES
from bench.report.draw import draw
for figure in FIGURES:
    for content in draw(figure, ("png", "svg", "pdf")).values():
        print(hashlib.sha256(content).hexdigest())
"""


def test_two_processes_draw_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("font.size: 30\nsvg.hashsalt: other\n")
    here = [
        hashlib.sha256(content).hexdigest()
        for figure in FIGURES
        for content in draw(figure, ENDINGS).values()
    ]
    environment = {"PYTHONHASHSEED": "7", "MATPLOTLIBRC": str(tmp_path), "HOME": str(tmp_path)}
    environment["MPLCONFIGDIR"] = matplotlib.get_cachedir()  # spares it listing all fonts
    environment["PYTHONPATH"] = ":".join([str(Path(__file__).parent), *sys.path])
    there = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
    )
    assert there.stdout.split() == here


def test_drawing_leaves_matplotlib_as_it_was() -> None:
    before = dict(matplotlib.rcParams)
    draw(FIGURES[0], ("svg",))
    assert dict(matplotlib.rcParams) == before


def size_of(*panels: Panel) -> tuple[float, float]:
    """Width and height of the file in inches."""
    with Image.open(BytesIO(draw(Figure("", "", panels), ["png"])["png"])) as picture:
        return picture.width / DPI, picture.height / DPI


def test_files_are_as_wide_as_a_column_or_two_and_wrap() -> None:
    assert DPI >= 200
    for panel in (CURVES, PANELS["histograms"], STEPS):
        assert size_of(panel)[0] <= 3.31
    width, height = size_of(CURVES, CURVES)
    assert 6 < width <= 6.9
    wider, taller = size_of(*[CURVES] * 5)
    assert wider == pytest.approx(width) and taller > 2.5 * height
    fonts = [PRINT.font, PRINT.font + 0.5, PRINT.font + 1]
    assert min(fonts) >= 7 and max(fonts) <= 8


@pytest.mark.parametrize("name", PANELS)
def test_panels_for_the_page_are_sound_and_show_words_as_they_are(name: str) -> None:
    svg = inline_svg(PANELS[name], "a1", HOSTILE)
    root = ElementTree.fromstring(svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" '))
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert not tags & {"script", "style", "metadata", "foreignObject", "a"}
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(set(ids)) == len(ids) and all(one.startswith("a1-") for one in ids)
    used = re.findall(r'(?:href="|url\()#([^")]+)', svg)
    assert set(used) <= set(ids)
    assert "#0102" not in svg and "#0103" not in svg, "a mark of the theme was left"
    assert not re.search(r"https?://(?!www\.w3\.org/)", svg)
    words = {"".join(element.itertext()).strip() for element in root.iter()}
    wanted = {
        "curves": {"natural training", "robust accuracy (%)", *NAMES[:3]},
        "steps": {"_bn $", "100", "iterations"},
        "heatmap": {"81.0", "0.0", "\N{EN DASH}", *NAMES[:3]},
        "histograms": {"bn / in", "cosine similarity"},
        "surface": {"loss", "cross-entropy"},
        "tiles": {"clean", "ankle boot"},
    }[name]
    assert wanted <= words


def test_every_number_of_a_heatmap_is_readable_on_its_square() -> None:
    def luminance(colour: object) -> float:
        parts = np.array(to_rgb(colour))  # type: ignore[arg-type]
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for name in ("viridis", "PuOr"):
        for share in np.linspace(0, 1, 101):
            square = matplotlib.colormaps[name](share)
            light, dark = sorted((luminance(square), luminance(_readable_on(square))))[::-1]
            assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_lines_are_told_apart_without_colour() -> None:
    eight = tuple(Series(f"line {k}", (0, 1), (k, k + 1)) for k in range(8))
    with drawing(PRINT):
        axes = compose([Curves("", "x", "y", eight)], PRINT).axes[0]
    styles = {(str(line.get_linestyle()), str(line._dash_pattern)) for line in axes.lines}  # type: ignore[attr-defined]
    assert len({line.get_marker() for line in axes.lines}) == 8
    assert len({line.get_color() for line in axes.lines}) == 8
    assert len(styles) == 8


def test_gaps_stay_gaps_and_a_lone_point_has_its_interval() -> None:
    series = Series("bn", (1, 2, 3, 4), (5.0, None, 7.0, 8.0), (4, None, 6, 7), (6, None, 8, 9))
    with drawing(PRINT):
        axes = compose([Curves("", "x", "y", (series,))], PRINT).axes[0]
    (drawn,) = axes.lines
    assert np.isnan(np.asarray(drawn.get_ydata(), dtype=float)).tolist() == [
        False,
        True,
        False,
        False,
    ]
    bars = [c for c in axes.collections if hasattr(c, "get_segments")]
    assert [segment.tolist() for bar in bars for segment in bar.get_segments()] == [
        [[1, 4], [1, 6]]
    ]


def test_zero_has_a_place_on_a_logarithmic_axis() -> None:
    series = Series("bn", (0, 0.01, 0.1), (90, 50, 10))
    with drawing(PRINT):
        panel = Curves("", "eps", "y", (series,), log_x=True, ticks=(0, 0.01, 0.1))
        axes = compose([panel], PRINT).axes[0]
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["0", "0.01", "0.1"]
    assert np.isfinite(axes.transData.transform([(0, 0), (0.01, 0)])).all()


def test_odd_panels_are_drawn() -> None:
    flat = Surface("", "x", "y", "z", (0, 1), (0, 1), ((1, 1), (1, 1)))
    none = Curves("", "x", "y", ())
    holes = replace(HEATMAP, values=((None,) * 4,) * 4, value_range=(0, 0))
    signed = Heatmap("", "x", "y", ("a",), ("b",), ((-0.001,),), "cosine", (-1, 1), 2)
    ragged = Tiles("", ("a", "b"), (("r", (Tile(picture(9), ""),)),))
    for panel in (flat, none, holes, signed, ragged):
        assert draw(Figure("", "", (panel,)), ["svg"])["svg"].startswith(b"<?xml")
    assert ">0.00<" in inline_svg(signed, "p", "")


def test_small_pictures_stay_sharp() -> None:
    pixels = np.asarray(Image.open(BytesIO(draw(Figure("", "", (TILES,)), ["png"])["png"])))
    grey = pixels[..., 0][(pixels[..., 0] == pixels[..., 1]) & (pixels[..., 1] == pixels[..., 2])]
    counts = {shade: int((grey == shade).sum()) for shade in (40, 90)}
    assert min(counts.values()) > 0.9 * (0.92 * DPI) ** 2 * 0.9


def texts_in(drawn: Any) -> list[Text]:
    """The texts that are drawn."""
    found = [text for part in (drawn, *drawn.subfigs) for text in part.texts]
    found += [text for part in (drawn, *drawn.subfigs) for one in part.legends
              for text in one.get_texts()]  # fmt: skip
    for axes in drawn.axes:
        found += [axes.title, axes._left_title, *axes.texts]
        for axis in (axes.xaxis, axes.yaxis) if axes.axison else ():
            found.append(axis.label)
            found += [label for tick in axis._update_ticks() for label in (tick.label1, tick.label2)
                      if label.get_visible()]  # fmt: skip
    return [text for text in dict.fromkeys(found) if text.get_text().strip()]


@pytest.mark.parametrize("theme", [PRINT, PAGE], ids=["print", "page"])
@pytest.mark.parametrize(
    "panels",
    [*([panel] for panel in PANELS.values()), [CURVES] * 2, [CURVES] * 5, [HEATMAP, STEPS]],
    ids=[*PANELS, "two", "five", "different"],
)
def test_texts_are_whole_and_apart_and_legends_hide_nothing(
    panels: list[Panel], theme: Theme
) -> None:
    with drawing(theme):
        drawn: Any = compose(panels, theme)
        FigureCanvasAgg(drawn).draw()
        renderer = drawn.canvas.get_renderer()
        boxes = [(text, text.get_window_extent(renderer)) for text in texts_in(drawn)]
        sheet = drawn.bbox
        for text, box in boxes:
            inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= sheet.x1 + 1
            assert inside and box.y1 <= sheet.y1 + 1, f"{text.get_text()!r} is cut"
        level = [(text, box) for text, box in boxes if text.get_rotation() % 90 == 0]
        for (one, first), (other, second) in combinations(level, 2):
            apart = Bbox.intersection(first.padded(-0.75), second.padded(-0.75)) is None
            assert apart, f"{one.get_text()!r} lies over {other.get_text()!r}"
        for legend in (one for part in (drawn, *drawn.subfigs) for one in part.legends):
            frame = legend.get_window_extent(renderer)
            for axes in drawn.axes:
                assert Bbox.intersection(frame, axes.get_window_extent(renderer)) is None
