"""What a run finds out by itself: models that are not what they say, attacks that gave up early."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.core.errors import UserError
from bench.core.paths import Where
from bench.evaluation.model import Target
from bench.run import probing
from bench.run.job import Job, execute_chain, lost_chain
from bench.run.local import Workers
from bench.run.prepare import local_lookup
from bench.run.probing import Probed, ProbeJob, Probing, probe_key
from bench.run.schedule import cells_to_run, make_jobs, run_cells
from bench.run.sweeps_and_alarms import (
    plan_sentinels,
    plan_sweeps,
    raise_alarms,
    sweep_jobs,
)
from bench.store.run_store import RunStore
from bench.suite.load import load_suite
from bench.suite.plan import Plan, make_plan
from bench.suite.resolve import Lookup
from bench.suite.watcher import Watcher

pytestmark = pytest.mark.process

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


def planned(folder: Path, text: str = SUITE) -> tuple[Plan, Lookup]:
    path = folder / "suite.yaml"
    path.write_text(text)
    lookup = local_lookup(Where(CHECKPOINTS))
    return make_plan(load_suite(path, lookup)), lookup


def jobs_of(plan: Plan, folder: Path) -> list[Job]:
    return make_jobs(cells_to_run(plan, RunStore(folder)), Where(CHECKPOINTS))


def test_an_attack_with_too_few_steps_is_marked_by_the_sweep(tmp_path: Path) -> None:
    plan, lookup = planned(tmp_path)
    sweeps = plan_sweeps(plan, lambda data: lookup.images(data).sha256)
    assert [about.attack_label for _, about in sweeps] == ["short"]
    store = RunStore(tmp_path / "run")
    jobs = jobs_of(plan, store.folder)
    jobs += sweep_jobs(sweeps, [], [job.spec.cell_id for job in jobs], Where(CHECKPOINTS))
    with Workers(1) as workers:
        summary = run_cells(plan, store, jobs, workers, Watcher())
    assert (summary.ran, summary.swept) == (3, 2), "its base is the cell itself"
    probed = {probe_key(plan.cells[0].spec): Probed(doubts=("probe_odd: looks odd",))}
    found = raise_alarms(plan, store, 10, probed, [sweep for sweep, _ in sweeps], [])
    codes = {c.attack_label: [a.partition(":")[0] for a in found[c.cell_id]] for c in plan.cells}
    assert "not_converged" in codes["short"]
    assert codes["natural"] == ["probe_odd"]
    again = raise_alarms(plan, store, 10, {}, [], [])
    assert plan.cells[0].cell_id not in again, "alarms are found anew"
    assert store.read_cell(plan.cells[0].cell_id)[0].alarms == ()


def test_sweeps_can_be_turned_off_and_leave_ensembles_alone(tmp_path: Path) -> None:
    off = SUITE.replace("convergence_images: 32", "convergence_images: 0")
    assert plan_sweeps(planned(tmp_path, off)[0], lambda data: "0") == []
    auto = SUITE.replace("attack: pgd, label: short, params: {n_iter: 2,", "attack: autoattack}\n#")
    assert plan_sweeps(planned(tmp_path, auto)[0], lambda data: "0") == []


WEAK = """\
suite: weak
data: {name: fashion-mnist, limit: 32, seed: 0, stratified: true}
threat_model: {norm: linf, eps: 0.05}
batch_size: 16
convergence_images: 0
models: [fmnist-resnet20-bn]
attacks: [natural, {attack: noise, params: {n_trials: 2}}, {attack: fgsm, eps: 0.01}]
"""


def test_a_sentinel_looks_behind_weak_attacks(tmp_path: Path) -> None:
    plan, lookup = planned(tmp_path, WEAK)
    sentinels = plan_sentinels(plan, lambda data: lookup.images(data).sha256)
    ((cell, about),) = sentinels
    assert cell.attack == "auto" and [one.attack_label for one in about] == ["noise"]
    store = RunStore(tmp_path / "run")
    jobs = jobs_of(plan, store.folder)
    jobs += sweep_jobs([], sentinels, [job.spec.cell_id for job in jobs], Where(CHECKPOINTS))
    with Workers(1) as workers:
        run_cells(plan, store, jobs, workers, Watcher())
    found = raise_alarms(plan, store, 10, {}, [], sentinels)
    codes = {c.attack_label: found.get(c.cell_id, ()) for c in plan.cells}
    (alarm,) = codes["noise"]
    assert alarm.startswith("weak_attack: ") and "leaves 0% where" in alarm
    assert not any(found for label, found in codes.items() if label != "noise")


@pytest.mark.parametrize(
    ("attacks", "wanted"),
    [
        ("[pgd]", 1),
        ("[{attack: autoattack, params: {n_queries: 100}}]", 1),
        ("[pgd, autoattack]", 0),
        ("[auto]", 0),
        ("[{attack: auto, params: {n_passes: 100}}]", 1),
        ("[natural]", 0),
    ],
)
def test_a_sentinel_is_spared_where_an_attack_is_as_strong(
    attacks: str, wanted: int, tmp_path: Path
) -> None:
    text = WEAK.partition("attacks:")[0] + f"attacks: {attacks}\n"
    assert len(plan_sentinels(planned(tmp_path, text)[0], lambda data: "0")) == wanted
    off = text + "sentinel: false\n"
    assert plan_sentinels(planned(tmp_path, off)[0], lambda data: "0") == []
    shared = text.replace(
        "[fmnist-resnet20-bn]", "[{checkpoint: fmnist-resnet20-bn, stats: batch}]"
    )
    assert plan_sentinels(planned(tmp_path, shared)[0], lambda data: "0") == []


@pytest.mark.parametrize(
    ("module", "attack", "swept"),
    [
        ("foolbox", "foolbox:LinfPGD", True),
        ("art", "art:ProjectedGradientDescent", True),
        ("foolbox", "foolbox:LInfFMNAttack", False),
        ("art", "art:SquareAttack", False),
    ],
)
def test_attacks_of_libraries_that_climb_get_their_sweep(
    module: str, attack: str, swept: bool, tmp_path: Path
) -> None:
    pytest.importorskip(module)
    ours = "attack: pgd, label: short, params: {n_iter: 2, alpha: 0.01, random_start: false}"
    text = SUITE.replace(ours, f"attack: '{attack}', label: theirs, params: {{n_iter: 2}}")
    sweeps = plan_sweeps(planned(tmp_path, text)[0], lambda data: "0")
    assert [about.attack_label for _, about in sweeps] == (["theirs"] if swept else [])
    assert all(
        [cell.attack_params["n_iter"] for cell in sweep.iterations] == [2, 4, 8]
        for sweep, _ in sweeps
    )


def probed(plan: Plan, tmp_path: Path, workers: Workers) -> dict[str, Probed]:
    """Probes the models of a plan, and runs none of its cells."""
    runner = Probing(jobs_of(plan, tmp_path), tmp_path, workers)
    assert [one for one in runner.run(execute_chain, [], lost_chain) if one] == []
    return runner.known


def test_models_are_probed_once_for_each_run_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, _ = planned(tmp_path)
    with Workers(1) as workers:
        known = probed(plan, tmp_path, workers)
        assert known == {probe_key(plan.cells[0].spec): Probed()}

        def never(one: Any) -> Probed:
            raise AssertionError("probed again")

        monkeypatch.setattr(probing, "run_probe", never)
        assert probed(plan, tmp_path, workers) == known
        (tmp_path / "store" / "probes.json").write_text("{damaged")
        with pytest.raises(AssertionError, match="probed again"):
            probed(plan, tmp_path, workers)


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
        probed(plan, tmp_path, workers)


class Listed(Workers):
    """A worker that says what it is given, and in which order."""

    def run(self, work: Any, jobs: Any, lost: Any) -> Any:
        self.given = list(jobs)
        return super().run(work, jobs, lost)


def labelled(plan: Plan, tmp_path: Path, count: int) -> list[Job]:
    """Returns jobs of as many models, by name alone."""
    (job, *_) = jobs_of(plan, tmp_path)
    specs = [job.spec.model_copy(update={"sha256": f"{i:064x}"}) for i in range(count)]
    return [replace(job, spec=spec) for spec in specs]


def digit(given: tuple[Job, ...]) -> str:
    return given[0].spec.sha256[-1]


def test_the_first_job_waits_for_its_own_model_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, _ = planned(tmp_path)
    jobs = labelled(plan, tmp_path, 3)
    monkeypatch.setattr(probing, "run_probe", lambda one: Probed())
    with Listed(1) as workers:
        chains = [(jobs[2],), (jobs[0],), (jobs[2],), (jobs[1],)]
        outcomes = Probing(jobs, tmp_path, workers).run(digit, chains, lambda *_: "")
        assert [one[1] for one in outcomes if one] == ["2", "0", "2", "1"]
    order = [p.of.sha256[-1] if isinstance(p, ProbeJob) else "job" for p in workers.given]
    assert order == ["2", "job", "0", "1", "job", "job", "job"]


class Backwards:
    """An executor whose jobs end in the reverse order, with an outcome after each."""

    def run(self, work: Any, jobs: Any, lost: Any) -> Any:
        return ((job, work(job)) for job in reversed(jobs))


def test_what_a_job_made_counts_once_its_model_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, _ = planned(tmp_path)
    jobs = labelled(plan, tmp_path, 2)
    done: list[str] = []

    def look(one: ProbeJob) -> Probed:
        done.append(f"probe {one.of.sha256[-1]}")
        return Probed(differs="is odd" if one.of.sha256[-1] == "0" else "")

    monkeypatch.setattr(probing, "run_probe", look)
    with pytest.raises(UserError, match="fmnist-resnet20-bn: is odd"):
        runner = Probing(jobs, tmp_path, Backwards())
        for outcome in runner.run(digit, [(job,) for job in jobs], lambda *_: ""):
            done.append(f"counts {outcome[1]}" if outcome else "")
    assert done == ["probe 1", "counts 1", "probe 0"], "1 was held back, and 0 never counted"


def test_a_model_that_cannot_be_probed_leaves_it_to_its_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, _ = planned(tmp_path)
    jobs = labelled(plan, tmp_path, 2)
    monkeypatch.setattr(probing, "run_probe", lambda one: None)
    with Workers(1) as workers:
        runner = Probing(jobs, tmp_path, workers)
        outcomes = runner.run(digit, [(job,) for job in jobs], lambda *_: "")
        assert [one[1] for one in outcomes if one] == ["0", "1"] and runner.known == {}
