"""Attacks of libraries and plugins in a suite, from a file to tables."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from made_checkpoints import save

from bench.attacks import Budget, Traits, get_attack
from bench.core.errors import UserError
from bench.core.paths import Where
from bench.report import write_reports
from bench.report.write import build_reports
from bench.run.local import Workers
from bench.run.prepare import local_lookup
from bench.run.schedule import cells_to_run, make_jobs, run_cells
from bench.store.run_store import RunStore
from bench.suite.load import load_suite
from bench.suite.plan import Plan, make_plan
from bench.suite.watcher import Watcher
from bench.verify.verifier import judge
from bench.zoo import open_checkpoint

pytestmark = pytest.mark.process

EXAMPLE = Path(__file__).parents[2] / "docs" / "plugin-example"

SUITE = """
suite: foreign
data: {{name: "npz:{data}"}}
threat_model: {{norm: linf, eps: 0.1}}
batch_size: 4
models: [{models}]
attacks: [natural, {attacks}]
reports: [{reports}]
"""


def run(folder: Path, attacks: str, reports: str = "leaderboard", models: str = "first") -> Plan:
    """Writes and runs a suite; its store is in ``folder / "run"``."""
    save(folder / "checkpoints" / "first", "bn", 1)
    rng = np.random.default_rng(0)
    x = rng.random((8, 1, 8, 8)).astype(np.float32)
    model = open_checkpoint(folder / "checkpoints" / "first").load()
    with torch.no_grad():
        y = model(torch.from_numpy(x)).argmax(1).numpy()
    np.savez(folder / "made.npz", x=x, y=np.where(np.arange(8) == 7, 2, y))
    suite = folder / "foreign.yaml"
    suite.write_text(
        SUITE.format(data=folder / "made.npz", attacks=attacks, reports=reports, models=models)
    )
    lookup = local_lookup(Where(folder / "checkpoints"))
    plan = make_plan(load_suite(suite, lookup))
    store = RunStore(folder / "run")
    store.write_manifest(plan.manifest())
    jobs = make_jobs(cells_to_run(plan, store), Where(folder / "checkpoints"))
    with Workers(1) as workers:
        assert not run_cells(plan, store, jobs, workers, Watcher()).incomplete
    return plan


@pytest.mark.parametrize(
    ("module", "name", "params", "library"),
    [
        ("foolbox", "foolbox:LinfPGD", "{n_iter: 5}", "foolbox"),
        ("adv_lib", "advlib:fmn", "{n_iter: 20}", "adv-lib"),
        ("art", "art:ProjectedGradientDescent", "{n_iter: 5}", "adversarial-robustness-toolbox"),
    ],
)
def test_an_attack_of_a_library_runs_in_a_suite_and_is_judged_by_the_verifier(
    module: str, name: str, params: str, library: str, tmp_path: Path
) -> None:
    pytest.importorskip(module)
    plan = run(tmp_path, f"{{attack: '{name}', params: {params}}}")
    (cell,) = [c for c in plan.cells if c.attack_index == 1]
    info, rows = RunStore(tmp_path / "run").read_cell(cell.cell_id)
    attack = get_attack(name)
    assert info.complete and info.attack_kind == attack.kind and library in info.versions
    assert len(rows) == 8 and rows[0].forwards >= 5 and rows[0].backwards >= 5
    for row in rows:
        assert row.status == ("ok" if row.linf <= 0.1 + 1e-6 else "beyond_eps")
        assert row.status == "ok" or attack.kind == "minimum-norm"
        assert row.robust in (0.0, 1.0) and (row.clean_correct or not row.robust)
    assert sum(row.robust for row in rows) < sum(row.clean_correct for row in rows)
    assert judge(torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1), Budget("linf", (0.1,)), "none")


def test_a_suite_refuses_an_attack_that_drops_samples_on_batch_statistics(tmp_path: Path) -> None:
    pytest.importorskip("adv_lib")
    plan = run(tmp_path, "'advlib:df'", models="{checkpoint: first, stats: batch}")
    assert "drops samples" in next(c.refused for c in plan.manifest().cells if c.refused)


def install_example(install: Callable[..., None]) -> None:
    """Installs the package of ``docs/plugin-example`` by what its pyproject.toml says."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    groups: Mapping[str, Mapping[str, str]] = project["entry-points"]
    code = (EXAMPLE / "rbench_example.py").read_text()
    install(project["name"], groups, code, project["version"])


def test_the_example_package_brings_an_attack_and_a_report(
    install_plugin: Callable[..., None], tmp_path: Path
) -> None:
    lines = [line for file in EXAMPLE.iterdir() for line in file.read_text().splitlines()]
    assert len(lines) < 60
    install_example(install_plugin)
    plan = run(tmp_path, "halfway", "leaderboard, passes")
    (cell,) = [c for c in plan.cells if c.attack_index == 1]
    info, rows = RunStore(tmp_path / "run").read_cell(cell.cell_id)
    assert info.versions["rbench-example"] == "0.1" and info.spec.attack == "halfway"
    assert info.traits == Traits(family="halfway", steps="one")
    assert max(row.linf for row in rows) == pytest.approx(0.05, abs=1e-6)
    written = {path.name for path in write_reports(tmp_path / "run", formats=("md", "html"))}
    assert {"leaderboard.md", "passes.md", "report.html"} <= written
    assert "2.0" in (tmp_path / "run" / "passes.md").read_text()


def test_a_report_of_a_plugin_that_fails_takes_no_other_down(
    install_plugin: Callable[..., None], tmp_path: Path
) -> None:
    groups = {"rbench.reports": {"theirs": "their:build"}}
    install_plugin("their", groups, "def build(view, entry):\n    raise KeyError('gone')\n")
    run(tmp_path, "fgsm", "leaderboard, theirs")
    reports = dict(build_reports(tmp_path / "run"))
    assert reports["leaderboard"].tables
    why = "report 'theirs' of their 1.0 cannot be used: KeyError: 'gone'"
    assert reports["theirs"].head == (why,)
    write_reports(tmp_path / "run")


def test_a_run_whose_plugin_is_gone_says_what_is_missing(
    install_plugin: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_example(install_plugin)
    run(tmp_path, "halfway", "passes")
    monkeypatch.setattr("bench.core.registry.importlib.metadata.distributions", lambda: [])
    from bench.core.registry import plugins

    plugins.cache_clear()
    with pytest.raises(UserError, match=r"reports\.0\.kind"):
        build_reports(tmp_path / "run")
