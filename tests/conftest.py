"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

settings.register_profile("no_deadline", deadline=None)  # machines are noisy
settings.load_profile("no_deadline")


@pytest.fixture(autouse=True)
def _fixed_global_seed() -> None:
    """Makes a test's result independent of the tests before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps what a test finds out about the machine from other tests, and from the user."""
    monkeypatch.setenv("RBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with the papers' tables and extra data sets; tests that need it skip without."""
    folder = Path(os.environ.get("RBENCH_SHARED", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip("needs the extra data folder; set RBENCH_SHARED to it")
    return folder
