"""Draws heatmaps with their numbers, surfaces, and grids of pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize, to_rgb
from numpy.typing import NDArray
from PIL import Image

from bench.report.draw.theme import Theme, fold, inches, line_height, shorten
from bench.report.figure import Heatmap, Surface, Tile, Tiles

SIDE, SPACE = 0.92, 0.1
"""Side of a picture and the space around it, in inches."""
PIXELS = 224
"""Pictures are enlarged to at least this side, without smoothing, so that no viewer blurs them."""


def tiles_size(panel: Tiles, theme: Theme) -> tuple[float, float]:
    """Returns width and height of all pictures with their texts, in inches."""
    names = max((_name(name, theme).count("\n") + 1 for name, _ in panel.rows), default=1)
    width = max(1, len(panel.columns)) * (SIDE + SPACE) + (names + 0.5) * line_height(theme.font)
    captions = [[_caption(tile, theme) for tile in row] for _, row in panel.rows]
    lines = sum(max((text.count("\n") + 1 for text in row), default=0) for row in captions)
    headings = max((_heading(text, theme).count("\n") + 1 for text in panel.columns), default=0)
    texts = lines * line_height(theme.font - 1) + (headings + 0.5) * line_height(theme.font)
    return width, max(1, len(panel.rows)) * (SIDE + SPACE) + texts


def draw_tiles(part: Any, panel: Tiles, theme: Theme) -> None:
    """Draws the pictures, with a heading over each column and a name beside each row."""
    shape = (max(1, len(panel.rows)), max(1, len(panel.columns)))
    grid = part.subplots(*shape, squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[], frame_on=False)
    for axes, heading in zip(grid[0], panel.columns, strict=False):
        axes.set_title(_heading(heading, theme), fontsize=theme.font, pad=3)
    for line, (name, row) in zip(grid, panel.rows, strict=False):
        line[0].set_ylabel(_name(name, theme), fontsize=theme.font, labelpad=3)
        for axes, tile in zip(line, row, strict=False):
            axes.imshow(read_picture(tile.png), interpolation="none")
            axes.set_frame_on(True)
            axes.spines[:].set(visible=True, color=theme.muted, linewidth=0.4)
            axes.set_xlabel(_caption(tile, theme), labelpad=2, fontsize=theme.font - 1)
            axes.xaxis.label.set_color(theme.muted)


def read_picture(png: bytes) -> NDArray[np.uint8]:
    """Returns the pixels (h, w, 3) of a picture; a small one is enlarged without smoothing."""
    with Image.open(BytesIO(png), formats=["PNG"]) as opened:
        picture = opened.convert("RGB")
    times = max(1, -(-PIXELS // max(picture.size)))
    larger = (picture.width * times, picture.height * times)
    return np.asarray(picture.resize(larger, Image.Resampling.NEAREST))


def _heading(text: str, theme: Theme) -> str:
    return fold(text, SIDE + SPACE / 2, theme.font)


def _name(text: str, theme: Theme) -> str:
    return fold(text, SIDE, theme.font, lines=4)


def _caption(tile: Tile, theme: Theme) -> str:
    room, size = SIDE + 0.8 * SPACE, theme.font - 1
    return "\n".join(fold(line, room, size, lines=2) for line in tile.caption.splitlines()[:3])


BAR, BAR_HEIGHT = 0.1, 2.2
"""Width of a colour bar and its largest height, in inches."""
NAME = 30
"""Letters of the name of a row or a column."""
SLOPE = 40
"""Angle of the names of columns that are wider than a square, in degrees."""


def heatmap_size(panel: Heatmap, theme: Theme) -> tuple[float, float]:
    """Returns width and height of a heatmap with its texts, in inches."""
    width, height = _square(panel, theme)
    line, names = line_height(theme.font), _widest(panel.columns, theme)
    below, left = line, _widest(panel.rows, theme) + 2 * line
    if names > width:
        slope = math.radians(SLOPE)
        below, left = names * math.sin(slope) + line, max(left, names * math.cos(slope))
    bar = BAR + inches(f"{panel.value_range[1]:.1f}", theme.font) + 4 * line
    width, height = width * max(1, len(panel.columns)), height * max(1, len(panel.rows))
    return left + width + bar, height + below + 3 * line


def _square(panel: Heatmap, theme: Theme) -> tuple[float, float]:
    """Returns width and height of a square that has room for every number, in inches."""
    texts = [_text(value, panel.decimals) for row in panel.values for value in row]
    widest = max((inches(text, theme.font) for text in texts), default=0.0)
    width = max(0.34 * theme.font / 7, widest + 0.1)
    return width, max(0.28 * theme.font / 7, 0.7 * width)


def draw_heatmap(axes: Any, panel: Heatmap, theme: Theme) -> None:
    """Draws the squares with their numbers, and a colour bar that names the quantity."""
    low, high = _ends(panel.value_range)
    norm, colours = Normalize(low, high, clip=True), _colours(low, high)
    for i, row in enumerate(panel.values):
        for j, value in enumerate(row):
            _draw_square(axes, (j, i), value, panel, norm, colours, theme)
    axes.set(xlim=(0, len(panel.columns)), ylim=(len(panel.rows), 0))
    columns, rows = (
        [shorten(name, NAME) for name in names] for names in (panel.columns, panel.rows)
    )
    axes.set_xticks([j + 0.5 for j in range(len(columns))], columns)
    axes.set_yticks([i + 0.5 for i in range(len(rows))], rows)
    width, height = _square(panel, theme)
    if _widest(panel.columns, theme) > width:
        for label in axes.get_xticklabels():
            label.set(rotation=SLOPE, ha="right", va="top", rotation_mode="anchor")
    axes.tick_params(length=0, pad=2)
    axes.spines[:].set_visible(False)
    width, height = width * max(1, len(columns)), height * max(1, len(rows))
    axes.set_xlabel(fold(panel.x_label, max(width, 1.0), theme.font + 0.5))
    axes.set_ylabel(fold(panel.y_label, max(height, 1.0), theme.font + 0.5))
    _draw_bar(axes, ScalarMappable(norm, colours), panel.value_label, theme, height)


def _widest(names: Sequence[str], theme: Theme) -> float:
    return max((inches(shorten(name, NAME), theme.font) for name in names), default=0.0)


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


def _text(value: float | None, decimals: int) -> str:
    if value is None or not math.isfinite(value):
        return "\N{EN DASH}"
    text = f"{value:.{decimals}f}"
    if not float(text):
        text = text.removeprefix("-")
    return text.replace("-", "\N{MINUS SIGN}")


def _readable_on(colour: Any) -> str:
    """Returns black or white, whichever has more contrast by WCAG 2's relative luminance."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    luminance = float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
    return "#000000" if luminance > 0.179 else "#ffffff"


