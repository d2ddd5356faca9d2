"""A figure as the bytes of a PNG, SVG or PDF file, without dates or names of programs."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from typing import Any

from matplotlib.figure import Figure as Drawing

from bench.report.draw.layout import DPI, compose
from bench.report.draw.theme import PRINT, drawing
from bench.report.figure import Figure

_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def draw(figure: Figure, endings: Iterable[str]) -> dict[str, bytes]:
    """Returns the figure as files: ``png``, at 200 dots per inch, ``svg`` and ``pdf``.

    All are on white. The words of the SVG are paths, which look the same everywhere; those of the
    PDF are text.
    """
    with drawing(PRINT):
        drawn = compose(figure.panels, PRINT)
        return {ending: _save(drawn, ending) for ending in endings}


def _save(drawn: Drawing, ending: str) -> bytes:
    out = BytesIO()
    drawn.savefig(out, format=ending, dpi=DPI, metadata=_METADATA[ending])
    return out.getvalue()
