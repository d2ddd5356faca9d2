"""A lock by which one process at a time writes into a run folder."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import ValidationError

from bench.core.errors import UserError
from bench.core.host import now
from bench.core.paths import Folder
from bench.core.spec import Spec
from bench.store.files import write_atomically, writing

LOCK = ".lock"
"""Name of the locked file."""

BEAT = 10.0
"""Seconds between two heartbeats in an object store."""

PATIENCE = 3.5
"""Multiple of ``BEAT`` after which a silent holder counts as gone."""


class Holder(Spec):
    """The process that writes into a run folder.

    Attributes:
        pid: Process id.
        host: Name of its machine.
        since: ISO 8601, UTC.
        token: Unique, as process ids are reused.
        beats: Heartbeats so far.
    """

    pid: int
    host: str
    since: str
    token: str
    beats: int = 0

    @classmethod
    def me(cls) -> Holder:
        """Returns the holder for this process."""
        return cls(
            pid=os.getpid(),
            host=socket.gethostname(),
            since=now(),
            token=secrets.token_hex(8),
        )

    @property
    def alive(self) -> bool | None:
        """Whether it runs; ``None`` where only a heartbeat tells.

        That is on another machine, and on Windows, where signal 0 is Ctrl-C.
        """
        if self.host != socket.gethostname() or hasattr(signal, "CTRL_C_EVENT"):
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # another user's process
        return True


@contextmanager
def locked(folder: Folder) -> Iterator[None]:
    """Locks a run folder for this process in this context.

    In a file system this is a file lock, which the system releases when the process dies. Object
    stores have no locks: there the holder writes a heartbeat every ``BEAT`` seconds, and loses the
    folder after a while without one, by the clock of the waiting process.

    Raises:
        UserError: When another process holds the folder, with its pid and host; when the folder
            cannot be written.
    """
    root = folder / "store"
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
    with _in_file_system(root) if isinstance(root, Path) else _in_object_store(root):
        yield


@contextmanager
def _in_file_system(root: Path) -> Iterator[None]:
    lock = FileLock(root / LOCK, timeout=0)
    with writing(root):
        try:
            lock.acquire()
        except Timeout:
            raise _busy(root, _read(root)) from None
    try:
        write_atomically(_path(root), Holder.me().model_dump_json().encode())
        yield
    finally:
        _path(root).unlink(missing_ok=True)
        lock.release()


@contextmanager
def _in_object_store(root: Folder) -> Iterator[None]:
    holder = _read(root)
    if holder is not None:
        alive = holder.alive
        if _lives(root, holder) if alive is None else alive:
            raise _busy(root, holder)
    me = Holder.me()
    write_atomically(_path(root), me.model_dump_json().encode())
    found = _read(root)
    if found is None or found.token != me.token:
        raise _busy(root, found)  # of two at the same time, the last to write wins
    ended = threading.Event()
    beating = threading.Thread(target=_beat, args=(root, me, ended), daemon=True)
    beating.start()
    try:
        yield
    finally:
        ended.set()
        beating.join()
        _path(root).unlink(missing_ok=True)


def _lives(root: Folder, holder: Holder) -> bool:
    """Returns whether a holder gives a heartbeat in time."""
    ends = time.monotonic() + BEAT * PATIENCE
    while time.monotonic() < ends:
        time.sleep(BEAT / 4)
        found = _read(root)
        if found is None:
            return False
        if found != holder:
            return True
    return False


def _beat(root: Folder, me: Holder, ended: threading.Event) -> None:
    beats = 0
    while not ended.wait(BEAT):
        beats += 1
        try:
            content = me.model_copy(update={"beats": beats}).model_dump_json().encode()
            write_atomically(_path(root), content)
        except UserError:
            continue  # the store is not reachable; the next result to be stored will report it


def _path(root: Folder) -> Folder:
    return root / "holder.json"


def _read(root: Folder) -> Holder | None:
    try:
        return Holder.model_validate_json(_path(root).read_bytes())
    except (OSError, ValidationError):
        return None


def _busy(root: Folder, holder: Holder | None) -> UserError:
    who = "another process"
    if holder is not None:
        who = f"process {holder.pid} on {holder.host}, since {holder.since}"
    return UserError(
        f"{root.parent}: in use by {who}; wait until it ends, stop it, or choose another run "
        "folder with --out"
    )
