"""Each character as LaTeX that every engine typesets in its default fonts, without packages."""

from __future__ import annotations

import unicodedata

_CHARS = {
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
    "…": r"\ldots{}",
    "·": r"$\cdot$",
    "°": r"$^{\circ}$",
    "→": r"$\rightarrow$",
    "≈": r"$\approx$",
    "≠": r"$\neq$",
    "\N{ELEMENT OF}": r"$\in$",
    "‖": r"$\Vert$",
    "√": r"$\surd$",
    "\N{NABLA}": r"$\nabla$",
    "\N{DOUBLE LOW-9 QUOTATION MARK}": ",,",
    "«": r"$\ll$",
    "»": r"$\gg$",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "\N{LATIN SMALL LETTER DOTLESS I}": r"\i{}",
    "đ": "d",  # the default encoding lacks these
    "Đ": "D",
    "ð": "d",
    "þ": "th",
    "§": r"\S{}",
    "€": "EUR",
    "\N{FRACTION SLASH}": "/",
}
_ACCENTS = {
    "\N{COMBINING GRAVE ACCENT}": "`",
    "\N{COMBINING ACUTE ACCENT}": "'",
    "\N{COMBINING CIRCUMFLEX ACCENT}": "^",
    "\N{COMBINING TILDE}": "~",
    "\N{COMBINING DIAERESIS}": '"',
    "\N{COMBINING MACRON}": "=",
    "\N{COMBINING DOT ABOVE}": ".",
    "\N{COMBINING BREVE}": "u",
    "\N{COMBINING CARON}": "v",
    "\N{COMBINING DOUBLE ACUTE ACCENT}": "H",
    "\N{COMBINING RING ABOVE}": "r",
    "\N{COMBINING CEDILLA}": "c",
    "\N{COMBINING DOT BELOW}": "d",
}
"""Combining characters and the commands of their accents; others are dropped."""
_BELOW = ("c", "d")
"""The accents that leave an i its dot."""

_CAPITALS = {
    "alpha": r"\mathrm{A}",
    "beta": r"\mathrm{B}",
    "chi": r"\mathrm{X}",
    "epsilon": r"\mathrm{E}",
    "eta": r"\mathrm{H}",
    "iota": r"\mathrm{I}",
    "kappa": r"\mathrm{K}",
    "mu": r"\mathrm{M}",
    "nu": r"\mathrm{N}",
    "omicron": r"\mathrm{O}",
    "rho": r"\mathrm{P}",
    "tau": r"\mathrm{T}",
    "zeta": r"\mathrm{Z}",
    "gamma": r"\Gamma",
    "delta": r"\Delta",
    "theta": r"\Theta",
    "lambda": r"\Lambda",
    "xi": r"\Xi",
    "pi": r"\Pi",
    "sigma": r"\Sigma",
    "upsilon": r"\Upsilon",
    "phi": r"\Phi",
    "psi": r"\Psi",
    "omega": r"\Omega",
}
"""The Greek letters, with their capitals as LaTeX."""


def _greek() -> dict[str, str]:
    """Returns the Greek letters as what stands between dollar signs."""
    own = {"epsilon": r"\varepsilon", "omicron": "o", "phi": r"\varphi"}
    found = {unicodedata.lookup("GREEK SMALL LETTER FINAL SIGMA"): r"\varsigma"}
    for name, capital in _CAPITALS.items():
        called = name.replace("lambda", "lamda").upper()  # as Unicode spells it
        small = unicodedata.lookup(f"GREEK SMALL LETTER {called}")
        found[small] = own.get(name, rf"\{name}")
        found[small.upper()] = capital
    return found


_GREEK = _greek()
_MATH_ACCENTS = {"'": r"\acute", "`": r"\grave", '"': r"\ddot"}


def typeset(char: str) -> str:
    """Returns a character as LaTeX; a question mark where the default fonts have nothing for it."""
    if char in _CHARS:
        return _CHARS[char]
    if char.isascii():
        return char
    kind, _, codes = unicodedata.decomposition(char).partition(" ")
    if kind in ("<super>", "<sub>"):
        inner = "".join(typeset(chr(int(code, 16))) for code in codes.split())
        return rf"\text{kind[1:-1]}script{{{inner}}}"
    base, *marks = list(unicodedata.normalize("NFKD", char))
    accents = [_ACCENTS[mark] for mark in marks if mark in _ACCENTS]
    if base in _GREEK:
        return f"${_accented_greek(_GREEK[base], accents)}$"
    if base.isascii() and base.isalpha() and all(map(unicodedata.combining, marks)):
        return _accented(base, accents)
    known = (_CHARS.get(c, c if c.isascii() else "") for c in (base, *marks))
    return "".join(known) or "?"


def _accented(letter: str, accents: list[str]) -> str:
    for accent in accents[:1]:  # the default fonts cannot put a second one above the first
        dotless = letter in ("i", "j") and accent not in _BELOW
        letter = rf"\{accent}{{{chr(92) if dotless else ''}{letter}}}"
    return letter


def _accented_greek(letter: str, accents: list[str]) -> str:
    for accent in accents:
        letter = rf"{_MATH_ACCENTS[accent]}{{{letter}}}" if accent in _MATH_ACCENTS else letter
    return letter
