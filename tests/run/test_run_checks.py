"""What a run finds out by itself: models that are not what they say, attacks that gave up early."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.core.errors import UserError
from bench.run import probing
from bench.run.catalog import LocalCatalog
from bench.run.checks import raise_alarms
from bench.run.convergence import plan_sweeps, sweep_jobs
from bench.run.job import Job
from bench.run.local import Workers
from bench.run.probing import Probed, probe_key, probe_models
from bench.run.suite import Watcher, cells_to_run, make_jobs, run_suite
from bench.run.target import Target
from bench.store import RunStore
from bench.suite import Plan, load_suite, make_plan

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"
SUITE = """\
suite: checks
data: {name: fashion-mnist, limit: 32, seed: 0, stratified: true}
threat_model: {norm: linf, eps: 0.1}
batch_size: 16
convergence_images: 32
models: [fmnist-resnet20-bn]
attacks:
  - natural
  - {attack: pgd, label: short, params: {n_iter: 2, alpha: 0.01, random_start: false}}
  - {attack: fgsm}
"""


def planned(folder: Path, text: str = SUITE) -> tuple[Plan, LocalCatalog]:
    path = folder / "suite.yaml"
    path.write_text(text)
    catalog = LocalCatalog(CHECKPOINTS, None)
    return make_plan(load_suite(path, catalog), catalog), catalog


def jobs_of(plan: Plan, folder: Path) -> list[Job]:
    return make_jobs(cells_to_run(plan, RunStore(folder)), CHECKPOINTS, None, "cpu")


def test_an_attack_with_too_few_steps_is_marked_by_the_sweep(tmp_path: Path) -> None:
    plan, catalog = planned(tmp_path)
    sweeps = plan_sweeps(plan, catalog.data_hash)
    assert [about.attack_label for _, about in sweeps] == ["short"]
    store = RunStore(tmp_path / "run")
    jobs = jobs_of(plan, store.folder)
    jobs += sweep_jobs(
        sweeps,
        [job.spec.cell_id for job in jobs],
        lambda spec, kind, cost, n: Job(spec, kind, CHECKPOINTS, None, "cpu", cost, n),
    )
    with Workers(1) as workers:
        summary = run_suite(plan, store, jobs, workers, Watcher())
    assert (summary.ran, summary.swept) == (3, 2), "its base is the cell itself"
    probed = {probe_key(plan.cells[0].spec): Probed(doubts=("probe_odd: looks odd",))}
    found = raise_alarms(plan, store, 10, probed, [sweep for sweep, _ in sweeps])
    codes = {c.attack_label: [a.partition(":")[0] for a in found[c.cell_id]] for c in plan.cells}
    assert "not_converged" in codes["short"]
    assert codes["natural"] == ["probe_odd"]
    again = raise_alarms(plan, store, 10, {}, [])
    assert plan.cells[0].cell_id not in again, "alarms are found anew"
    assert store.read_cell(plan.cells[0].cell_id)[0].alarms == ()


def test_sweeps_can_be_turned_off_and_leave_ensembles_alone(tmp_path: Path) -> None:
    off = SUITE.replace("convergence_images: 32", "convergence_images: 0")
    assert plan_sweeps(planned(tmp_path, off)[0], lambda data: "0") == []
    auto = SUITE.replace("attack: pgd, label: short, params: {n_iter: 2,", "attack: autoattack}\n#")
    assert plan_sweeps(planned(tmp_path, auto)[0], lambda data: "0") == []


def test_models_are_probed_once_for_each_run_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, _ = planned(tmp_path)
    with Workers(1) as workers:
        known = probe_models(jobs_of(plan, tmp_path), tmp_path, workers)
        assert known == {probe_key(plan.cells[0].spec): Probed()}

        def never(one: Any) -> Probed:
            raise AssertionError("probed again")

        monkeypatch.setattr(probing, "run_probe", never)
        assert probe_models(jobs_of(plan, tmp_path), tmp_path, workers) == known
        (tmp_path / "store" / "probes.json").write_text("{damaged")
        with pytest.raises(AssertionError, match="probed again"):
            probe_models(jobs_of(plan, tmp_path), tmp_path, workers)


def test_a_model_that_is_not_what_its_card_says_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, _ = planned(tmp_path)
    true = Target.of
    monkeypatch.setattr(
        Target, "of", lambda m: Target(m, true(m).std, 10, stochastic=True, batch_dependent=False)
    )
    message = "fmnist-resnet20-bn: the model is declared stochastic.*found it deterministic"
    with Workers(1) as workers, pytest.raises(UserError, match=message):
        probe_models(jobs_of(plan, tmp_path), tmp_path, workers)
