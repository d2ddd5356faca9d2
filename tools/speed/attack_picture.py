"""The figure of a race: time of each contender relative to rbench."""

from __future__ import annotations

from io import BytesIO
from textwrap import wrap
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

COLOURS = {
    "rbench exact": ("#56b4e9", ""),
    "pyautoattack": ("#d55e00", "//"),
    "torchattacks": ("#e69f00", ""),
    "foolbox": ("#009e73", "\\\\"),
    "adv_lib": ("#cc79a7", ".."),
}
"""Okabe and Ito's colours, which are safe for colour-blind readers, and hatches."""

OTHER = ("#999999", "")

BAR, GAP = 0.24, 0.2
"""Height of a bar, and of the space between two attacks, in inches."""


def race_picture(table: pd.DataFrame, baseline: str, host: str) -> bytes:
    """Returns a PNG of horizontal bars: the ratio to ``baseline`` on a logarithmic axis.

    A contender without a ratio has the reason in place of its bar.

    Args:
        table: As ``tools.speed.standings.standings`` returns it.
        baseline: Name of the contender with ratio 1, which has no bar.
        host: The machine.
    """
    groups = list(
        table[table["contender"] != baseline].groupby(["checkpoint", "attack"], sort=False)
    )
    n_bars, n_groups = sum(len(rows) for _, rows in groups), len(groups)
    height = 1.5 + BAR * n_bars + GAP * n_groups
    figure = Figure(figsize=(9.0, max(2.6, height)), layout="constrained")
    axes = figure.subplots()
    at, ticks, several = 0.0, [], table["checkpoint"].nunique() > 1
    for (checkpoint, attack), rows in groups:
        begin = at
        for row in rows.to_dict("records"):
            _bar(axes, at, row)
            at += BAR
        label = f"{attack}\n{checkpoint}" if several else str(attack)
        ticks.append(((begin + at - BAR) / 2, label))
        at += GAP
    _frame(axes, ticks, baseline)
    figure.suptitle(f"Time from images to verdicts, relative to {baseline}", fontsize=12)
    figure.supxlabel("\n".join(wrap(host, 130)), fontsize=7, color="#555555")
    out = BytesIO()
    figure.savefig(out, format="png", dpi=150)
    return out.getvalue()


def _bar(axes: Any, at: float, row: dict[Any, Any]) -> None:
    name, times = row["contender"], row["ratio"]
    colour, hatch = COLOURS.get(name, OTHER)
    style = {"height": 0.85 * BAR, "color": colour, "hatch": hatch, "edgecolor": "white"}
    if pd.isna(times):
        reason = "failed" if str(row["note"]).startswith("failed") else "not installed"
        axes.barh(at, 0, left=1, label=name, **style)
        axes.text(1.02, at, f"{name}: {reason}", va="center", fontsize=7, color="#555555")
        return
    axes.barh(at, times - 1, left=1, label=name, **style)
    if row["rounds"] > 1:
        axes.plot([row["ratio_low"], row["ratio_high"]], [at, at], color="black", linewidth=1)
    end = max(times, row["ratio_high"], 1)
    text = f"{times:.1f}" if times >= 1.05 else f"{times:.2f}"
    axes.annotate(
        text, (end, at), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8
    )


def _frame(axes: Any, ticks: list[tuple[float, str]], baseline: str) -> None:
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks([at for at, _ in ticks], [label for _, label in ticks], fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f"times as long as {baseline} (logarithmic)")
    axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    axes.legend(
        unique.values(),
        unique.keys(),
        ncols=len(unique) or 1,
        loc="lower center",
        bbox_to_anchor=(0.4, 1.0),
        frameon=False,
        fontsize=8,
    )
