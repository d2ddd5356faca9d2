"""Renders figures as PNG, SVG and PDF files, without dates or names of programs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from io import BytesIO
from typing import Any

import matplotlib
from matplotlib.figure import Figure as Drawing

from bench.report.draw.layout import DPI, compose
from bench.report.draw.theme import PAGE, PRINT, drawing, page_colours
from bench.report.figure import Figure, Panel
from bench.untrusted.escape import one_line

_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def draw(figure: Figure, endings: Iterable[str]) -> dict[str, bytes]:
    """Returns the figure as files: ``png`` at 200 dots per inch, ``svg`` and ``pdf``.

    All have a white background. Text is drawn as paths in the SVG, which look the same everywhere,
    and as text in the PDF.
    """
    with drawing(PRINT):
        drawn = compose(figure.panels, PRINT)
        return {ending: _save(drawn, ending) for ending in endings}


def _save(drawn: Drawing, ending: str) -> bytes:
    out = BytesIO()
    drawn.savefig(out, format=ending, dpi=DPI, metadata=_METADATA[ending])
    return out.getvalue()


_OPENING = re.compile(r"<svg\b[^>]*>")
_SIZE = re.compile(r'viewBox="0 0 ([0-9.]+) ([0-9.]+)"')
_NOT_SHOWN = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>", re.S)
_STYLE = re.compile(r"<defs>\s*<style.*?</style>\s*</defs>", re.S)
_FONT = re.compile(r"'DejaVu Sans'[^;\"]*")


def inline_svg(panel: Panel, prefix: str, label: str) -> str:
    """Returns an ``<svg>`` element with selectable text, in colours of the page's variables.

    The page sets ``--paper``, ``--ink``, ``--muted``, ``--grid`` and ``--s0`` to ``--s7``.

    Args:
        panel: The panel.
        prefix: Prefix of all ids, which keeps them unique on the page.
        label: Description for screen readers.
    """
    out = BytesIO()
    with drawing(PAGE):
        matplotlib.rcParams["svg.fonttype"] = "none"
        compose([panel], PAGE, paper=False).savefig(out, format="svg", metadata={"Date": None})
    text = _STYLE.sub("", _NOT_SHOWN.sub("", out.getvalue().decode()))
    opening, size = _OPENING.search(text), _SIZE.search(text)
    if opening is None or size is None:
        raise ValueError("matplotlib wrote an SVG file of another form than expected")
    body = text[opening.end() :].rstrip().removesuffix("</svg>")
    body = re.sub(r'\bid="', f'id="{prefix}-', body)
    body = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", body)
    body = _FONT.sub("var(--font)", page_colours(body)).replace("xlink:href", "href")
    width, height = size.groups()
    # Points become CSS pixels.
    shown = f'width="{float(width) * 4 / 3:.0f}" height="{float(height) * 4 / 3:.0f}"'
    name = escape(one_line(label))
    return (
        f'<svg viewBox="0 0 {width} {height}" {shown} role="img" aria-label="{name}" '
        f'class="panel">{body.strip()}</svg>'
    )
