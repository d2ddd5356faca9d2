"""Exceptions that users see, and helpers to word their messages."""

from __future__ import annotations

import difflib
import struct
import traceback
import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails


class UserError(Exception):
    """An expected failure: bad input, a missing file, a mismatch.

    The message says what was expected, what was found and what to do. The command line prints it
    without a traceback and exits with code 2.
    """


class MissingCheckpointError(UserError):
    """A model's checkpoint, weights or library is not on this machine."""


_CANDIDATES = 8
"""Similar names among which the fewest typing errors decide."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns ``"; did you mean 'x'?"`` for the closest known name, or else the known names."""
    names = sorted(known)
    close = closest(name, names)
    if close is not None:
        return f"; did you mean '{close}'?"
    if not names:
        return "; there are none"
    shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return f"; known: {shown}"


def closest(name: str, known: Iterable[str]) -> str | None:
    """Returns the known name that a misspelled one most likely stands for; ``None`` if none is.

    Of the names that share half of their letters with it, the one with the fewest typing errors:
    letters that are missing, added, replaced or swapped. Upper and lower case are alike.
    """
    plain: dict[str, list[str]] = {}
    for one in sorted(known):
        plain.setdefault(one.casefold(), []).append(one)
    asked = name.casefold()
    close = difflib.get_close_matches(asked, plain, n=_CANDIDATES, cutoff=0.5)
    if not close:
        return None
    best = min(close, key=lambda one: typing_errors(asked, one))  # of equals, the most similar
    return plain[best][0]


def typing_errors(a: str, b: str) -> int:
    """Returns the optimal string alignment distance of two texts: a swap of neighbours counts 1."""
    before: list[int] = []
    above = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        row = [i]
        for j, right in enumerate(b, 1):
            best = min(above[j] + 1, row[-1] + 1, above[j - 1] + (left != right))
            if i > 1 and j > 1 and (left, a[i - 2]) == (b[j - 2], right):
                best = min(best, before[j - 2] + 1)
            row.append(best)
        before, above = above, row
    return above[-1]


def one_line(error: BaseException, most: int | None = 300) -> str:
    """Returns an exception's type and message on one line of at most ``most`` characters."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:most]


def message_of(error: Exception, most: int | None = None) -> str:
    """Returns an exception's message, or else its type, in at most ``most`` characters."""
    return " ".join(str(error).split())[:most] or type(error).__name__


def place_of(error: BaseException) -> str:
    """Returns where an exception was raised, as ``" (file.py:12)"``."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""


def first_line(error: Exception) -> str:
    """Returns the first line of an exception's message, to be quoted in another message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def first_problem(error: ValidationError, whole: str) -> str:
    """Returns the first error of a pydantic validation as ``key.path: message``.

    Args:
        error: The validation error.
        whole: Used in place of the path if the error concerns the whole model.
    """
    first = error.errors()[0]
    return f"{key_path(first) or whole}: {our_words(first)}"


def key_path(details: ErrorDetails) -> str:
    """Returns the path of an invalid value, such as ``key.0.key``; empty for the whole model."""
    return ".".join(map(str, details["loc"]))


def our_words(details: ErrorDetails) -> str:
    """Returns the message of a validation error without pydantic's prefix."""
    return details["msg"].removeprefix("Value error, ")


READ_ERRORS: tuple[type[Exception], ...] = (
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""Exceptions that readers of images and archives raise on damaged or malicious bytes; each reader
adds those of its own library."""
