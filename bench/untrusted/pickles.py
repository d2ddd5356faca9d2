"""Pickles, read without running anything in them.

A pickle may name any function for its reader to call. ``read_array_pickle`` knows only the names
that rebuild a numpy array, which CIFAR's files need, and maps even these to stand-ins of its own
that store their arguments; every other name is refused. ``check_depth`` measures how deeply a
pickle nests before anything loads it: a tuple as a dictionary key is hashed recursively in C, so a
million nested tuples would crash the process, and no reader of pickles guards against that.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import pickletools
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import UserError

MAX_DEPTH = 1_000

_OLD_PICKLES = 5
"""Consecutive pickles at the start of a file that ``torch.save`` wrote before version 1.6."""

_ADDS = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS")
_STORES = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")
_FETCHES = ("GET", "BINGET", "LONG_BINGET")
_INTEGERS = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8")


def read_array_pickle(path: Path) -> dict[str, Any]:
    """Reads a pickled dictionary of integer arrays, strings, numbers and plain containers.

    Arrays may be written by numpy under Python 2 (CIFAR's own files) or Python 3. Keys that are
    bytes become strings.

    Raises:
        UserError: When the file is missing, damaged, not such a dictionary, or names anything else
            to be called; nothing is called.
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
        # A damaged pickle can raise any of these: its bytes are a program for a small machine.
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise UserError(f"{path}: damaged data file ({reason}); fetch it again") from None


def check_torch_file(path: Path) -> None:
    """Checks the depth of every pickle in a file of ``torch.save``.

    Raises:
        ValueError: When one nests deeper than ``MAX_DEPTH``, or is not a pickle.
        OSError: When the file cannot be read.
        zipfile.BadZipFile: When it is damaged.
    """
    with path.open("rb") as handle:
        if not zipfile.is_zipfile(handle):
            handle.seek(0)
            for _ in range(_OLD_PICKLES):
                if not handle.read(1):
                    return
                handle.seek(-1, os.SEEK_CUR)
                check_depth(handle)
            return
        with zipfile.ZipFile(handle) as archive:
            for member in archive.infolist():
                if member.filename.endswith(".pkl"):
                    with archive.open(member) as inner:
                        check_depth(inner)


def check_depth(handle: IO[bytes]) -> None:
    """Checks the depth of one pickle; leaves the handle at its end.

    Raises:
        ValueError: When it nests deeper than ``MAX_DEPTH``, or is not a pickle.
    """
    machine = _Machine()
    for opcode, argument, _ in pickletools.genops(handle):
        machine.step(opcode, argument)


class _Machine:
    """Executes a pickle's opcodes on nesting depths in place of values."""

    def __init__(self) -> None:
        self._stack: list[int] = []
        self._marks: list[int] = []
        self._memo: dict[int, int] = {}

    def step(self, opcode: pickletools.OpcodeInfo, argument: object) -> None:
        name = opcode.name
        if name == "MARK":
            self._marks.append(len(self._stack))
        elif name in _STORES:
            place = argument if isinstance(argument, int) else len(self._memo)
            self._memo[place] = self._stack[-1] if self._stack else 0
        elif name in _FETCHES:
            self._stack.append(self._memo.get(argument, 0) if isinstance(argument, int) else 0)
        elif name == "DUP":
            self._stack += self._stack[-1:]
        else:
            self._plain(opcode)

    def _plain(self, opcode: pickletools.OpcodeInfo) -> None:
        """Pops an opcode's operands; its result is one level deeper than the deepest of them."""
        taken: list[int] = []
        if pickletools.markobject in opcode.stack_before:
            start = self._marks.pop() if self._marks else 0
            taken = self._stack[start:]
            del self._stack[start:]
            count = opcode.stack_before.index(pickletools.markobject)
        else:
            count = len(opcode.stack_before)
        if count:
            taken = self._stack[-count:] + taken
            del self._stack[-count:]
        made = 1 + max(taken, default=0)
        if opcode.name in _ADDS and taken:
            made = max(taken[0], 1 + max(taken[1:], default=0))
        if made > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        self._stack += [made] * len(opcode.stack_after)


def _check_memo(raw: bytes) -> None:
    """Raises ``ValueError`` for a memo index that no pickle of this length can need.

    The reader would allocate all indices below it: gigabytes for a few damaged bytes.
    """
    for opcode, argument, _ in pickletools.genops(raw):
        stores = opcode.name in ("PUT", "BINPUT", "LONG_BINPUT")
        if stores and isinstance(argument, int) and argument >= len(raw):
            raise ValueError(f"memo index {argument}")


class _Dtype:
    """Stands in for ``numpy.dtype``; stores its code and byte order."""

    def __init__(self, code: Any = None, *_: Any) -> None:
        self.code = code
        self.order = "|"

    def __setstate__(self, state: Any) -> None:
        self.order = _text(state[1])


class _Array:
    """Stands in for ``numpy.ndarray``; stores the state that an array is rebuilt from."""

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
    """Stands in for numpy's ``_frombuffer``, by which protocol 5 rebuilds an array."""

    def __init__(self, raw: Any, dtype: Any, shape: Any, order: Any) -> None:
        content = bytes(raw) if isinstance(raw, bytearray) else raw
        self.state = (1, shape, dtype, _text(order) == "F", content)


class _Encoded(bytes):
    """Stands in for ``codecs.encode``, which Python 3 uses for bytes in protocol 2."""

    def __new__(cls, text: str, _encoding: str) -> _Encoded:
        return super().__new__(cls, text.encode("latin1"))

    def __setstate__(self, state: Any) -> None:
        # Otherwise a pickle could set attributes of the class itself.
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
    """Resolves only the names that rebuild a numpy array."""

    def find_class(self, module: str, name: str, /) -> Any:
        """Returns a stand-in; raises ``UserError`` for any name that does not rebuild an array."""
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise UserError(
                f"it asks to call '{module}.{name}', which was refused; expected a file of arrays "
                "and lists only; do not trust this file, fetch it again"
            ) from None


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


def _rebuilt(value: Any) -> Any:
    return value.rebuild() if isinstance(value, _Array) else value
