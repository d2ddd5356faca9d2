"""Draws the figures of reports with matplotlib; the same figure gives the same bytes."""

from bench.report.draw.files import draw, inline_svg

__all__ = ["draw", "inline_svg"]
