"""Small stored runs, and the means to build another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import report_kind_runs
from report_runs import RunBuilder


@pytest.fixture
def leaderboard_run(tmp_path: Path) -> Path:
    """Complete, stochastic, refused, incomplete, alarmed and missing cells, and a hostile label."""
    return report_kind_runs.leaderboard_run(tmp_path).finish()


@pytest.fixture
def stats_run(tmp_path: Path) -> Path:
    """A checkpoint under both statistics, one whose P lacks a cell, and one without the choice."""
    return report_kind_runs.stats_run(tmp_path).finish()


@pytest.fixture
def builder(tmp_path: Path) -> Callable[[dict[str, Any]], RunBuilder]:
    """Makes an empty run of a suite."""
    return lambda suite: RunBuilder(tmp_path / "built", suite)
