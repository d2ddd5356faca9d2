"""Sets panels in rows: every drawing is exactly as large as what is in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Drawing

from bench.report.draw.curves import draw_curves, draw_histograms, label_ticks
from bench.report.draw.matrix import (
    draw_heatmap,
    draw_surface,
    draw_tiles,
    heatmap_size,
    tiles_size,
)
from bench.report.draw.theme import Theme, fold, shorten
from bench.report.figure import Curves, Heatmap, Histograms, Panel, Surface, Tiles

SHEET, PAD, DPI = 10.0, 0.04, 200
"""Side of the sheet on which panels are measured and the margin of a drawing, in inches; the
resolution of measuring, and of pictures in pixels."""
SPACE = 0.22
"""Between two panels, in inches."""


@dataclass
class Box:
    """A panel as drawn: its axes with their size, and how far its words reach beyond them.

    All lengths are in inches. ``bare`` is how far they reach above without the title.
    """

    axes: Any
    width: float
    height: float
    handles: list[Any]
    left: float = 0.0
    right: float = 0.0
    top: float = 0.0
    bottom: float = 0.0
    title: Any = None
    bare: float = 0.0

    @property
    def total(self) -> float:
        """The width with the words."""
        return self.left + self.width + self.right

    def resize(self, width: float, height: float) -> None:
        """Sets the size of the axes, on the sheet."""
        self.width, self.height = width, height
        self.axes.set_position([0.3, 0.3, width / SHEET, height / SHEET])

    def measure(self) -> None:
        """Looks at how far the words reach."""
        axes = self.axes
        renderer = axes.figure.canvas.get_renderer()
        outer, inner = axes.get_tightbbox(renderer), axes.get_window_extent(renderer)
        self.left, self.right = (inner.x0 - outer.x0) / DPI, (outer.x1 - inner.x1) / DPI
        self.bottom, self.top = (inner.y0 - outer.y0) / DPI, (outer.y1 - inner.y1) / DPI


def compose(panels: Sequence[Panel], theme: Theme, paper: bool = True) -> Drawing:
    """Draws panels side by side, and below each other where a row is full.

    Args:
        panels: What is drawn.
        theme: How it looks.
        paper: Whether the background is filled.
    """
    background = theme.paper if paper else "none"
    drawing = Drawing(figsize=(SHEET, SHEET), dpi=DPI, facecolor=background)
    FigureCanvasAgg(drawing)
    boxes = [_draw(drawing, panel, theme) for panel in panels]
    names = [_names(panel) for panel in panels]
    shared = len(panels) > 1 and len(names[0]) > 1 and all(other == names[0] for other in names)
    for box, panel in zip(boxes, panels, strict=True):
        if not shared and _needs_legend(panel):
            _add_legend(box, _names(panel))
    height, width = _place(drawing, boxes, theme)
    if shared:
        legend = _legend(drawing, boxes[0].handles, names[0], width - 2 * PAD)
        extent = legend.get_window_extent(drawing.canvas.get_renderer())  # type: ignore[attr-defined]
        room = extent.height / DPI + 0.06
        _place(drawing, boxes, theme, room)
        legend.set_bbox_to_anchor((0.5, PAD / (height + room)))
    return drawing


def _draw(drawing: Drawing, panel: Panel, theme: Theme) -> Box:
    """Draws a panel on the sheet."""
    box = Box(drawing.add_axes((0.3, 0.3, 0.1, 0.1)), 0.0, 0.0, [])
    if isinstance(panel, Heatmap):
        size = heatmap_size(panel, theme)
        box.resize(*size)
        draw_heatmap(box.axes, panel, theme, size)
    elif isinstance(panel, Tiles):
        size = tiles_size(panel, theme)
        box.resize(*size)
        draw_tiles(box.axes, panel, theme, size)
    else:
        _draw_plot(box, panel, theme)
    box.measure()
    if panel.title:
        text = fold(panel.title, box.total, theme.font + 1, lines=4)
        left = 0.0 if isinstance(panel, Tiles) else -box.left / box.width
        box.bare = max(box.top, 0.04) + 0.04
        place = (left, 1 + box.bare / box.height)
        box.title = box.axes.text(*place, text, fontsize=theme.font + 1, va="bottom",
                                  transform=box.axes.transAxes)  # fmt: skip
        box.measure()
    return box


def _draw_plot(box: Box, panel: Curves | Histograms | Surface, theme: Theme) -> None:
    """Draws what has no size of its own, and lets it fill the width of a panel."""
    width, height = theme.width - 0.55, 0.58 * theme.width
    if isinstance(panel, Surface):
        width = height = 0.62 * theme.width
    box.resize(width, height)
    if isinstance(panel, Curves):
        box.handles = draw_curves(box.axes, panel, theme)
    elif isinstance(panel, Histograms):
        box.handles = draw_histograms(box.axes, panel, theme)
    else:
        draw_surface(box.axes, panel, theme, (width, height))
    box.axes.set_xlabel(fold(panel.x_label, width, theme.font + 0.5, lines=2))
    box.axes.set_ylabel(fold(panel.y_label, height, theme.font + 0.5, lines=2))
    if isinstance(panel, Surface):
        return
    for _ in range(2):  # another width has other ticks, whose labels reach elsewhere
        box.measure()
        width = max(1.0, theme.width - 2 * PAD - box.left - box.right)
        box.resize(width, height)
        if isinstance(panel, Curves):
            label_ticks(box.axes, panel, theme, width)


def _names(panel: Panel) -> list[str]:
    """Returns what a panel's legend names."""
    if isinstance(panel, Curves):
        return [series.label for series in panel.series]
    return [name for name, _ in panel.series] if isinstance(panel, Histograms) else []


