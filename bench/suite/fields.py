"""Field types that the entries of a suite share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator


def one_line(text: str) -> str:
    """Returns the text; raises ``ValueError`` unless it is one line of printable text."""
    if not text.strip() or not text.isprintable():
        raise ValueError("expected one line of printable text")
    return text


def as_tuples(value: object) -> object:
    """Returns lists as tuples: behind a validator of a whole entry, strict mode takes no list."""
    return tuple(map(as_tuples, value)) if isinstance(value, list) else value


def _selector_value(value: object) -> object:
    if not isinstance(value, str | int | float):  # layer_free of rna/table5 is true or false
        raise ValueError("expected text, a number, true or false")
    return value


Selector = dict[str, Annotated[Any, AfterValidator(_selector_value)]]
"""Keys and values that pick rows of a published table, for example ``{norm: rna}``."""
Line = Annotated[str, AfterValidator(one_line)]
"""One line of printable text, fit for a table."""
