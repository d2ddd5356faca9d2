"""Arranges panels in rows; matplotlib's constrained layout makes room for their texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure as Drawing

from bench.report.draw.curves import draw_curves, draw_histograms, label_ticks
from bench.report.draw.matrix import (
    draw_heatmap,
    draw_surface,
    draw_tiles,
    heatmap_size,
    tiles_size,
)
from bench.report.draw.theme import Theme, fold, inches, line_height, shorten
from bench.report.figure import Curves, Heatmap, Histograms, Panel, Surface, Tiles

PAD, DPI = 0.04, 200
"""Space around everything that is drawn, in inches; resolution of PNG files."""
NAME = 44
"""Letters of a name in a legend."""


def compose(panels: Sequence[Panel], theme: Theme, paper: bool = True) -> Drawing:
    """Draws panels side by side, in as many rows as their widths need.

    Args:
        panels: The panels.
        theme: Colours and sizes.
        paper: Whether the background is filled.
    """
    names = [_names(panel) for panel in panels]
    shared = len(panels) > 1 and len(names[0]) > 1 and all(other == names[0] for other in names)
    sizes = [_size(panel, theme, legend=not shared) for panel in panels]
    columns = _n_columns([width for width, _ in sizes], theme.widest)
    widths = [max(width for width, _ in sizes[j::columns]) for j in range(columns)]
    rows = [sizes[i : i + columns] for i in range(0, len(sizes), columns)]
    heights = [max(height for _, height in row) for row in rows]
    below = _legend_shape(names[0], sum(widths), theme)[1] if shared else 0.0
    drawing = Drawing(
        figsize=(sum(widths), sum(heights) + below),
        dpi=DPI,
        facecolor=theme.paper if paper else "none",
        layout="constrained",
    )
    engine: Any = drawing.get_layout_engine()
    engine.set(w_pad=PAD, h_pad=PAD, wspace=0, hspace=0)
    grid: Any = drawing.subfigures(
        len(rows), columns, squeeze=False, width_ratios=widths, height_ratios=heights
    )
    handles: list[Any] = []
    for part, panel, size in zip(grid.flat, panels, sizes, strict=False):
        handles = _draw(part, panel, theme, size)
        if not shared and _needs_legend(panel):
            _add_legend(part, handles, _names(panel), size[0], theme)
    if shared:
        _add_legend(drawing, handles, names[0], sum(widths), theme)
    return drawing


def _n_columns(widths: list[float], room: float) -> int:
    """Returns the number of panels in a row: as many as fit, in rows of the same length."""
    for columns in range(len(widths), 1, -1):
        if sum(max(widths[j::columns]) for j in range(columns)) <= room:
            n_rows = -(-len(widths) // columns)
            return -(-len(widths) // n_rows)
    return 1


def _size(panel: Panel, theme: Theme, *, legend: bool) -> tuple[float, float]:
    """Returns width and height of a panel with its texts, in inches."""
    if isinstance(panel, Heatmap):
        width, height = heatmap_size(panel, theme)
    elif isinstance(panel, Tiles):
        width, height = tiles_size(panel, theme)
    else:
        width = theme.width
        height = _plot_height(panel, theme) + 4 * line_height(theme.font)
    if legend and _needs_legend(panel):
        height += _legend_shape(_names(panel), width, theme)[1]
    if panel.title:
        lines = _title(panel, width, theme).count("\n") + 1
        height += lines * line_height(theme.font + 1) + 2 * PAD
    return width, height


def _plot_height(panel: Curves | Histograms | Surface, theme: Theme) -> float:
    """Returns the height of the axes of a panel whose content has no size of its own."""
    return (0.62 if isinstance(panel, Surface) else 0.58) * theme.width


def _title(panel: Panel, width: float, theme: Theme) -> str:
    return fold(panel.title, width - 2 * PAD, theme.font + 1, lines=4)


def _draw(part: Any, panel: Panel, theme: Theme, size: tuple[float, float]) -> list[Any]:
    """Draws a panel into its part of the drawing; returns the handles of its legend."""
    if panel.title:
        title = _title(panel, size[0], theme)
        part.suptitle(title, x=PAD / size[0], ha="left", fontsize=theme.font + 1)
    if isinstance(panel, Tiles):
        draw_tiles(part, panel, theme)
        return []
    axes = part.subplots()
    if isinstance(panel, Heatmap):
        draw_heatmap(axes, panel, theme)
        return []
    width, height = size[0] - 6 * line_height(theme.font), _plot_height(panel, theme)
    axes.set_xlabel(fold(panel.x_label, width, theme.font + 0.5, lines=2))
    axes.set_ylabel(fold(panel.y_label, height, theme.font + 0.5, lines=2))
    if isinstance(panel, Surface):
        draw_surface(axes, panel, theme, height)
        return []
    if isinstance(panel, Histograms):
        return draw_histograms(axes, panel, theme)
    handles = draw_curves(axes, panel, theme)
    label_ticks(axes, panel, theme, width)
    return handles


def _names(panel: Panel) -> list[str]:
    """Returns the names in a panel's legend."""
    if isinstance(panel, Curves):
        return [shorten(series.label, NAME) for series in panel.series]
    if isinstance(panel, Histograms):
        return [shorten(name, NAME) for name, _ in panel.series]
    return []


def _needs_legend(panel: Panel) -> bool:
    names = _names(panel)
    return len(names) > 1 or (len(names) == 1 and bool(names[0]) and names[0] != panel.title)


def _legend_shape(names: Sequence[str], room: float, theme: Theme) -> tuple[int, float]:
    """Returns the number of columns of a legend that fit into ``room``, and its height."""
    widest = max(inches(name, theme.font) for name in names) + 4.5 * theme.font / 72
    columns = max(1, min(len(names), 4, int((room - 2 * PAD) / widest)))
    return columns, -(-len(names) // columns) * line_height(theme.font) + 2 * PAD


def _add_legend(
    part: Any, handles: list[Any], names: Sequence[str], room: float, theme: Theme
) -> None:
    """Adds a legend below the panels of a part, where it hides nothing."""
    legend = part.legend(
        handles, ["line"] * len(names), ncols=_legend_shape(names, room, theme)[0],
        loc="outside lower center", borderaxespad=0.2, borderpad=0.1, columnspacing=1.2,
        handletextpad=0.5, labelspacing=0.35,
    )  # fmt: skip
    # Set afterwards, as matplotlib leaves out names that start with an underscore.
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(name)
