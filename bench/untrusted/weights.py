"""Files of weights: tensors are read, no pickle is executed.

The one module of this folder that imports torch.
"""

from __future__ import annotations

import os
import pickle
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.core.errors import MissingCheckpointError, UserError, one_line
from bench.untrusted.pickles import check_torch_file

_FETCHERS = ("gdown", "httpcore", "httpx", "httpx2", "huggingface_hub", "requests", "urllib3")
"""Libraries whose exceptions mean that a download failed."""


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Reads a safetensors file; raises ``UserError`` if it is damaged or of another format."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, LookupError, ValueError, RuntimeError) as error:
        # A data type that torch lacks is a LookupError.
        raise UserError(f"{path}: not a readable safetensors file ({error})") from None


def read_torch_file(
    path: Path, device: torch.device | str = "cpu", wanted: str = "state dict"
) -> object:
    """Reads a file of ``torch.save`` that holds nothing but tensors and plain containers.

    Args:
        path: The file.
        device: Where its tensors are put.
        wanted: What it is read for, as the message of a refused file says it.

    Raises:
        UserError: When the file is damaged, nests too deeply, or asks for code to be run.
    """
    try:
        check_torch_file(path)
        return torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        if asked is None:
            raise UserError(f"{path}: {_unreadable(error)}") from None
        raise UserError(
            f"{path}: expected tensors alone, found a file that asks for {asked[1]}; nothing of it "
            "was run. If you trust it, read it once elsewhere with "
            f"torch.load(..., weights_only=False), and torch.save its {wanted} alone"
        ) from None
    except Exception as error:  # a damaged pickle can raise anything
        raise UserError(f"{path}: {_unreadable(error)}") from None


def _unreadable(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "TorchScript" in text:
        return "a TorchScript archive, which holds code; save its state_dict() instead"
    _, _, reason = text.partition("WeightsUnpickler error: ")
    return f"not a readable file of torch.save ({type(error).__name__}: {(reason or text)[:200]})"


@contextmanager
def tensors_only() -> Iterator[None]:
    """Makes every ``torch.load`` in this context read tensors only, whatever its caller asks for.

    torchvision and ``torch.hub`` ask for ``weights_only=False``, as do older versions of timm.
    """
    original = torch.load

    def load(f: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(f, str | os.PathLike):
            check_torch_file(Path(f))
        return original(f, *args, **{**kwargs, "weights_only": True})

    # Through the dictionary: type checkers do not allow replacing a function.
    vars(torch)["load"] = load
    try:
        yield
    finally:
        vars(torch)["load"] = original


@contextmanager
def calling_library(uri: str) -> Iterator[None]:
    """Guards calls into a library that builds and loads the model of a URI.

    ``torch.load`` reads tensors only, and what the library prints goes to stderr.

    Raises:
        MissingCheckpointError: When weights are neither in the local cache nor can be downloaded.
        UserError: For any other exception, in one line.
    """
    try:
        with tensors_only(), redirect_stdout(sys.stderr):
            yield
    except UserError:
        raise
    except Exception as error:  # foreign code can raise anything
        why = one_line(error)
        package = type(error).__module__.partition(".")[0]
        if isinstance(error, OSError) or package in _FETCHERS:
            raise MissingCheckpointError(
                f"{uri}: its weights are not in the local cache, and could not be fetched ({why})"
            ) from None
        if type(error).__name__ == "UnpicklingError":
            raise UserError(
                f"{uri}: expected tensors alone in its weights, found a pickle that asks for more; "
                f"nothing of it was run ({why})"
            ) from None
        raise UserError(f"{uri}: {why}") from None
