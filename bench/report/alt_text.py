"""Figures in words: their files' names, and what a reader who cannot see them is told."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bench.report.figure import Curves, Figure, Heatmap, Histograms, Panel, Surface, Tiles
from bench.report.table import Report

WIDE_COLUMNS = 9
"""A heatmap of more columns, or pictures in more than a third of them, ask for the whole page."""


def figure_stems(name: str, report: Report) -> list[str]:
    """Returns the file name, without its ending, of each figure: ``REPORT`` or ``REPORT-FIGURE``.

    Args:
        name: Of the report's files.
        report: The report.
    """
    stems: list[str] = []
    for figure in report.figures:
        own = re.sub(r"[^a-z0-9_]+", "-", figure.name.lower()).strip("-")
        stem = "-".join(filter(None, (name, own))) or "figure"
        number = 2
        while stem in stems:
            stem, number = f"{stem.removesuffix(f'-{number - 1}')}-{number}", number + 1
        stems.append(stem)
    return stems


def is_wide(figure: Figure) -> bool:
    """Says whether a figure is to go over both columns of a paper."""
    columns = [len(p.columns) for p in figure.panels if isinstance(p, Heatmap)]
    columns += [3 * len(p.columns) for p in figure.panels if isinstance(p, Tiles)]
    return len(figure.panels) > 1 or max(columns, default=0) > WIDE_COLUMNS


def describe(panels: Sequence[Panel]) -> str:
    """Returns what panels show, one sentence each."""
    return " ".join(_sentence(panel) for panel in panels)


def _sentence(panel: Panel) -> str:
    title = f"{panel.title}: " if panel.title else ""
    if isinstance(panel, Curves):
        names = ", ".join(series.label for series in panel.series)
        return f"{title}{panel.y_label} against {panel.x_label}, for {names}."
    if isinstance(panel, Heatmap):
        size = f"{len(panel.rows)} by {len(panel.columns)}"
        axes = f"{panel.y_label} down and {panel.x_label} across"
        return f"{title}heatmap of {panel.value_label}, {size}, {axes}."
    if isinstance(panel, Histograms):
        names = ", ".join(name for name, _ in panel.series)
        return f"{title}histograms of {panel.x_label}, for {names}."
    if isinstance(panel, Surface):
        return f"{title}contours of {panel.z_label} over {panel.x_label} and {panel.y_label}."
    rows = ", ".join(name for name, _ in panel.rows)
    return f"{title}pictures, {', '.join(panel.columns)} across and {rows} down."
