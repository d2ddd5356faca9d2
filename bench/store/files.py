"""Atomic writes: a kill leaves the old content or the new, never part of it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.core.errors import UserError
from bench.core.paths import Folder


@contextmanager
def writing(path: Folder) -> Iterator[None]:
    """Turns an ``OSError`` (disk full, no permission, store not reachable) into a ``UserError``."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); what is stored stays: make "
            "room or pick another place, then run the same command again to go on"
        ) from error


def write_synced(path: Path, content: bytes) -> None:
    """Writes a file and flushes it to disk."""
    with path.open("wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())


def sync_folder(folder: Path) -> None:
    """Flushes a folder's entries to disk, so that a rename survives a power failure.

    Windows opens no folders, and has no such call.
    """
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Folder, content: bytes) -> None:
    """Replaces a file's content atomically, creating its folder if needed.

    Raises:
        UserError: When it cannot be written.
    """
    with writing(path):
        if isinstance(path, Path):
            _replace_file(path, content)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)  # an object store shows only complete objects


def _replace_file(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        write_synced(temporary, content)
        temporary.chmod(0o644)  # mkstemp's 0600 would hide a shared run folder's files
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_folder(target: Folder, files: Mapping[str, bytes]) -> None:
    """Writes a folder of files atomically, replacing an older one of its name.

    A folder appears whole or not at all; a name that starts with a dot is left over from an
    interrupted write. An object store cannot rename a folder: there the last of the files, written
    after the others, marks it as complete.

    Raises:
        UserError: When it cannot be written.
    """
    with writing(target):
        if isinstance(target, Path):
            _replace_folder(target, files)
        else:
            *others, last = files
            target.mkdir(parents=True, exist_ok=True)
            (target / last).unlink(missing_ok=True)
            for name in (*others, last):
                (target / name).write_bytes(files[name])


def _replace_folder(target: Path, files: Mapping[str, bytes]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        temporary.chmod(0o755)  # mkdtemp's 0700 would hide the folder in a shared run folder
        for name, content in files.items():
            write_synced(temporary / name, content)
        sync_folder(temporary)
        _put_in_place(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _put_in_place(new: Path, target: Path) -> None:
    """Renames a finished folder to its final name.

    A folder cannot be renamed over another, so an old one is moved away first. After a kill in
    between the folder is missing, and is made again.
    """
    if target.exists():
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        target.rename(aside / "old")
        new.rename(target)
        shutil.rmtree(aside)
    else:
        new.rename(target)
    sync_folder(target.parent)


def remove_folder(target: Folder) -> None:
    """Deletes a folder of files if it exists; after a kill it is complete or no longer counts.

    Raises:
        UserError: When it cannot be deleted.
    """
    with writing(target):
        if not target.is_dir():
            return
        if isinstance(target, Path):
            aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
            target.rename(aside / "old")
            shutil.rmtree(aside)
        else:
            for path in sorted(target.iterdir(), key=lambda path: path.name != "info.json"):
                path.unlink()


def folder_size(folder: Folder) -> int:
    """Returns the bytes of the files in a folder, 0 if there is none."""
    if not folder.is_dir():
        return 0
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