def _needs_legend(panel: Panel) -> bool:
    names = _names(panel)
    return len(names) > 1 or (len(names) == 1 and bool(names[0]) and names[0] != panel.title)


def _add_legend(box: Box, names: list[str]) -> None:
    """Names the lines below a panel, where they hide nothing."""
    legend = _legend(box.axes, box.handles, names, box.total)
    middle = (box.total / 2 - box.left) / box.width
    legend.set_loc("upper center")
    legend.set_bbox_to_anchor(
        (middle, -(box.bottom + 0.05) / box.height), transform=box.axes.transAxes
    )
    box.measure()


def _legend(parent: Any, handles: list[Any], names: list[str], room: float) -> Any:
    """Makes a legend with as many columns as fit."""
    drawing: Any = parent if isinstance(parent, Drawing) else parent.figure
    renderer = drawing.canvas.get_renderer()
    legend: Any = None
    for columns in range(min(len(names), 4), 0, -1):
        if legend is not None:
            legend.remove()
        legend = parent.legend(
            handles, ["line"] * len(names), ncols=columns, loc="lower center", borderaxespad=0,
            borderpad=0.1, columnspacing=1.2, handletextpad=0.5, labelspacing=0.35,
        )  # fmt: skip
        # Set afterwards, as a name that starts with an underscore would be left out.
        for text, name in zip(legend.get_texts(), names, strict=True):
            text.set_text(shorten(name, 44))
        if legend.get_window_extent(renderer).width / DPI <= room:
            break
    return legend


def _place(
    drawing: Drawing, boxes: list[Box], theme: Theme, below: float = 0.0
) -> tuple[float, float]:
    """Sets the panels in rows; returns the height and the width of the drawing in inches.

    Args:
        drawing: Becomes as large as they are.
        boxes: The panels, measured.
        theme: Says how wide a row may be.
        below: Room left below all of them, in inches.
    """
    columns = _n_columns(boxes, theme.widest - 2 * PAD)
    rows = [boxes[i : i + columns] for i in range(0, len(boxes), columns)]
    for row in rows:
        _level_titles(row)
    lefts = [max(row[j].left for row in rows if j < len(row)) for j in range(columns)]
    widths = [_column_width(boxes[j::columns]) for j in range(columns)]
    tops = [max(box.top for box in row) for row in rows]
    heights = [
        top + max(box.height + box.bottom for box in row)
        for top, row in zip(tops, rows, strict=True)
    ]
    width = 2 * PAD + sum(widths) + SPACE * (columns - 1)
    height = 2 * PAD + sum(heights) + SPACE * (len(rows) - 1) + below
    drawing.set_size_inches(width, height)
    y = height - PAD
    for row, top, row_height in zip(rows, tops, heights, strict=True):
        x = PAD
        for j, box in enumerate(row):
            corner = (x + lefts[j], y - top - box.height)
            size = (box.width / width, box.height / height)
            box.axes.set_position([corner[0] / width, corner[1] / height, *size])
            x += widths[j] + SPACE
        y -= row_height + SPACE
    return height - below, width


def _level_titles(row: list[Box]) -> None:
    """Sets the titles of a row of panels side by side."""
    bare = max(box.bare for box in row)
    for box in row:
        if box.title is not None:
            box.title.set_y(1 + bare / box.height)
            box.top += bare - box.bare
            box.bare = bare


def _n_columns(boxes: list[Box], room: float) -> int:
    """Returns how many panels stand side by side: as many as fit, in rows of the same length."""
    for columns in range(len(boxes), 1, -1):
        widths = [_column_width(boxes[j::columns]) for j in range(columns)]
        if sum(widths) + SPACE * (columns - 1) <= room:
            n_rows = -(-len(boxes) // columns)
            return -(-len(boxes) // n_rows)
    return 1


def _column_width(boxes: list[Box]) -> float:
    return max(box.left for box in boxes) + max(box.width + box.right for box in boxes)
