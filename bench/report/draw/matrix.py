"""Draws heatmaps with their numbers, and surfaces."""

from __future__ import annotations

import math
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize, to_rgb
from numpy.typing import NDArray
from PIL import Image

from bench.report.draw.theme import Theme, fold, inches, shorten
from bench.report.figure import Heatmap, Surface, Tiles

SIDE, SPACE = 0.92, 0.1
"""Side of a picture and the space between two, in inches."""
PIXELS = 224
"""Pictures with a smaller side are enlarged pixel by pixel, which no viewer can blur."""


def tiles_size(panel: Tiles, theme: Theme) -> tuple[float, float]:
    """Returns width and height of all pictures with their captions, in inches."""
    heights = _row_heights(panel, theme)
    return max(1, len(panel.columns)) * (SIDE + SPACE) - SPACE, sum(heights)


def draw_tiles(axes: Any, panel: Tiles, theme: Theme, size: tuple[float, float]) -> None:
    """Draws the pictures, a heading over each column and a name beside each row."""
    axes.set_axis_off()
    small = theme.font - 1
    for j, heading in enumerate(panel.columns):
        x = j * (SIDE + SPACE) + SIDE / 2
        text = fold(heading, SIDE + SPACE / 2, theme.font)
        axes.text(x, -0.05, text, ha="center", va="bottom")
    top = 0.0
    for height, (name, row) in zip(_row_heights(panel, theme), panel.rows, strict=True):
        label = fold(name, SIDE, theme.font, lines=4)
        place = (-0.08, top + SIDE / 2)
        axes.text(*place, label, rotation=90, ha="right", va="center", multialignment="center")
        for j, tile in enumerate(row):
            left = j * (SIDE + SPACE)
            pixels = read_picture(tile.png)
            _draw_picture(axes, pixels, left, top, theme)
            caption = _caption(tile.caption, theme)
            place = (left + SIDE / 2, top + SIDE + 0.03)
            axes.text(*place, caption, ha="center", va="top", color=theme.muted, fontsize=small)
        top += height
    axes.set(xlim=(0, size[0]), ylim=(size[1], 0))


def _draw_picture(
    axes: Any, pixels: NDArray[np.uint8], left: float, top: float, theme: Theme
) -> None:
    high, wide = pixels.shape[:2]
    w, h = SIDE * wide / max(high, wide), SIDE * high / max(high, wide)
    x, y = left + (SIDE - w) / 2, top + (SIDE - h) / 2
    axes.imshow(pixels, extent=(x, x + w, y + h, y), interpolation="none", aspect="auto")
    frame = np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h], [x, y]])
    axes.plot(*frame.T, color=theme.muted, linewidth=0.4, clip_on=False)


