"""Calls into libraries that load weights: no pickle is executed, and errors take one line."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch

from bench.core.errors import MissingCheckpointError, UserError, one_line
from bench.untrusted.pickle_depth import check_torch_file

_FETCHERS = ("gdown", "httpcore", "httpx", "httpx2", "huggingface_hub", "requests", "urllib3")
"""Libraries whose exceptions mean that something could not be fetched."""


@contextmanager
def tensors_only() -> Iterator[None]:
    """Lets ``torch.load`` read nothing but tensors, whoever calls it and whatever it asks for.

    torchvision and ``torch.hub`` ask for ``weights_only=False``, as do older versions of timm.
    """
    original = torch.load

    def load(f: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(f, str | os.PathLike):
            check_torch_file(Path(f))
        return original(f, *args, **{**kwargs, "weights_only": True})

    # By the dictionary, as no type checker lets a function be replaced.
    vars(torch)["load"] = load
    try:
        yield
    finally:
        vars(torch)["load"] = original


@contextmanager
def library(uri: str) -> Iterator[None]:
    """Guards calls into a library that builds the model of a URI.

    What it prints goes to stderr.

    Raises:
        MissingCheckpointError: When weights are not in the local cache and cannot be fetched.
        UserError: For whatever else it raises, in one line.
    """
    try:
        with tensors_only(), redirect_stdout(sys.stderr):
            yield
    except UserError:
        raise
    except Exception as error:  # foreign code: whatever it raises is its failure
        why = one_line(error)
        if isinstance(error, OSError) or _origin(error) in _FETCHERS:
            raise MissingCheckpointError(
                f"{uri}: its weights are not in the local cache, and could not be fetched ({why})"
            ) from None
        if type(error).__name__ == "UnpicklingError":
            raise UserError(
                f"{uri}: expected tensors alone in its weights, found a pickle that asks for more; "
                f"nothing of it was run ({why})"
            ) from None
        raise UserError(f"{uri}: {why}") from None


def place_of(error: BaseException) -> str:
    """Returns where an exception was raised, as ``" (file.py:12)"``."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""


def missing_extra(uri: str, extra: str, error: ImportError) -> MissingCheckpointError:
    """Returns what is raised where a library is not installed."""
    return MissingCheckpointError(f"{uri} needs pip install 'rbench[{extra}]' ({one_line(error)})")


def _origin(error: Exception) -> str:
    return type(error).__module__.partition(".")[0]
