"""A loss of the user's own: a Python function in memory, or ``python:MODULE:FUNCTION``."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from typing import Any

from bench.core.adaptive import LossFunction
from bench.core.errors import UserError
from bench.core.model_uri import parse_uri
from bench.core.paths import Where
from bench.models.external.from_python import import_callable

EXAMPLE = "python:mylosses:past_the_detector"
"""A loss as suites name it."""

_WHAT = "a function of logits (b, n_classes) and labels (b,) that returns a value for each image"


def open_loss(name: str, where: Where) -> tuple[Callable[..., Any], LossFunction]:
    """Returns the function behind a name of a suite, and what is known of it.

    Raises:
        UserError: When it is no ``python:MODULE:FUNCTION``, its code is not trusted, it cannot be
            imported, or it is no function of logits and labels.
    """
    if not name.startswith("python:"):
        raise UserError(f"'{name}': expected a loss such as {EXAMPLE}")
    uri = parse_uri(name)
    uri.only(())
    function, code = import_callable(uri, where)
    return function, LossFunction(name=name, sha256=code, outputs=outputs_of(function, name))


def loss_in_memory(function: Any) -> LossFunction:
    """Returns what is known of a function that lies in memory.

    Raises:
        UserError: When it is no function of logits and labels.
    """
    if not callable(function):
        raise UserError(f"loss: expected {_WHAT}, found {type(function).__name__}")
    name = getattr(function, "__qualname__", type(function).__name__)
    try:
        code = inspect.getsource(function)
    except (OSError, TypeError):  # typed at a prompt, or an object that can be called
        code = repr(getattr(getattr(function, "__code__", None), "co_code", name))
    sha256 = hashlib.sha256(code.encode()).hexdigest()
    return LossFunction(name=name, sha256=sha256, outputs=outputs_of(function, "loss"))


def outputs_of(function: Callable[..., Any], name: str) -> tuple[str, ...]:
    """Returns the names of the layers that a loss declares in its attribute ``outputs``.

    Raises:
        UserError: When these are no names, or the function does not take what it is called with.
    """
    found = getattr(function, "outputs", ())
    if isinstance(found, str) or not all(isinstance(one, str) and one for one in found):
        raise UserError(f"{name}: expected outputs = ('LAYER', ...), found {found!r}")
    outputs = tuple(found)
    given = ("logits", "y", "outputs")[: 3 if outputs else 2]
    try:
        inspect.signature(function).bind(*given)
    except TypeError:
        hint = (
            "" if outputs else "; a loss of layers' outputs names them: loss.outputs = ('LAYER',)"
        )
        raise UserError(
            f"{name}: expected {_WHAT}, called as ({', '.join(given)}), found "
            f"{inspect.signature(function)}{hint}"
        ) from None
    except ValueError:  # a built-in without a signature
        return outputs
    return outputs
