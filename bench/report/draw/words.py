"""Other people's words, cut to the room that a drawing has for them."""

from __future__ import annotations

from textwrap import wrap

from bench.report.escape import one_line

EM = 0.58
"""Mean width of a letter of the drawings' font, as a share of its size."""


def shorten(text: str, letters: int) -> str:
    """Returns the text on one line, with an ellipsis where it is longer than ``letters``."""
    text = one_line(text)
    return text if len(text) <= letters else text[: letters - 1].rstrip() + "…"


def fold(text: str, inches: float, font: float, lines: int = 3) -> str:
    """Breaks the text into lines of a width, at most ``lines`` of them; what is left is cut."""
    letters = max(4, int(inches * 72 / (EM * font)))
    folded = wrap(one_line(text), letters)
    if len(folded) > lines:
        rest = " ".join(folded[lines - 1 :])
        folded = [*folded[: lines - 1], shorten(rest, letters)]
    return "\n".join(folded)


def inches(text: str, font: float) -> float:
    """Returns about how wide a line of text is."""
    return len(text) * EM * font / 72
