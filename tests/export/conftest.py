"""Stored runs, made row by row as for the reports' tests, and the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))

from report_runs import ATTACKS, HOSTILE, RunBuilder, make_rows, suite_of

from bench.cli.app import main

Rbench = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A complete, an incomplete, an alarmed, a refused and a missing cell; a hostile label."""
    models = [
        {"checkpoint": "fmnist-resnet20-bn", "label": "bn"},
        {"checkpoint": "fmnist-resnet20-in", "label": HOSTILE},
    ]
    run = RunBuilder(tmp_path / "run", suite_of(["leaderboard"], models, ATTACKS))
    run.add(0, 0, make_rows([1] * 15 + [0]))
    run.add(0, 1, make_rows([1, 0] * 8), alarms=("more steps break more",))
    run.add(0, 2, make_rows([1] * 8), complete=False, error="batch 2: ended")
    run.plan(0, 3, refused="drops samples from the batch")
    run.add(1, 0, make_rows([1] * 16))
    return run.finish()


@pytest.fixture
def rbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Rbench:
    """Runs a command as its script does; returns exit code, output and errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run
