"""Fixtures that every test may use."""

from __future__ import annotations

import importlib
import multiprocessing.process
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from hypothesis import settings

from bench.core.registry import plugins

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


@pytest.fixture(autouse=True)
def _fast_tests_start_no_process(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keeps ``make test-fast`` fast: there a test that starts a process must be marked as such."""
    if "not process" not in request.config.option.markexpr:
        return

    start = subprocess.Popen.__init__

    def refuse(*args: Any, **options: Any) -> None:
        if _while_importing():  # GitPython, which Foolbox imports, asks git for its version
            return start(*args, **options)
        pytest.fail("it starts a process: mark it with pytest.mark.process")

    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", refuse)


def _while_importing() -> bool:
    frame: FrameType | None = sys._getframe()
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with the papers' tables and extra data sets; tests that need it skip without."""
    folder = Path(os.environ.get("RBENCH_SHARED", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip("needs the extra data folder; set RBENCH_SHARED to it")
    return folder


@pytest.fixture
def install_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., None]]:
    """Puts packages on the path as pip would leave them: a module, and metadata beside it."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))

    def install(
        name: str, groups: Mapping[str, Mapping[str, str]], code: str, version: str = "1.0"
    ) -> None:
        module = name.replace("-", "_")
        info = folder / f"{module}-{version}.dist-info"
        info.mkdir()
        info.joinpath("METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        lines = []
        for group, entries in groups.items():
            lines += [f"[{group}]", *(f"{key} = {target}" for key, target in entries.items())]
        info.joinpath("entry_points.txt").write_text("\n".join(lines) + "\n")
        (folder / f"{module}.py").write_text(code)
        importlib.invalidate_caches()
        plugins.cache_clear()

    modules = set(sys.modules)
    plugins.cache_clear()
    yield install
    plugins.cache_clear()
    for module in set(sys.modules) - modules:
        if str(folder) in str(getattr(sys.modules[module], "__file__", "")):
            del sys.modules[module]
