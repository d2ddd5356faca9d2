"""rbench where the system is not Linux: what macOS or Windows lack is hidden, and runs go on."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_checkpoints import save

import bench
from bench.core import host
from bench.core.errors import UserError
from bench.run.local import _how_it_died
from bench.store import lock
from bench.store.files import write_atomically, write_folder
from bench.store.lock import Holder, locked

HIDE = """
import os
for name in ("sched_getaffinity", "sched_setaffinity", "O_DIRECTORY", "getloadavg", "killpg"):
    if hasattr(os, name):
        delattr(os, name)
opened = os.open
def open_files_only(path, flags, *args, **kwargs):
    if os.path.isdir(path) and "dir_fd" not in kwargs and "run" in str(path):
        raise PermissionError(13, "Permission denied", str(path))
    return opened(path, flags, *args, **kwargs)
os.open = open_files_only
"""
"""Runs at the start of every process of a test, workers too."""


@pytest.mark.process
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_run_needs_nothing_that_only_linux_has(tmp_path: Path, workers: str) -> None:
    save(tmp_path / "checkpoints" / "first", "bn", 1)
    x = np.random.default_rng(0).random((8, 1, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "made.npz", x=x, y=np.arange(8) % 3)
    suite = {
        "suite": "tiny",
        "data": {"name": "npz:made.npz"},
        "threat_model": {"norm": "linf", "eps": 0.1},
        "batch_size": 4,
        "models": ["first"],
        "attacks": ["natural", {"attack": "pgd", "params": {"n_iter": 2}}],
    }
    (tmp_path / "tiny.yaml").write_text(json.dumps(suite), "utf-8")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(HIDE, "utf-8")
    package = Path(bench.__file__).parents[1]
    path = os.pathsep.join(map(str, (tmp_path / "site", package)))
    code = "import os; assert not hasattr(os, 'sched_getaffinity'); import bench.cli as c; c.main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "run", "tiny.yaml", "--out", "run", "--workers", workers],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert (tmp_path / "run" / "leaderboard.md").is_file()


def test_cores_are_counted_without_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert host.usable_cores() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert host.usable_cores() == 1


def test_what_killed_a_worker_is_said_also_where_signals_are_few(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "ended by SIGKILL, 2 times: too little memory" in _how_it_died(-9, 2)
    monkeypatch.delattr(signal, "SIGKILL", raising=False)
    assert _how_it_died(-15, 1) == "its worker process was ended by SIGTERM, 1 times"
    assert _how_it_died(-99, 1) == "its worker process was ended by signal 99, 1 times"


def test_files_are_written_where_folders_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def refuse(path: str, *args: int, **kwargs: int) -> int:
        if os.path.isdir(path) and not kwargs:
            raise PermissionError(13, "Permission denied")
        return opened(path, *args, **kwargs)

    monkeypatch.delattr(os, "O_DIRECTORY", raising=False)
    monkeypatch.setattr(os, "open", refuse)
    write_atomically(tmp_path / "new" / "file", b"one")
    write_folder(tmp_path / "folder", {"a": b"1"})
    write_folder(tmp_path / "folder", {"a": b"2"})
    assert (tmp_path / "new" / "file").read_bytes() == b"one"
    assert (tmp_path / "folder" / "a").read_bytes() == b"2"
    with locked(tmp_path):
        assert (tmp_path / "store" / "holder.json").is_file()


def test_where_signal_0_is_ctrl_c_no_process_is_sent_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Windows ``os.kill(pid, 0)`` interrupts the process: the heartbeat has to tell."""
    from upath import UPath

    monkeypatch.setattr(signal, "CTRL_C_EVENT", 0, raising=False)
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("a signal was sent"))
    monkeypatch.setattr(lock, "BEAT", 0.02)
    bucket = UPath(f"memory://{tmp_path.name}-ctrl-c/run")
    left = Holder.me().model_copy(update={"host": socket.gethostname()})
    (bucket / "store").mkdir(parents=True)
    (bucket / "store" / "holder.json").write_bytes(left.model_dump_json().encode())
    # The first gave no sign of life.
    with locked(bucket), pytest.raises(UserError, match="in use"), locked(bucket):
        pass
