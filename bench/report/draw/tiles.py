"""Draws pictures in a grid."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.report.draw.theme import Theme
from bench.report.draw.words import fold
from bench.report.figure import Tiles

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
