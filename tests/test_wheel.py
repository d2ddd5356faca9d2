"""The wheel: rbench outside a checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("bench", "rbench", "suites", "checkpoints")
FILES = ("setup.cfg", "setup.py", "pyproject.toml", "README.md", "LICENSE")
QUICKSTART = ["bn", "in", "bn, adversarially trained"]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Builds the wheel from a copy, so that the checkout stays as it is; fetches nothing."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in SOURCES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, source / name)
    (source / "checkpoints" / "fmnist-resnet20-bn" / "train_state.pt").write_bytes(b"of a training")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(out), str(source)], check=True, timeout=300)
    (found,) = out.glob("*.whl")
    return found


def run(command: list[str], folder: Path, **variables: str) -> str:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RBENCH_")}
    environment = kept | {"HOME": str(folder / "home"), "COLUMNS": "200"} | variables
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_an_unpacked_wheel_finds_all_that_it_brings(wheel: Path, tmp_path: Path) -> None:
    with ZipFile(wheel) as file:
        assert not [name for name in file.namelist() if "train_state" in name]
        file.extractall(tmp_path / "site")

    def rbench(*words: str) -> str:
        python = [sys.executable, "-m", "bench", *words]
        return run(python, tmp_path, PYTHONPATH=str(tmp_path / "site"))

    def names(what: str) -> set[str]:
        return {row[what.removesuffix("s")] for row in json.loads(rbench("list", what, "--json"))}

    where = [sys.executable, "-c", "import rbench, bench; print(bench.__file__)"]
    assert "site" in run(where, tmp_path, PYTHONPATH=str(tmp_path / "site"))
    assert {"quickstart", "table1", "rna/table1"} <= names("suites")
    assert {"fmnist-resnet20-bn", "cifar10-resnet20-bn"} <= names("checkpoints")
    assert "fmnist-resnet20-bn" in names("recipes")
    # A folder of one's own beside it hides none of them.
    (tmp_path / "checkpoints").mkdir()
    plan = json.loads(rbench("plan", "quickstart", "--no-time", "--json"))
    assert {cell["model"] for cell in plan["cells"]} == set(QUICKSTART)
    assert "rna/table1" in rbench("published", "list")


@pytest.mark.slow
def test_an_installed_wheel_runs_the_quickstart(wheel: Path, tmp_path: Path) -> None:
    """Fetches torch and all else into an empty environment; takes some minutes."""
    venv.create(tmp_path / "env", with_pip=True)
    run([str(tmp_path / "env/bin/pip"), "install", "--quiet", str(wheel)], tmp_path)
    run([str(tmp_path / "env/bin/rbench"), "run", "quickstart"], tmp_path)
    table = (tmp_path / "reports/quickstart/leaderboard.csv").read_text()
    assert all(label in table for label in QUICKSTART)
