"""How deep a pickle nests, found out without loading it.

A tuple as a key is hashed, which recurses in C without a limit: one in another, a million times,
would end the process. No reader of pickles guards against it, not even those that call nothing.
"""

from __future__ import annotations

import os
import pickletools
import zipfile
from pathlib import Path
from typing import IO

MAX_DEPTH = 1_000

_OLD_PICKLES = 5
"""One after the other at the beginning of a file that ``torch.save`` wrote before 1.6."""

_ADDS = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS")
_STORES = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")
_FETCHES = ("GET", "BINGET", "LONG_BINGET")


def check_torch_file(path: Path) -> None:
    """Reads every pickle in a file of ``torch.save``.

    Raises:
        ValueError: When one nests deeper than ``MAX_DEPTH``, or is no pickle.
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
    """Reads one pickle, up to its end, and leaves the handle there.

    Raises:
        ValueError: When it nests deeper than ``MAX_DEPTH``, or is no pickle.
    """
    machine = _Machine()
    for opcode, argument, _ in pickletools.genops(handle):
        machine.step(opcode, argument)


class _Machine:
    """The pickle machine, with depths in place of values."""

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
        """Takes what an opcode takes; what it makes is one deeper than all of it."""
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
