"""``from bench import run_suite``: the pipeline of ``rbench run``, called from Python."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from made_checkpoints import save
from typer.testing import CliRunner

from bench import run_suite
from bench.cli.app import app
from bench.core.analysis import AnalysisInfo
from bench.core.errors import UserError
from bench.core.paths import Folder
from bench.core.result import CellInfo, Row
from bench.metrics import robust_accuracy
from bench.run import chunks, probing
from bench.run.probing import Probed
from bench.suite.plan import Plan
from bench.suite.watcher import Status, Summary, Watcher, Watchers

pytestmark = pytest.mark.process

N = 8


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: two checkpoints, images, and the suite below."""
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "checkpoints" / "first", "bn", 1)
    save(tmp_path / "checkpoints" / "second", "in", 2)
    x = np.random.default_rng(0).random((N, 1, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "made.npz", x=x, y=np.arange(N) % 3)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny()))
    return tmp_path


def tiny() -> dict[str, Any]:
    """A suite of 4 cells and an analysis."""
    return {
        "suite": "tiny",
        "data": {"name": "npz:made.npz"},
        "threat_model": {"norm": "linf", "eps": 0.1},
        "batch_size": 4,
        "convergence_images": 0,
        "sentinel": False,
        "search": "exact",
        "models": ["first", "second"],
        "attacks": ["natural", {"attack": "pgd", "params": {"n_iter": 2}}],
        "analyses": ["gradient_similarity"],
        "reports": ["leaderboard"],
    }


