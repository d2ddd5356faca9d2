"""Files of arrays that other tools save: ``.npy``, ``.npz``, and files of ``torch.save``.

Nothing in them is run: numpy loads no objects, torch only tensors and plain containers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import UserError
from bench.untrusted.archives import read_numpy_arrays
from bench.untrusted.weights import read_torch_file

MAX_ARRAYS = 1_000
MAX_DEPTH = 8
"""Containers inside containers."""

_NUMPY, _TORCH = (".npy", ".npz"), (".pt", ".pth", ".th")


def read_arrays(path: Path) -> dict[str, Any]:
    """Reads the arrays and tensors of a file by name, see ``named_arrays``.

    Raises:
        UserError: When the file is missing, damaged, of another format, or asks for code to be run.
    """
    suffix = path.suffix.lower()
    if suffix not in _NUMPY + _TORCH:
        raise UserError(
            f"{path}: expected a file of arrays, {', '.join(_NUMPY + _TORCH)}, found "
            f"'{path.suffix or path.name}'; save the adversarial examples with np.save or "
            "torch.save"
        )
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected adversarial examples, .npz, .npy or .pt")
    if suffix in _NUMPY:
        return dict(read_numpy_arrays(path))
    return named_arrays(read_torch_file(path, wanted="tensor of adversarial examples"), str(path))


def named_arrays(content: object, where: str) -> dict[str, Any]:
    """Returns all arrays and tensors in a value, by name.

    Entries of dictionaries are named by their keys, those of lists and tuples by their positions,
    inner ones as ``outer.inner``; a lone array is called ``array``. A list of numbers is an array.
    Texts and single numbers are left out.

    Args:
        content: An array, a tensor, or containers of them.
        where: What it is, for messages.

    Raises:
        UserError: When it holds too many, or nests too deeply.
    """
    found: dict[str, Any] = {}
    for name, array in _walk(content, "", 0, where):
        found[name] = array
        if len(found) > MAX_ARRAYS:
            raise UserError(f"{where}: more than {MAX_ARRAYS} arrays; join them into one")
    return found


def _walk(content: object, name: str, depth: int, where: str) -> Iterator[tuple[str, Any]]:
    if depth > MAX_DEPTH:
        raise UserError(f"{where}: arrays nested deeper than {MAX_DEPTH} levels; save them flat")
    if hasattr(content, "shape") and hasattr(content, "dtype"):
        yield name or "array", content
    elif isinstance(content, list | tuple) and content and all(map(_is_number, content)):
        yield name or "array", np.asarray(content)
    elif isinstance(content, Mapping | list | tuple):
        items = content.items() if isinstance(content, Mapping) else enumerate(content)
        for key, value in items:
            yield from _walk(value, f"{name}.{key}" if name else str(key), depth + 1, where)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def type_of(array: Any) -> str:
    """Returns the name of an array's or a tensor's type, such as ``float32``."""
    return str(getattr(array.dtype, "name", array.dtype)).removeprefix("torch.")


def as_array(array: Any, where: str) -> NDArray[Any]:
    """Returns an array or a tensor, wherever it lies, as numpy's; 8- and 16-bit floats as float32.

    Raises:
        UserError: When it has no values of its own, such as a sparse or quantized tensor.
    """
    try:
        if hasattr(array, "detach"):
            array = array.detach().cpu()
            if array.is_floating_point() and array.element_size() < 4:
                array = array.float()
            array = array.numpy()
        return np.asarray(array)
    except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(
            f"{where}: a {type(array).__name__} that is no plain array ({why}); save it as a dense "
            "tensor of numbers"
        ) from None
