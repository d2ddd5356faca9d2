"""A sound folder for each hostile file, and the command line as a user has it."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hostile_place import Place, Rbench, make_place

from bench.cli.app import main
from bench.cli.options import console
from bench.run import job

SECONDS = 60
"""More than any refusal takes, on a machine that does much else."""


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that all others are copies of."""
    root = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        return make_place(root).root


@pytest.fixture
def place(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A copy of the sound folder, in which the test works."""
    root = tmp_path / "place"
    shutil.copytree(sound, root)
    monkeypatch.chdir(root)
    monkeypatch.setenv("RBENCH_CHECKPOINTS", "checkpoints")
    monkeypatch.setenv("RBENCH_DATA", str(root))
    for remembered in vars(job).values():
        if hasattr(remembered, "cache_clear"):
            remembered.cache_clear()  # of another test's folder
    monkeypatch.setattr(console, "width", 2_000)
    return Place(root)


@contextmanager
def _in_time() -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError(f"not done after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def rbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Rbench:
    """Runs a command as its script does; returns exit code, output and errors.

    What is no expected failure comes out as the exception that it is, and so fails the test.
    """

    def run(arguments: list[str]) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rbench", *arguments])
        with _in_time(), pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run
