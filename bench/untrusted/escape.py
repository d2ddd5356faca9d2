"""Escapes text for Markdown, LaTeX and terminals: labels and messages come from other people."""

from __future__ import annotations

import html
import re
import unicodedata

from bench.untrusted import latex_chars

_NORM = re.compile(r"\$\\ell\$(?:([012](?!\d))|\$(\\infty)\$)")
"""The name of a norm, once it is LaTeX: the letter l and, as a subscript, what follows it."""


def one_line(text: str) -> str:
    """Returns the text on one line, stripped, without control characters."""
    spaced = re.sub(r"\s+", " ", text)
    return "".join(c for c in spaced if unicodedata.category(c)[0] != "C").strip()


def markdown(text: str) -> str:
    """Returns text that GitHub's Markdown shows verbatim, also inside a table."""
    text = html.escape(one_line(text), quote=False)
    text = re.sub(r"([\\`*|~$#])", r"\\\1", text)
    text = re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)  # inside a word it is plain
    return re.sub(r"\](?=[(\[:])", r"\\]", text)  # brackets alone are plain, links are not


def markdown_alt(text: str) -> str:
    """Returns text for the square brackets of an image, which it cannot close."""
    entities = {"[": "&#91;", "]": "&#93;"}
    escaped = re.compile(r"\\(.)|[\[\]]")
    return escaped.sub(lambda m: entities.get(m[1] or m[0], m[0]), markdown(text))


def latex(text: str) -> str:
    """Returns LaTeX that any engine typesets without further packages.

    Accents, umlauts and Greek letters stay what they are. Characters of other scripts become
    question marks, as the default fonts lack them.
    """
    typeset = "".join(map(latex_chars.typeset, unicodedata.normalize("NFC", one_line(text))))
    return _NORM.sub(r"$\\ell_{\1\2}$", typeset)
