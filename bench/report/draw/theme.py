"""Colours, markers and sizes, for print and for a page that is light or dark."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import matplotlib
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from bench.untrusted.escape import one_line

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: tuple[Any, ...] = (
    "-",
    (0, (4, 1.4)),
    (0, (1.2, 1.2)),
    (0, (5, 1.2, 1.2, 1.2)),
    (0, (8, 1.4)),
    (0, (2.5, 1.2)),
    (0, (5, 1.2, 1.2, 1.2, 1.2, 1.2)),
    (0, (1.2, 2.6)),
)


@dataclass(frozen=True)
class Theme:
    """Colours and sizes of a drawing.

    Attributes:
        paper: Background, and the seams between squares.
        ink: Text and axes.
        muted: Secondary text.
        grid: Grid lines, and squares without a number.
        series: Colours of lines.
        font: Size of tick labels and of numbers in squares, in points.
        width: Width in inches of a panel whose content has no size of its own.
        widest: Largest width of a row of panels, in inches.
    """

    paper: str
    ink: str
    muted: str
    grid: str
    series: tuple[str, ...]
    font: float
    width: float
    widest: float


PRINT = Theme(
    paper="#ffffff",
    ink="#1a1a1a",
    muted="#595959",
    grid="#dcdcdc",
    series=(
        "#0072b2",
        "#d55e00",
        "#009e73",
        "#cc79a7",
        "#e69f00",
        "#56b4e9",
        "#000000",
        "#808080",
    ),
    font=7.0,
    width=3.3,
    widest=6.9,
)
"""Okabe and Ito's colours without their yellow, which is invisible on white paper. A panel is as
wide as a column of a two-column paper, a row of panels as wide as both columns."""

PAGE = Theme(
    paper="#010203",
    ink="#010204",
    muted="#010205",
    grid="#010206",
    series=tuple(f"#01030{i}" for i in range(8)),
    font=8.5,
    width=4.0,
    widest=100.0,
)
"""Placeholders that ``page_colours`` replaces by CSS variables, set for light and dark pages."""


def page_colours(svg: str) -> str:
    """Replaces the placeholder colours of ``PAGE`` by the CSS variables of the page."""
    names = {PAGE.paper: "paper", PAGE.ink: "ink", PAGE.muted: "muted", PAGE.grid: "grid"}
    names |= {colour: f"s{i}" for i, colour in enumerate(PAGE.series)}
    for colour, name in names.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg


@contextmanager
def drawing(theme: Theme) -> Iterator[None]:
    """Configures matplotlib for one drawing, independently of the user's settings, and restores it.

    Labels are arbitrary text, so a dollar sign starts no formula.
    """
    settings: dict[str, Any] = {
        "axes.edgecolor": theme.ink,
        "axes.facecolor": "none",
        "axes.labelcolor": theme.ink,
        "axes.labelsize": theme.font + 0.5,
        "axes.linewidth": 0.6,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlecolor": theme.ink,
        "axes.titlesize": theme.font + 1,
        "axes.axisbelow": True,
        "figure.dpi": 72.0,
        "font.family": "DejaVu Sans",
        "font.size": theme.font,
        "grid.color": theme.grid,
        "grid.linewidth": 0.5,
        "hatch.linewidth": 0.5,
        "image.composite_image": False,
        "legend.edgecolor": theme.ink,
        "legend.fontsize": theme.font,
        "legend.frameon": False,
        "legend.handlelength": 2.6,
        "legend.labelcolor": theme.ink,
        "lines.linewidth": 1.2,
        "lines.markersize": 3.4,
        "pdf.fonttype": 42,
        "svg.hashsalt": "rbench",
        "text.color": theme.ink,
        "text.parse_math": False,
        "xtick.color": theme.ink,
        "xtick.labelsize": theme.font,
        "xtick.major.size": 2.5,
        "xtick.major.width": 0.6,
        "ytick.color": theme.ink,
        "ytick.labelsize": theme.font,
        "ytick.major.size": 2.5,
        "ytick.major.width": 0.6,
    }
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # shown as a box
        matplotlib.rcdefaults()
        rc: Any = matplotlib.rcParams
        rc.update(settings)
        yield


EM = 0.58
"""Mean width of a letter, as a share of the font size."""


def shorten(text: str, letters: int) -> str:
    """Returns the text on one line, with an ellipsis where it is longer than ``letters``."""
    text = one_line(text)
    return text if len(text) <= letters else text[: letters - 1].rstrip() + "…"


def fold(text: str, inches: float, font: float, lines: int = 3) -> str:
    """Breaks the text into at most ``lines`` lines of a width; the rest is cut."""
    letters = max(4, int(inches * 72 / (EM * font)))
    folded = wrap(one_line(text), letters)
    if len(folded) > lines:
        rest = " ".join(folded[lines - 1 :])
        folded = [*folded[: lines - 1], shorten(rest, letters)]
    return "\n".join(folded)


def inches(text: str, font: float) -> float:
    """Returns the width of a line of text in inches."""
    points: float = text_to_path.get_text_width_height_descent(
        text, FontProperties(family="DejaVu Sans", size=font), ismath=False
    )[0]
    return points / 72


def line_height(font: float) -> float:
    """Returns the height of a line of text in inches, with the space to the next one."""
    return 1.4 * font / 72
