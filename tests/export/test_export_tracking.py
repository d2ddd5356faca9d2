"""Trackers are told of a run, and cannot break one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from bench.cli.app import main
from bench.core.errors import UserError
from bench.core.paths import Where
from bench.core.result import CellInfo
from bench.export.tracking import TRACKERS, Tracking, metrics_of, params_of
from bench.metrics import robust_accuracy
from bench.run.prepare import local_lookup
from bench.store.run_store import RunStore
from bench.suite.load import load_suite
from bench.suite.plan import Plan, make_plan

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"
SUITE = """
suite: tracked
data: {name: fashion-mnist, limit: 8, seed: 0, stratified: true}
threat_model: {norm: linf, eps: 8/255}
batch_size: 4
convergence_images: 0
sentinel: false
models:
  - {checkpoint: fmnist-resnet20-bn, label: "bn: a|b/c"}
attacks:
  - natural
  - {attack: fgsm, label: "FGSM, eps 8/255"}
reports: [leaderboard]
"""
NAMES = ["bn-a-b-c/natural", "bn-a-b-c/FGSM-eps-8-255"]


class Remembering:
    """A tracker that keeps what it is told, or fails where it is asked to."""

    def __init__(self, failing: str = "") -> None:
        self.failing, self.calls = failing, []  # type: ignore[var-annotated]
        self.metrics: dict[str, float] = {}
        self.files: list[str] = []
        self.status = ""

    def _called(self, what: str) -> None:
        self.calls.append(what)
        if what == self.failing:
            raise ConnectionError(f"no server\nat {what}")

    def start(self, name: str, params: Mapping[str, object]) -> None:
        self.name, self.params = name, dict(params)
        self._called("start")

    def log(self, metrics: Mapping[str, float]) -> None:
        self.metrics |= metrics
        self._called("log")

    def finish(self, files: Sequence[Path], status: str) -> None:
        self.files, self.status = [file.name for file in files], status
        self._called("finish")


@pytest.fixture
def registered() -> object:
    """Registers trackers for a test."""
    names: list[str] = []

    def register(name: str, tracker: object) -> None:
        TRACKERS.add(name, lambda: tracker)  # type: ignore[arg-type, return-value]
        names.append(name)

    yield register
    for name in names:
        TRACKERS.remove(name)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    path = tmp_path / "suite.yaml"
    path.write_text(SUITE)
    lookup = local_lookup(Where(CHECKPOINTS))
    return make_plan(load_suite(path, lookup))


def rbench(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["rbench", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def ended(plan: Plan, complete: bool = True) -> list[CellInfo]:
    """Cells of a plan without rows."""
    return [
        CellInfo(
            cell_id=cell.cell_id,
            spec=cell.spec,
            complete=complete,
            attack_kind=cell.attack_kind,
            cluster="sample",
            seconds=2.0,
            machine="",
            versions={},
            date="",
        )
        for cell in plan.cells
    ]


def begun(names: list[str], plan: Plan, lines: list[str]) -> Tracking:
    """Trackers that have been told of a plan; their warnings are put into ``lines``."""
    tracking = Tracking(names, lines.append)
    tracking.begin(plan, {}, 0)
    return tracking


@pytest.mark.slow
def test_a_run_tells_its_trackers_and_survives_them(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    registered: Callable[[str, object], None],
) -> None:
    sound, broken = Remembering(), Remembering(failing="log")
    registered("sound", sound)
    registered("broken", broken)
    suite, out = tmp_path / "suite.yaml", tmp_path / "out"
    suite.write_text(SUITE)
    arguments = ("run", suite, "--out", out, "--checkpoints", CHECKPOINTS, "--workers", 1)
    code = rbench(monkeypatch, *arguments, "--track", "sound", "--track", "broken", "--no-probe")
    text = capsys.readouterr().out
    assert code == 0 and text.count("broken failed") == 1 and "no server at log" in text
    assert broken.calls == ["start", "log"]
    assert (sound.status, sound.name) == ("finished", "tracked")
    assert "report.html" in sound.files and "leaderboard.md" in sound.files
    store = RunStore(out)
    for cell in store.read_manifest().cells:
        assert cell.cell_id is not None
        info, rows = store.read_cell(cell.cell_id)
        name = next(n for n in NAMES if ("FGSM" in n) == (info.spec.attack == "fgsm"))
        found = {k.rpartition("/")[2]: v for k, v in sound.metrics.items() if k.startswith(name)}
        assert found == metrics_of(info, rows)
        assert found["accuracy"] == robust_accuracy(rows).value and found["n"] == 8


def test_params_say_the_protocol(plan: Plan) -> None:
    params = params_of(plan)
    assert params["suite"] == "tracked" and params["threat_model.eps"] == 8 / 255
    assert params["data.name"] == "fashion-mnist" and params["n_images"] == 8
    assert params["protocols"] == "white_box" and params["attacks"] == "natural, FGSM, eps 8/255"
    assert all(isinstance(v, str | int | float) and len(str(v)) <= 500 for v in params.values())


def test_a_cell_is_told_once_until_it_changes(
    plan: Plan, registered: Callable[[str, object], None]
) -> None:
    tracker = Remembering()
    registered("one", tracker)
    (first, _), lines = ended(plan), []
    tracking = begun(["one", "one"], plan, lines)
    tracking.show(first, [])
    tracking.show(first, [])
    assert tracker.calls == ["start", "log"]
    assert tracker.metrics[f"{NAMES[0]}/alarms"] == 0
    tracking.show(first.model_copy(update={"alarms": ("doubtful",)}), [])
    assert tracker.metrics[f"{NAMES[0]}/alarms"] == 1
    assert f"{NAMES[0]}/accuracy" not in tracker.metrics
    tracking.end((), "stopped")
    assert (tracker.status, tracker.calls[-1]) == ("stopped", "finish") and lines == []


@pytest.mark.parametrize("failing", ["start", "log", "finish"])
def test_a_failure_is_one_line(
    plan: Plan, registered: Callable[[str, object], None], failing: str
) -> None:
    broken, sound, lines = Remembering(failing), Remembering(), []  # type: ignore[var-annotated]
    registered("broken", broken)
    registered("sound", sound)
    tracking = begun(["broken", "sound"], plan, lines)
    for info in ended(plan):
        tracking.show(info, [])
    tracking.end((), "finished")
    assert len(lines) == 1 and lines[0].startswith("broken failed") and "\n" not in lines[0]
    assert broken.calls[-1] == failing and sound.calls == ["start", "log", "log", "finish"]


@pytest.mark.parametrize(
    ("name", "fragment"), [("mlflo", "mlflow"), ("mlflow", "rbench[mlflow]"), ("wandb", "[wandb]")]
)
def test_what_is_not_there_is_said_before_the_run(
    monkeypatch: pytest.MonkeyPatch, name: str, fragment: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError) as raised:
        Tracking([name], print)
    assert fragment in str(raised.value)


@pytest.mark.process
def test_mlflow_keeps_a_run(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    report = tmp_path / "leaderboard.md"
    report.write_text("a table")
    lines: list[str] = []
    tracking = begun(["mlflow"], plan, lines)
    for info in ended(plan, complete=False):
        tracking.show(info, [])
    tracking.end([report], "incomplete")
    assert lines == []
    (run,) = mlflow.MlflowClient().search_runs(
        [mlflow.get_experiment_by_name("rbench").experiment_id]
    )
    assert run.info.status == "FAILED" and run.data.params["suite"] == "tracked"
    assert {f"{name}/complete" for name in NAMES} <= set(run.data.metrics)
    artifacts = mlflow.MlflowClient().list_artifacts(run.info.run_id)
    assert [one.path for one in artifacts] == ["leaderboard.md"]


@pytest.mark.process
def test_wandb_keeps_a_run(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    report = tmp_path / "leaderboard.md"
    report.write_text("a table")
    lines: list[str] = []
    tracking = begun(["wandb"], plan, lines)
    run = tracking._trackers["wandb"]._run  # type: ignore[attr-defined]
    handed, log_artifact = [], run.log_artifact
    monkeypatch.setattr(run, "log_artifact", lambda a: handed.append(a) or log_artifact(a))
    for info in ended(plan):
        tracking.show(info, [])
    assert run.summary[f"{NAMES[1]}/seconds"] == 2.0
    assert run.config["threat_model.norm"] == "linf"
    tracking.end([report], "finished")
    assert lines == [] and list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert [list(artifact.manifest.entries) for artifact in handed] == [["leaderboard.md"]]
