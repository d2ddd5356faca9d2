"""Reads arrays out of a pickle without letting it run anything.

CIFAR is distributed as pickles. A pickle may name any function for the reader to call; this
reader knows only the names that stand for a numpy array, and even these lead to stand-ins of its
own that keep what they are given and nothing more. Every other name is refused.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import UserError
from bench.untrusted.pickle_depth import check_depth

_INTEGERS = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8")


class _Dtype:
    """Stands for ``numpy.dtype`` and keeps its code and byte order."""

    def __init__(self, code: Any = None, *_: Any) -> None:
        self.code = code
        self.order = "|"

    def __setstate__(self, state: Any) -> None:
        self.order = _text(state[1])


class _Array:
    """Stands for ``numpy.ndarray`` and keeps the state that an array is rebuilt from."""

    def __init__(self, *_: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def rebuild(self) -> NDArray[Any]:
        """Returns the array; raises ``ValueError`` unless it holds integers."""
        _, shape, dtype, fortran, raw = self.state
        code, order = _text(dtype.code), dtype.order
        if code not in _INTEGERS or order not in "<>|=" or not isinstance(raw, bytes):
            raise ValueError(f"an array of type '{code}', expected integers")
        if not isinstance(shape, tuple) or not all(type(n) is int for n in shape):
            raise ValueError("an array whose shape is no tuple of integers")
        if any(not 0 <= n <= len(raw) for n in shape):
            raise ValueError("an array of more values than there are bytes")
        array = np.frombuffer(raw, np.dtype(order + code))
        if array.size != math.prod(shape):
            raise ValueError(f"{array.size} values for an array of shape {shape}")
        return array.reshape(shape, order="F" if fortran else "C")


class _FlatArray(_Array):
    """Stands for numpy's ``_frombuffer``, which protocol 5 rebuilds an array with."""

    def __init__(self, raw: Any, dtype: Any, shape: Any, order: Any) -> None:
        content = bytes(raw) if isinstance(raw, bytearray) else raw
        self.state = (1, shape, dtype, _text(order) == "F", content)


class _Encoded(bytes):
    """Stands for ``codecs.encode``, which Python 3 wraps bytes in for protocol 2."""

    def __new__(cls, text: str, _encoding: str) -> _Encoded:
        return super().__new__(cls, text.encode("latin1"))

    def __setstate__(self, state: Any) -> None:
        # Without this, a pickle could set attributes of the class itself.
        raise ValueError("bytes have no state")


_STAND_INS: dict[tuple[str, str], type[_Array | _Dtype | _Encoded]] = {
    ("_codecs", "encode"): _Encoded,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.numeric", "_frombuffer"): _FlatArray,
    ("numpy._core.numeric", "_frombuffer"): _FlatArray,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
}


class _ArrayUnpickler(pickle.Unpickler):
    """Knows the names that rebuild a numpy array and no others."""

    def find_class(self, module: str, name: str, /) -> Any:
        """Returns a stand-in; raises ``UserError`` for every name that is not an array's."""
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise UserError(
                f"it asks to call '{module}.{name}', which was refused; expected a file of arrays "
                "and lists only; do not trust this file, fetch it again"
            ) from None


def read_array_pickle(path: Path) -> dict[str, Any]:
    """Reads a pickled dictionary of integer arrays, strings, numbers and plain containers.

    Arrays are understood as Python 2's numpy wrote them (CIFAR's own files) and as Python 3
    writes them. Keys that are bytes become strings.

    Raises:
        UserError: When the file is missing, damaged, not such a dictionary, or asks for anything
            to be called; nothing is called then.
    """
    try:
        raw = path.read_bytes()
        _check_memo(raw)
        check_depth(io.BytesIO(raw))
        content = _ArrayUnpickler(io.BytesIO(raw), encoding="bytes").load()
        if not isinstance(content, dict):
            raise ValueError(f"a {type(content).__name__}, expected a dictionary")
        if not all(isinstance(key, str | bytes) for key in content):
            raise ValueError("a dictionary with keys that are not text")
        return {_text(key): _rebuilt(value) for key, value in content.items()}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; fetch the data set again") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (
        pickle.UnpicklingError,
        ArithmeticError,
        AttributeError,
        EOFError,
        LookupError,
        MemoryError,
        OSError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        # A damaged pickle can end in any of these: its bytes are a program for a small machine.
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise UserError(f"{path}: damaged data file ({reason}); fetch it again") from None


def _check_memo(raw: bytes) -> None:
    """Raises ``ValueError`` for a memo index that no pickle of this length can need.

    The reader would make room for all indices below it, gigabytes for a few damaged bytes.
    """
    for opcode, argument, _ in pickletools.genops(raw):
        stores = opcode.name in ("PUT", "BINPUT", "LONG_BINPUT")
        if stores and isinstance(argument, int) and argument >= len(raw):
            raise ValueError(f"memo index {argument}")


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


def _rebuilt(value: Any) -> Any:
    return value.rebuild() if isinstance(value, _Array) else value
