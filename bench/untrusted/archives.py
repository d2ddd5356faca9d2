"""Archives: ``.npz`` files of plain arrays, and tar files that are extracted into one folder."""

from __future__ import annotations

import tarfile
import tokenize
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import READ_ERRORS, UserError, message_of

_NPZ_ERRORS: tuple[type[Exception], ...] = (
    *READ_ERRORS,
    RuntimeError,  # encrypted, or compressed by an unknown method
    tokenize.TokenError,  # headers are parsed as Python literals, never run
    zipfile.BadZipFile,
)


def read_npz_arrays(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Reads the arrays ``x`` and ``y`` of an ``.npz`` file; pickled objects are never loaded.

    Raises:
        UserError: When the file is missing, damaged, not an ``.npz`` file, or lacks a key.
    """
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            raise UserError(f"{path}: expected an .npz file with keys x and y, found one array")
        with content:
            if not {"x", "y"}.issubset(content):
                found = ", ".join(content) or "none"
                raise UserError(f"{path}: expected keys x and y, found {found}")
            return content["x"], content["y"]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected an .npz file with keys x and y") from None
    except _NPZ_ERRORS as error:
        why = message_of(error, 200)
        raise UserError(f"{path}: not a readable .npz file of plain arrays ({why})") from None


def open_npy(path: Path) -> NDArray[Any]:
    """Opens an ``.npy`` file of one plain array; what is not used is not read into memory.

    Raises:
        FileNotFoundError: When there is no such file.
        UserError: When it is damaged, or holds anything but one plain array.
    """
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise
    except _NPZ_ERRORS as error:
        raise UserError(f"{path}: not a readable .npy file ({message_of(error, 200)})") from None
    if not isinstance(found, np.ndarray):
        raise UserError(f"{path}: expected one array, found an archive")
    return found


def read_numpy_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Reads all arrays of an ``.npz`` or ``.npy`` file by name; a lone one is called ``array``.

    Pickled objects are never loaded.

    Raises:
        UserError: When the file is missing, damaged, or holds anything but plain arrays.
    """
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return {"array": content}
        with content:
            found = {name: content[name] for name in content}
        return {name: array for name, array in found.items() if isinstance(array, np.ndarray)}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected arrays of np.save or np.savez") from None
    except _NPZ_ERRORS as error:
        why = message_of(error, 200)
        raise UserError(
            f"{path}: not a readable .npy or .npz file of plain arrays ({why}); save them anew "
            "with np.save or np.savez, as numbers, not as objects"
        ) from None


@contextmanager
def tar_members_stay_inside() -> Iterator[None]:
    """Makes every tar extraction in this context refuse members that would leave its folder.

    Raises:
        UserError: When this Python version cannot do so.
    """
    refusing = getattr(tarfile, "data_filter", None)
    if refusing is None:
        raise UserError("downloads need Python 3.11.4 or newer, which checks archives; upgrade it")
    before = vars(tarfile.TarFile).get("extraction_filter")
    tarfile.TarFile.extraction_filter = staticmethod(refusing)
    try:
        yield
    finally:
        tarfile.TarFile.extraction_filter = before
