"""Escapes text for Markdown, LaTeX and terminals: labels and messages come from other people."""

from __future__ import annotations

import html
import re
import unicodedata

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"$\mathdollar$",  # \$ and \dag would ask for fonts that small installations lack
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "[": "{[}",  # a bare bracket after a line break would be read as its argument
    "]": "{]}",
    "—": "---",
    "\N{EN DASH}": "--",
    "\N{LEFT SINGLE QUOTATION MARK}": "`",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "“": "``",
    "”": "''",
    "†": r"$\dagger$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "±": r"$\pm$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "\N{MINUS SIGN}": "$-$",
    "∞": r"$\infty$",
    "\N{SCRIPT SMALL L}": r"$\ell$",
    "ε": r"$\varepsilon$",
    "μ": r"$\mu$",
    "\N{GREEK SMALL LETTER SIGMA}": r"$\sigma$",
}


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

    Accents are dropped and unknown characters become question marks, as the default font encoding
    lacks them.
    """
    return "".join(_latex_char(char) for char in one_line(text))


def _latex_char(char: str) -> str:
    if char in _LATEX:
        return _LATEX[char]
    if char.isascii():
        return char
    ascii_part = unicodedata.normalize("NFKD", char).encode("ascii", "ignore").decode()
    return "".join(_LATEX.get(c, c) for c in ascii_part) or "?"
