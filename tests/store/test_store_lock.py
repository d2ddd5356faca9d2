"""A run folder has one writer: others are told who it is, and the dead hold nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from upath import UPath

from bench.core.errors import UserError
from bench.store import lock
from bench.store.lock import Holder, locked

HOLD = """
import sys, time
from bench.core.paths import folder_at
from bench.store.lock import locked
with locked(folder_at(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def another(folder: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a folder."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


@pytest.mark.process
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_the_second_is_told_who_holds_the_folder_and_a_dead_holder_is_no_holder(
    tmp_path: Path, scheme: str
) -> None:
    with another(f"{scheme}{tmp_path}") as process:
        message = rf"in use by process {process.pid} on {socket.gethostname()}, since 2.*--out"
        with pytest.raises(UserError, match=message), locked(tmp_path):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        with locked(tmp_path):
            pass
    with locked(tmp_path):
        pass


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> UPath:
    """A folder of an object store, whose holders give signs of life every 20 ms."""
    monkeypatch.setattr(lock, "BEAT", 0.02)
    return UPath(f"memory://{uuid4().hex}/run")


def test_an_object_store_is_held_by_signs_of_life(bucket: UPath) -> None:
    with locked(bucket):
        holder = bucket / "store" / "holder.json"
        first = Holder.model_validate_json(holder.read_bytes())
        assert (first.pid, first.host) == (os.getpid(), socket.gethostname())
        ends = time.monotonic() + 20
        while Holder.model_validate_json(holder.read_bytes()).beats < 2:
            assert time.monotonic() < ends
            time.sleep(0.01)
        with pytest.raises(UserError, match=rf"in use by process {os.getpid()}"), locked(bucket):
            pass
    assert not holder.is_file()


@pytest.mark.parametrize("left_by", ["silent elsewhere", "dead here", "alive here"])
def test_the_silent_and_the_dead_hold_no_object_store(bucket: UPath, left_by: str) -> None:
    host = "elsewhere" if left_by == "silent elsewhere" else socket.gethostname()
    pid = 2**22 + 1 if left_by == "dead here" else os.getpid()
    left = Holder.me().model_copy(update={"host": host, "pid": pid})
    (bucket / "store").mkdir(parents=True)
    (bucket / "store" / "holder.json").write_bytes(left.model_dump_json().encode())
    if left_by == "alive here":
        with pytest.raises(UserError, match="in use"), locked(bucket):
            pass
    else:
        with locked(bucket):
            pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    message = r"file/run/store: cannot be written \(Not a directory\)"
    with pytest.raises(UserError, match=message), locked(tmp_path / "file" / "run"):
        pass
