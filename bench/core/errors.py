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


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns ``"; did you mean 'x'?"`` for the closest known name, or else the known names."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    if not names:
        return "; there are none"
    shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return f"; known: {shown}"


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
    return f"{key_path(first) or whole}: {first['msg']}"


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
