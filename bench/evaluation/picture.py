"""Pictures of results in memory: accuracies with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.metrics import Estimate

Points = Sequence[tuple[str, Estimate]]
"""Labels with their numbers."""


def draw_bars(series: Mapping[str, Points], title: str, ax: Any = None) -> Any:
    """Draws numbers in percent as points with 95 % intervals, a group of them for each label.

    Args:
        series: By model.
        title: Above the axes.
        ax: Axes of matplotlib; ``None`` for a figure of its own.

    Returns:
        The axes.
    """
    from bench.report.draw.theme import MARKERS, PRINT  # matplotlib is slow to import

    labels = list(dict.fromkeys(label for points in series.values() for label, _ in points))
    ax = _axes(ax, 0.9 + 0.3 * len(labels) * max(1.0, 0.6 * len(series)))
    apart = 0.6 / max(len(series), 1)
    for i, (model, points) in enumerate(series.items()):
        shift = (i - (len(series) - 1) / 2) * apart
        places = [labels.index(label) + shift for label, _ in points]
        numbers = [one for _, one in points]
        ax.errorbar(
            [100 * one.value for one in numbers],
            places,
            xerr=_arms(numbers),
            label=model,
            fmt=MARKERS[i % len(MARKERS)],
            color=PRINT.series[i % len(PRINT.series)],
            capsize=2,
        )
    ax.set_yticks(range(len(labels)), labels)
    ax.invert_yaxis()
    ax.set_xlim(-2, 102)
    ax.set_xlabel("accuracy in %, with 95 % interval")
    return _titled(ax, title, len(series))


def draw_curves(series: Mapping[str, Sequence[tuple[float, Estimate]]], norm: str, ax: Any) -> Any:
    """Draws numbers in percent against eps, a curve for each label.

    Args:
        series: Pairs of eps and number, by label.
        norm: Of the threat models.
        ax: As for ``draw_bars``.

    Returns:
        The axes.
    """
    from bench.report.draw.theme import MARKERS, PRINT

    ax = _axes(ax, 2.6)
    for i, (label, points) in enumerate(series.items()):
        numbers = [one for _, one in points]
        ax.errorbar(
            [eps for eps, _ in points],
            [100 * one.value for one in numbers],
            yerr=_arms(numbers),
            label=label,
            marker=MARKERS[i % len(MARKERS)],
            color=PRINT.series[i % len(PRINT.series)],
            capsize=2,
        )
    ax.set_ylim(-2, 102)
    ax.set_xlabel(f"{norm} eps")
    ax.set_ylabel("worst-case accuracy in %")
    return _titled(ax, "", len(series))


def _axes(ax: Any, height: float) -> Any:
    if ax is not None:
        return ax
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(5.0, height), layout="constrained")[1]


def _arms(numbers: Sequence[Estimate]) -> list[list[float]]:
    """Returns the lengths of the intervals below and above each number, in points."""
    ends = [one.interval or (one.value, one.value) for one in numbers]
    low = [100 * (one.value - end[0]) for one, end in zip(numbers, ends, strict=True)]
    high = [100 * (end[1] - one.value) for one, end in zip(numbers, ends, strict=True)]
    return [[max(0.0, arm) for arm in low], [max(0.0, arm) for arm in high]]


def _titled(ax: Any, title: str, n: int) -> Any:
    ax.set_title(title, fontsize="medium")
    ax.grid(alpha=0.3)
    if n > 1:
        ax.legend(frameon=False)
    return ax
