"""The command line as a user meets it: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]


def rbench(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200"}
    environment.pop("RBENCH_CHECKPOINTS", None)
    command = [sys.executable, "-c", "from bench.cli import main; main()", *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )


SUITE = """
suite: smoke
title: Smoke
data: {name: fashion-mnist, limit: 8, seed: 0, stratified: true}
threat_model: {norm: linf, eps: 0.1}
batch_size: 4
models:
  - fmnist-resnet20-bn
  - {checkpoint: fmnist-resnet20-bn, stats: batch}
attacks:
  - natural
  - {attack: "torchattacks:FGSM"}
  - {attack: "torchattacks:DeepFool", params: {n_iter: 1}}
reports: [leaderboard, stats_table]
"""


def test_a_suite_runs_to_tables_and_is_not_run_twice(tmp_path: Path) -> None:
    suite, out = tmp_path / "smoke.yaml", tmp_path / "out"
    suite.write_text(SUITE)
    first = rbench("run", str(suite), "--out", str(out), "--workers", "1")
    assert first.returncode == 0, first.stderr
    assert "5 cells done" in first.stdout and "1 refused" in first.stdout
    names = {path.name for path in out.iterdir()}
    kinds = ("leaderboard", "stats_table")
    tables = {f"{k}.{e}" for k in kinds for e in ("md", "tex", "csv")}
    assert names == {"store", "report.html"} | tables
    files = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    again = rbench("run", str(suite), "--out", str(out))
    assert "0 cells done" in again.stdout and "5 already stored" in again.stdout
    assert "to run them again: --out" in again.stdout
    assert files == {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    report = rbench("report", str(out))
    assert report.returncode == 0
    assert files == {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}


@pytest.mark.parametrize(
    ("old", "new", "fragments"),
    [
        ("torchattacks:FGSM", "torchattacks:FSGM", ["bad.yaml:12", "attacks[1]", "FGSM"]),
        ("eps: 0.1", "eps: 8", ["bad.yaml:5", "eps", "8/255"]),
        ("fmnist-resnet20-bn\n", "fmnist-resnet20-bnn\n", ["bad.yaml:8", "fmnist-resnet20-bn'"]),
        ("limit: 8", "limits: 8", ["bad.yaml:4", "data.limits", "limit"]),
    ],
)
def test_a_wrong_suite_is_refused_with_its_line(
    tmp_path: Path, old: str, new: str, fragments: list[str]
) -> None:
    suite = tmp_path / "bad.yaml"
    suite.write_text(SUITE.replace(old, new))
    done = rbench("run", str(suite), "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert all(fragment in done.stderr for fragment in fragments), done.stderr
    assert not (tmp_path / "out").exists()


def test_misuse_has_one_message_and_exit_code_2(tmp_path: Path) -> None:
    for arguments, fragment in (
        (["run", "tabel1"], "table1"),
        (["report", str(tmp_path)], "run.json"),
        (["list", "atacks"], "attacks"),
        (["train", str(tmp_path / "none.yaml")], "expected a training recipe"),
        (["run", "quickstart", "--device", "tpu"], "--device"),
        (["data", "fetch", "imagenet"], "imagenet"),
    ):
        done = rbench(*arguments)
        assert done.returncode == 2, (arguments, done.stdout, done.stderr)
        assert fragment in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_altered_weights_leave_a_gap_that_is_named(tmp_path: Path) -> None:
    checkpoints = tmp_path / "checkpoints"
    source = ROOT / "checkpoints" / "fmnist-resnet20-bn"
    for name in ("good", "fmnist-resnet20-bn"):
        (checkpoints / name).mkdir(parents=True)
        for file in source.iterdir():
            (checkpoints / name / file.name).write_bytes(file.read_bytes())
    weights = checkpoints / "fmnist-resnet20-bn" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    suite = tmp_path / "smoke.yaml"
    suite.write_text(
        SUITE.replace("  - {checkpoint: fmnist-resnet20-bn, stats: batch}", "  - good")
    )
    done = rbench(
        "run", str(suite), "--out", str(tmp_path / "out"), "--checkpoints", str(checkpoints)
    )
    assert done.returncode == 3, done.stderr
    assert "sha256" in done.stdout and "incomplete" in done.stdout
    leaderboard = (tmp_path / "out" / "leaderboard.md").read_text()
    assert "incomplete" in leaderboard and "| good" in leaderboard


@pytest.mark.parametrize(
    "what", ["attacks", "norms", "models", "datasets", "checkpoints", "suites"]
)
def test_every_listing_prints(what: str) -> None:
    done = rbench("list", what)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 4


def test_a_killed_run_leaves_no_workers_and_is_taken_up_again(tmp_path: Path) -> None:
    suite, out = tmp_path / "smoke.yaml", tmp_path / "out"
    slow = '  - {attack: "torchattacks:PGD", params: {n_iter: 20000}}\nreports'
    suite.write_text(SUITE.replace("reports", slow))
    command = [sys.executable, "-c", "from bench.cli import main; main()", "run", str(suite)]
    command += ["--out", str(out), "--workers", "2"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as parent:
        children = wait_for(lambda: children_of(parent.pid), least=2)
        parent.kill()
    assert wait_for(lambda: [pid for pid in children if not alive(pid)], least=len(children))
    suite.write_text(SUITE)
    again = rbench("run", str(suite), "--out", str(out), "--workers", "1")
    assert again.returncode == 0, again.stderr


def children_of(pid: int) -> list[int]:
    """The process's children, while they run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(look: Callable[[], list[int]], least: int) -> list[int]:
    """Looks until there are enough, for a minute at most."""
    for _ in range(600):
        found = look()
        if len(found) >= least:
            return found
        time.sleep(0.1)
    raise AssertionError(f"expected {least}, found {found}")
