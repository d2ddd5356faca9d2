"""From a suite file to stored analyses and their reports; a failing one stops no other."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from made_checkpoints import save
from typer.testing import CliRunner

from bench.cli.app import app
from bench.core.analysis import AnalysisInfo
from bench.core.paths import Where
from bench.report import write_reports
from bench.run.analyses import analyses_to_run, execute_analysis, make_analysis_jobs, run_analyses
from bench.run.local import Workers
from bench.run.prepare import local_lookup
from bench.store.analysis_store import AnalysisStore
from bench.store.run_store import RunStore
from bench.suite.load import load_suite
from bench.suite.plan import make_plan
from bench.suite.watcher import Watcher
from bench.zoo import open_checkpoint

pytestmark = pytest.mark.process

KINDS = (
    "statistics_shift",
    "gradient_similarity",
    "loss_surface",
    "path_difference",
    "examples",
)
SUITE = """
suite: looks
data: {{name: "npz:{data}"}}
threat_model: {{norm: linf, eps: 0.03}}
batch_size: 4
n_draws: 3
convergence_images: 0
sentinel: false
models:
  - first
  - {{checkpoint: first, stats: batch, label: first B}}
  - {{checkpoint: drawn, label: drawn, eot_iter: 2}}
attacks:
  - {{attack: pgd, label: PGD, params: {{n_iter: 2}}}}
analyses:
  - {{analysis: statistics_shift, models: [first, first B], attack: PGD}}
  - gradient_similarity
  - {{analysis: loss_surface, params: {{points: 3}}, limit: 4}}
  - {{analysis: path_difference, models: [drawn], attack: PGD, params: {{pairs: 2, step: 9}}}}
  - {{analysis: examples, models: [first], attack: PGD, params: {{images: 2}}}}
reports: [{kinds}]
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints, images and the suite above, in one folder; the first model is mostly right."""
    folder = tmp_path_factory.mktemp("looks")
    save(folder / "checkpoints" / "first", "bn", 1)
    save(folder / "checkpoints" / "drawn", {"name": "rna", "pool": ["bn", "in"]}, 3)
    rng = np.random.default_rng(0)
    x = rng.random((8, 1, 8, 8)).astype(np.float32)
    with torch.no_grad():
        y = open_checkpoint(folder / "checkpoints" / "first").load()(torch.from_numpy(x)).argmax(1)
    labels = y.numpy()
    labels[-1] = 2  # as many classes as the models have
    np.savez(folder / "made.npz", x=x, y=labels)
    suite = SUITE.format(data=folder / "made.npz", kinds=", ".join(KINDS))
    (folder / "looks.yaml").write_text(suite)
    return folder


class Seen(Watcher):
    """Keeps which analyses ended, and whether they are complete."""

    def __init__(self) -> None:
        self.ended: dict[str, bool] = {}

    def analysis_ended(self, label: str, info: AnalysisInfo) -> None:
        self.ended[label] = info.complete


def rbench(world: Path, command: str, out: Path) -> str:
    arguments = [command, str(world / "looks.yaml"), "--checkpoints", str(world / "checkpoints")]
    arguments += ["--out", str(out), "--device", "cpu", "--workers", "1"]
    extra = ["--no-probe"] if command == "run" else ["--no-time"]
    result = CliRunner().invoke(app, arguments + extra, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.output


def test_run_stores_shows_and_reports_them_and_runs_nothing_twice(
    world: Path, tmp_path: Path
) -> None:
    planned = rbench(world, "plan", tmp_path)
    said = rbench(world, "run", tmp_path)
    for kind in KINDS:
        assert f"analysis {kind}: complete" in said and kind in planned
        text = (tmp_path / f"{kind}.md").read_text()
        assert "incomplete" not in text and "| model" in text
    assert "to run" in planned and planned.count("stored") == 0
    store = AnalysisStore(tmp_path)
    assert len(store.ids()) == 5
    again = rbench(world, "run", tmp_path)
    assert "5 analyses already stored" in again and "analysis examples" not in again
    shutil.rmtree(tmp_path / "store/analyses" / store.ids()[0])
    assert "[1/1] analysis" in rbench(world, "run", tmp_path)


def test_the_same_seed_gives_the_same_values(world: Path, tmp_path: Path) -> None:
    lookup = local_lookup(Where(world / "checkpoints"))
    plan = make_plan(load_suite(world / "looks.yaml", lookup))
    jobs = make_analysis_jobs(list(plan.analyses), Where(world / "checkpoints"))
    for job in jobs:
        info, values = execute_analysis(job)
        assert info.complete and info.analysis_id == job.spec.analysis_id
        assert values.equals(execute_analysis(job)[1])


def test_a_failing_analysis_stops_no_other(world: Path, tmp_path: Path) -> None:
    copy = tmp_path / "checkpoints"
    shutil.copytree(world / "checkpoints", copy)
    lookup = local_lookup(Where(copy))
    plan = make_plan(load_suite(world / "looks.yaml", lookup))
    store = AnalysisStore(tmp_path / "run")
    jobs = make_analysis_jobs(analyses_to_run(plan, store), Where(copy))
    weights = copy / "drawn" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    seen = Seen()
    with Workers(1) as workers:
        summary = run_analyses(plan, store, jobs, workers, seen)
    broken = {"gradient_similarity", "loss_surface", "path_difference"}
    assert {label for label, complete in seen.ended.items() if not complete} == broken
    assert {label for label, _ in summary.incomplete} == broken and summary.ran == 5
    assert all("sha256" in reason for _, reason in summary.incomplete)
    left = analyses_to_run(plan, store)
    assert {one.label for one in left} == broken  # to be tried again


def test_reports_say_what_is_missing_and_why(world: Path, tmp_path: Path) -> None:
    lookup = local_lookup(Where(world / "checkpoints"))
    plan = make_plan(load_suite(world / "looks.yaml", lookup))
    RunStore(tmp_path).write_manifest(plan.manifest())
    store = AnalysisStore(tmp_path)
    (job,) = make_analysis_jobs([plan.analyses[1]], Where(world / "checkpoints"))
    info, _ = execute_analysis(job)
    failed = info.model_copy(update={"complete": False, "error": "out of memory"})
    store.write(failed, pd.DataFrame())
    write_reports(tmp_path, formats=("md", "csv", "tex"))
    assert "out of memory" in (tmp_path / "gradient_similarity.md").read_text()
    assert "not run yet" in (tmp_path / "loss_surface.md").read_text()