class Told(Watcher):
    """Keeps what it is told, in order."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def begin(self, plan: Plan, costs: Mapping[str, float], n_analyses: int) -> None:
        self.calls.append(("begin", len(plan.cells), len(costs), n_analyses))

    def show(self, info: CellInfo, rows: list[Row]) -> None:
        self.calls.append("show")

    def cells_ended(
        self, summary: Summary, alarms: Mapping[str, tuple[str, ...]], folder: Folder
    ) -> None:
        self.calls.append(("cells", summary.ran, summary.kept))

    def analysis_ended(self, label: str, info: AnalysisInfo) -> None:
        self.calls.append(label)

    def stopping(self, exit_code: int) -> None:
        self.calls.append(("stopping", exit_code))

    def end(self, reports: Sequence[Folder], status: Status) -> None:
        self.calls.append(("end", len(reports), status))


def test_a_run_returns_its_rows_its_reports_and_how_it_ended(made: Path) -> None:
    told = Told()
    run = run_suite("tiny.yaml", workers=1, device="cpu", watcher=told)
    assert (run.status, run.exit_code, run.cells.ran, run.analyses.ran) == ("finished", 0, 4, 1)
    assert run.folder == Path("reports/tiny") and "finished, 4 cells" in repr(run)
    assert {"leaderboard.md", "report.html"} <= {path.name for path in run.reports}
    assert all(path.is_file() for path in run.reports)
    assert told.calls[0] == ("begin", 4, 4, 1)
    assert told.calls[1:5] == ["show"] * 4 and ("cells", 4, 0) in told.calls
    assert told.calls[-2:] == ["gradient_similarity", ("end", len(run.reports), "finished")]

    rows, table = run.rows(), run.table()
    assert len(rows) == 4 * N and {"model", "attack", "index", "robust"} <= set(rows.columns)
    for cell in run.plan.cells:
        info, stored = run.store.read_cell(cell.cell_id)
        found, line = robust_accuracy(stored, info.cluster), table.loc[info.spec.checkpoint]
        line = line.loc[cell.attack_label]
        assert (line["accuracy"], line["low"], line["high"]) == (found.value, found.low, found.high)
        assert (line["status"], line["n"], line["method"]) == ("ok", N, found.method)
        mine = rows[(rows["model"] == cell.model_label) & (rows["attack"] == cell.attack_label)]
        assert list(mine["robust"]) == [row.robust for row in stored]


def test_what_is_stored_is_not_run_again(made: Path) -> None:
    first = run_suite("tiny.yaml", out=made / "out", workers=1, device="cpu")
    again = run_suite("tiny.yaml", out=made / "out", workers=1, device="cpu")
    assert (again.cells.ran, again.cells.kept, again.analyses.kept) == (0, 4, 1)
    assert again.table().equals(first.table()) and again.alarms == first.alarms


def test_python_and_the_command_line_run_the_same(made: Path) -> None:
    run = run_suite("tiny.yaml", out="python", workers=1, device="cpu")
    arguments = ["run", "tiny.yaml", "--out", "command", "--workers", "1", "--device", "cpu"]
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert done.exit_code == run.exit_code == 0, done.output
    assert "4 cells done in" in done.output and "wrote command/leaderboard.md" in done.output
    for name in ("leaderboard.md", "leaderboard.csv", "leaderboard.tex"):
        assert (made / "python" / name).read_bytes() == (made / "command" / name).read_bytes()
    assert run_suite("tiny.yaml", out="command", device="cpu").rows().equals(run.rows())


def test_images_that_change_between_two_runs_are_read_again(made: Path) -> None:
    first = run_suite("tiny.yaml", out="first", workers=1, device="cpu")
    with np.load(made / "made.npz") as before:
        np.savez(made / "made.npz", x=before["x"][::-1], y=before["y"][::-1])
    second = run_suite("tiny.yaml", out="second", workers=1, device="cpu")
    assert second.status == "finished"
    assert list(second.rows()["label"]) != list(first.rows()["label"])


def test_a_suite_may_be_a_mapping_and_its_mistakes_are_named(made: Path) -> None:
    assert run_suite(tiny(), workers=1, device="cpu").cells.ran == 4
    with pytest.raises(UserError, match=r"^suite:\d+: attacks\[0\].*'natural'"):
        run_suite(tiny() | {"attacks": ["naturl"]}, device="cpu")


def test_a_failed_cell_leaves_the_run_incomplete(made: Path) -> None:
    weights = made / "checkpoints" / "second" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    told, checkpoints = Told(), made / "checkpoints"
    run = run_suite("tiny.yaml", checkpoints=checkpoints, workers=1, device="cpu", watcher=told)
    assert (run.status, run.exit_code) == ("incomplete", 3)
    assert [label for label, _ in run.cells.incomplete] == ["second / natural", "second / pgd"]
    assert [label for label, _ in run.analyses.incomplete] == ["gradient_similarity"]
    line = run.table().loc[("second", "pgd")]
    assert line["status"] == "incomplete" and np.isnan(line["accuracy"])
    assert "sha256" in line["reason"]
    assert told.calls[-1] == ("end", len(run.reports), "incomplete")


def test_left_out_models_are_named(made: Path) -> None:
    suite = tiny() | {"models": ["first", "gone"], "analyses": []}
    with pytest.raises(UserError, match="gone"):
        run_suite(suite, device="cpu")
    run = run_suite(suite, workers=1, device="cpu", skip_missing=True)
    assert run.plan.absent == {"gone": "gone"} and len(run.table()) == 2


class Signals(Told):
    """Sends a signal to this process when the first part of a cell has ended."""

    def progress(self, cell_id: str, cost: float) -> None:
        if not any("stopping" in call for call in self.calls):
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_stops_a_run_which_then_goes_on(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "PASSES", 1)
    told = Signals()
    stopped = run_suite("tiny.yaml", workers=1, device="cpu", watcher=told)
    assert (stopped.status, stopped.exit_code) == ("stopped", 143)
    assert stopped.cells.open > 0 and not stopped.reports
    assert ("stopping", 143) in told.calls and told.calls[-1] == ("end", 0, "stopped")
    assert "missing" in set(stopped.table()["status"])
    assert run_suite("tiny.yaml", workers=1, device="cpu").status == "finished"


def test_watchers_are_told_of_the_end_when_a_run_fails(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "run_probe", lambda one: Probed(differs="is odd"))
    first, second = Told(), Told()
    with pytest.raises(UserError, match="first: is odd"):
        run_suite("tiny.yaml", workers=1, device="cpu", watcher=Watchers(first, second))
    assert first.calls == second.calls == [("begin", 4, 4, 1), ("end", 0, "stopped")]


def test_importing_the_function_takes_no_torch() -> None:
    code = "import sys; from bench import run_suite; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
