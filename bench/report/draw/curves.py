"""Draws curves with bands, and histograms."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.report.draw.theme import DASHES, MARKERS, Theme, inches
from bench.report.figure import Curves, Histograms, Maybe, Series

Numbers = NDArray[np.float64]


def draw_curves(axes: Any, panel: Curves, theme: Theme) -> list[Any]:
    """Draws lines with their bands; returns the handles of the legend."""
    if panel.log_x:
        _space_by_logarithm(axes, panel)
    handles = []
    for i, series in enumerate(panel.series):
        style = _style(i, theme)
        x, y = np.asarray(series.x, dtype=float), _numbers(series.y)
        if series.low and series.high:
            _draw_band(axes, series, x, y, style["color"])
        handles += axes.plot(x, y, **style)
    axes.set_ymargin(0.06)
    if panel.y_range is not None:
        axes.set_ylim(_opened(panel.y_range))
    axes.grid(axis="y")
    return handles


def _style(i: int, theme: Theme) -> dict[str, Any]:
    """Returns colour, dash and marker of a line; each alone tells the first eight apart."""
    turn, place = divmod(i, len(theme.series))
    return {
        "color": theme.series[place],
        "linestyle": DASHES[(place + turn) % len(DASHES)],
        "marker": MARKERS[(place + 3 * turn) % len(MARKERS)],
        "markeredgecolor": theme.paper,
        "markeredgewidth": 0.4,
    }


def _draw_band(axes: Any, series: Series, x: Numbers, y: Numbers, colour: str) -> None:
    low, high = _numbers(series.low), _numbers(series.high)
    axes.fill_between(x, low, high, color=colour, alpha=0.17, linewidth=0)
    known = ~np.isnan(low) & ~np.isnan(high)
    beside = np.pad(known, 1)
    alone = known & ~beside[:-2] & ~beside[2:]  # a band of a single point has no width
    if alone.any():
        axes.vlines(x[alone], low[alone], high[alone], color=colour, linewidth=0.8)


def _opened(ends: tuple[float, float]) -> tuple[float, float]:
    """Widens a range a little, so that a line along its end is fully visible."""
    room = 0.03 * (ends[1] - ends[0])
    return ends[0] - room, ends[1] + room


def _space_by_logarithm(axes: Any, panel: Curves) -> None:
    positions = [x for series in panel.series for x in series.x]
    positive = [x for x in positions if x > 0]
    if not positive:
        return
    if len(positive) == len(positions):
        axes.set_xscale("log")
    else:  # the axis includes zero
        axes.set_xscale("symlog", linthresh=min(positive), linscale=0.5)


def label_ticks(axes: Any, panel: Curves, theme: Theme, width: float) -> None:
    """Labels the x axis of curves, turned or thinned where the labels would touch.

    Args:
        axes: The axes, with the lines drawn.
        panel: The panel.
        theme: Its theme.
        width: Approximate width of the axes, in inches.
    """
    ticks = sorted(set(panel.ticks))
    if not ticks and panel.log_x:
        ticks = sorted({x for series in panel.series for x in series.x})
    if not ticks:
        return
    names = [f"{tick:g}" for tick in ticks]
    axes.autoscale_view()  # sets the limits, which are otherwise set when the figure is drawn
    to_place = axes.transScale + axes.transLimits
    places = [width * to_place.transform((tick, 0))[0] for tick in ticks]
    room = min((b - a for a, b in pairwise(places)), default=math.inf)
    turned = room < max(inches(name, theme.font) for name in names) + 0.04
    least = 1.15 * theme.font / 72
    shown, last = [], -math.inf
    for name, place in zip(names, places, strict=True):
        shown.append(name if place - last >= least else "")
        last = place if shown[-1] else last
    axes.set_xticks(ticks, shown)
    axes.minorticks_off()
    if turned:
        axes.tick_params(axis="x", rotation=90 if room < 2 * least else 45)


def draw_histograms(axes: Any, panel: Histograms, theme: Theme) -> list[Any]:
    """Draws outlines over a light filling; returns the handles of the legend."""
    handles = []
    for i, (_, values) in enumerate(panel.series):
        style = _style(i, theme)
        colour, dash = style["color"], style["linestyle"]
        edges = np.asarray(panel.edges)
        axes.stairs(values, edges, fill=True, color=colour, alpha=0.13, linewidth=0)
        handles.append(axes.stairs(values, edges, color=colour, linestyle=dash, linewidth=1.1))
    axes.set_ylim(bottom=0)
    axes.set_xmargin(0)
    axes.grid(axis="y")
    return handles


def _numbers(values: Maybe) -> Numbers:
    return np.array([math.nan if value is None else value for value in values], dtype=float)
