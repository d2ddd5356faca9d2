"""The exceptions that a user is meant to see."""

from __future__ import annotations

import difflib
import struct
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
    """A checkpoint that is named is not here."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns ``"; did you mean 'x'?"`` for the nearest known name, or the list of names."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    if not names:
        return "; there are none"
    shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return f"; known: {shown}"


def one_line(error: BaseException, most: int | None = 300) -> str:
    """Returns an exception's type and message in a line of at most ``most`` letters."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:most]


def words_of(error: Exception, most: int | None = None) -> str:
    """Returns an exception's message, or else its type, in a line of at most ``most`` letters."""
    return " ".join(str(error).split())[:most] or type(error).__name__


def first_line(error: Exception) -> str:
    """Returns the first line of an exception's message, which alone belongs into ours."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def first_problem(error: ValidationError, whole: str) -> str:
    """Returns the first thing that a model refuses as ``key.path: why``, in pydantic's words.

    Args:
        error: The refusal.
        whole: Stands for the path where no key is to blame.
    """
    first = error.errors()[0]
    return f"{key_path(first) or whole}: {first['msg']}"


def key_path(details: ErrorDetails) -> str:
    """Returns where in a model a refused value is: ``key.0.key``; empty for all of it."""
    return ".".join(map(str, details["loc"]))


def our_words(details: ErrorDetails) -> str:
    """Returns why a value is refused, without what pydantic puts before a validator's words."""
    return details["msg"].removeprefix("Value error, ")


DAMAGED: tuple[type[Exception], ...] = (
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
"""What readers of pictures and archives raise where bytes are damaged, or made to be; each reader
adds what is its library's own."""