def read_picture(png: bytes) -> NDArray[np.uint8]:
    """Returns a picture's pixels (h, w, 3), small ones enlarged without smoothing."""
    with Image.open(BytesIO(png), formats=["PNG"]) as opened:
        picture = opened.convert("RGB")
    times = max(1, -(-PIXELS // max(picture.size)))
    larger = (picture.width * times, picture.height * times)
    return np.asarray(picture.resize(larger, Image.Resampling.NEAREST))


def _caption(text: str, theme: Theme) -> str:
    room, size = SIDE + 0.8 * SPACE, theme.font - 1
    return "\n".join(fold(line, room, size, lines=2) for line in text.splitlines()[:3])


def _row_heights(panel: Tiles, theme: Theme) -> list[float]:
    line = 1.25 * (theme.font - 1) / 72
    captions = [[_caption(tile.caption, theme) for tile in row] for _, row in panel.rows]
    lines = [max((len(c.splitlines()) for c in row), default=0) for row in captions]
    return [SIDE + 0.06 + count * line + SPACE for count in lines]


BAR, GAP = 0.1, 0.08
"""Width of a colour bar and its distance, in inches."""
NAME = 30
"""Letters of a row's or a column's name."""


def heatmap_size(panel: Heatmap, theme: Theme) -> tuple[float, float]:
    """Returns width and height of the squares together, in inches; each fits its number."""
    texts = [_text(value, panel.decimals) for row in panel.values for value in row]
    widest = max((inches(text, theme.font) for text in texts), default=0.0)
    square = max(0.34 * theme.font / 7, widest + 0.1)
    return square * len(panel.columns), max(0.28 * theme.font / 7, 0.7 * square) * len(panel.rows)


def draw_heatmap(axes: Any, panel: Heatmap, theme: Theme, size: tuple[float, float]) -> None:
    """Draws the squares, a number in each, and a colour bar that says what they are."""
    low, high = _ends(panel.value_range)
    norm, colours = Normalize(low, high, clip=True), _colours(low, high)
    for i, row in enumerate(panel.values):
        for j, value in enumerate(row):
            _draw_square(axes, (j, i), value, panel, norm, colours, theme)
    axes.set(xlim=(0, len(panel.columns)), ylim=(len(panel.rows), 0))
    names = [shorten(name, NAME) for name in panel.columns]
    axes.set_xticks([j + 0.5 for j in range(len(names))], names)
    square = size[0] / max(len(names), 1)
    if max((inches(name, theme.font) for name in names), default=0) > square - 0.02:
        for label in axes.get_xticklabels():
            label.set(rotation=40, ha="right", va="top", rotation_mode="anchor")
    rows = [shorten(name, NAME) for name in panel.rows]
    axes.set_yticks([i + 0.5 for i in range(len(rows))], rows)
    axes.tick_params(length=0, pad=2)
    axes.spines[:].set_visible(False)
    _label(axes, panel, theme, size)
    _draw_bar(axes, ScalarMappable(norm, colours), panel.value_label, theme, size)


def _draw_square(
    axes: Any,
    corner: tuple[int, int],
    value: float | None,
    panel: Heatmap,
    norm: Normalize,
    colours: Colormap,
    theme: Theme,
) -> None:
    x, y = corner
    known = None if value is None or not math.isfinite(value) else value
    colour: Any = theme.grid if known is None else colours(norm(known))
    square = np.array([[x, y], [x + 1, y], [x + 1, y + 1], [x, y + 1]])
    axes.fill(*square.T, facecolor=colour, edgecolor=theme.paper, linewidth=0.6)
    ink = theme.muted if known is None else _readable_on(colour)
    text = _text(value, panel.decimals)
    axes.text(x + 0.5, y + 0.5, text, color=ink, ha="center", va="center_baseline")


def _label(axes: Any, panel: Heatmap | Surface, theme: Theme, size: tuple[float, float]) -> None:
    width, height = (max(side, 1.0) for side in size)
    axes.set_xlabel(fold(panel.x_label, width, theme.font + 0.5))
    axes.set_ylabel(fold(panel.y_label, height, theme.font + 0.5), rotation_mode="anchor")


def _text(value: float | None, decimals: int) -> str:
    if value is None or not math.isfinite(value):
        return "\N{EN DASH}"
    text = f"{value:.{decimals}f}"
    if not float(text):
        text = text.removeprefix("-")
    return text.replace("-", "\N{MINUS SIGN}")


def _readable_on(colour: Any) -> str:
    """Returns black or white, whichever has more contrast (WCAG 2's relative luminance)."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    luminance = float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
    return "#000000" if luminance > 0.179 else "#ffffff"


def _colours(low: float, high: float) -> Colormap:
    """Returns colours for a range; numbers around zero get two arms that meet in white."""
    return colormaps["PuOr" if low < 0 < high and -low == high else "viridis"]


def _ends(ends: tuple[float, float]) -> tuple[float, float]:
    return ends if ends[1] > ends[0] else (ends[0] - 0.5, ends[0] + 0.5)


def _draw_bar(
    axes: Any, colours: ScalarMappable, label: str, theme: Theme, size: tuple[float, float]
) -> None:
    width, height = size
    tall = max(min(1.0, 2.2 / height), min(1.0, 0.9 / height))
    bar = axes.inset_axes([1 + GAP / width, 1 - tall, BAR / width, tall])
    low, high = colours.get_clim()
    steps = np.linspace(low, high, 65)
    middle = (steps[1:] + steps[:-1])[:, None] / 2
    bar.pcolormesh(
        [0, 1], steps, middle, cmap=colours.get_cmap(), norm=colours.norm, edgecolors="face",
        linewidth=0.2,
    )  # fmt: skip
    bar.set(xlim=(0, 1), ylim=(low, high), xticks=[])
    bar.yaxis.tick_right()
    bar.yaxis.set_label_position("right")
    folded = fold(label, tall * height + 0.3, theme.font)
    bar.set_ylabel(folded, rotation=90, rotation_mode="anchor", va="top", ha="center")
    bar.spines[:].set_visible(False)
    bar.locator_params(axis="y", nbins=max(2, min(6, int(tall * height / 0.25))))


def draw_surface(axes: Any, panel: Surface, theme: Theme, size: tuple[float, float]) -> None:
    """Draws filled contours, thin lines between them, and a colour bar."""
    z = np.asarray(panel.z, dtype=float)
    fitted = (float(np.nanmin(z)), float(np.nanmax(z))) if np.isfinite(z).any() else (0.0, 1.0)
    low, high = _ends(panel.z_range or fitted)
    levels = np.linspace(low, high, 17)
    colours, norm = _colours(low, high), Normalize(low, high)
    shown = np.clip(z, low, high)
    filled = axes.contourf(panel.x, panel.y, shown, levels, cmap=colours, norm=norm)
    filled.set(edgecolor="face", linewidth=0.3)
    if np.nanmax(shown) > np.nanmin(shown):
        axes.contour(panel.x, panel.y, shown, levels[2:-1:2], colors="#000000", linewidths=0.25)
    _label(axes, panel, theme, size)
    axes.spines[:].set_visible(True)
    _draw_bar(axes, ScalarMappable(norm, colours), panel.z_label, theme, size)