def _colours(low: float, high: float) -> Colormap:
    """Returns colours for a range; a diverging scale for a range that is symmetric about zero."""
    return colormaps["PuOr" if low < 0 < high and -low == high else "viridis"]


def _ends(ends: tuple[float, float]) -> tuple[float, float]:
    return ends if ends[1] > ends[0] else (ends[0] - 0.5, ends[0] + 0.5)


def _draw_bar(axes: Any, colours: ScalarMappable, label: str, theme: Theme, height: float) -> None:
    """Draws a colour bar beside axes of a height in inches."""
    tall = min(height, BAR_HEIGHT)
    steps = ScalarMappable(colours.norm, colours.get_cmap().resampled(64))
    bar = axes.figure.colorbar(
        steps, ax=axes, shrink=tall / height, aspect=tall / BAR, anchor=(0.0, 1.0)
    )
    bar.solids.set(edgecolor="face", linewidth=0.2)  # no seams between the steps
    bar.outline.set_visible(False)
    bar.set_label(fold(label, max(tall, 0.6), theme.font))


def draw_surface(axes: Any, panel: Surface, theme: Theme, height: float) -> None:
    """Draws filled contours, thin lines between them, and a colour bar.

    Args:
        axes: The axes.
        panel: The panel.
        theme: Its theme.
        height: Approximate height of the axes, in inches.
    """
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
    axes.spines[:].set_visible(True)
    _draw_bar(axes, ScalarMappable(norm, colours), panel.z_label, theme, height)
