"""A panel as SVG inside a page: the page's fonts and colours, and ids of its own."""

from __future__ import annotations

import re
from html import escape
from io import BytesIO

import matplotlib

from bench.report.draw.layout import compose
from bench.report.draw.theme import PAGE, drawing, page_colours
from bench.report.escape import one_line
from bench.report.figure import Panel

_OPENING = re.compile(r"<svg\b[^>]*>")
_SIZE = re.compile(r'viewBox="0 0 ([0-9.]+) ([0-9.]+)"')
_NOT_SHOWN = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>", re.S)
_STYLE = re.compile(r"<defs>\s*<style.*?</style>\s*</defs>", re.S)
_FONT = re.compile(r"'DejaVu Sans'[^;\"]*")


def inline_svg(panel: Panel, prefix: str, label: str) -> str:
    """Returns an ``<svg>`` element with words as text and colours from the page's variables.

    The page sets ``--paper``, ``--ink``, ``--muted``, ``--grid`` and ``--s0`` to ``--s7``.

    Args:
        panel: What is drawn.
        prefix: Set before each id, so that no two drawings of a page share one.
        label: What a screen reader says.
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
