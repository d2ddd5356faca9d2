"""The same suite on a Ray cluster of two nodes gives the same rows, also when a node is lost."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_checkpoints import save

from bench.core.cell import DataSpec
from bench.core.errors import UserError
from bench.core.paths import Where
from bench.run import chunks
from bench.run.local import Executor, Stop, Workers
from bench.run.prepare import local_lookup
from bench.run.probing import Probing
from bench.run.remote_files import (
    RayCluster,
    check_code,
    code_hash,
    inputs_of,
    with_checkpoints_in,
)
from bench.run.schedule import cells_to_run, make_jobs, run_cells
from bench.store.run_store import RunStore
from bench.suite.load import load_suite
from bench.suite.plan import Plan, make_plan
from bench.suite.watcher import Summary, Watcher

pytestmark = pytest.mark.process

pytest.importorskip("ray")

SUITE = """
suite: far
data: {{name: "npz:{data}"}}
threat_model: {{norm: linf, eps: 0.1}}
batch_size: 4
n_draws: 3
search: exact
models: [first, drawn, {{checkpoint: first, stats: batch}},
  {{checkpoint: first, protocol: transfer, surrogate: drawn}}]
attacks: [natural, {{attack: pgd, params: {{n_iter: 3, alpha: 0.05}}}}]
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints, 18 images and a suite of 8 cells of 5 batches each."""
    folder = tmp_path_factory.mktemp("far")
    save(folder / "checkpoints" / "first", "bn", 1)
    save(folder / "checkpoints" / "drawn", {"name": "rna", "pool": ["bn", "in"]}, 3)
    x = np.random.default_rng(0).random((18, 1, 8, 8)).astype(np.float32)
    np.savez(folder / "made.npz", x=x, y=np.arange(18) % 3)
    (folder / "suite.yaml").write_text(SUITE.format(data=folder / "made.npz"))
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without cores, and a node with one; workers find this folder's modules."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        nodes.add_node(num_cpus=1)
        yield nodes
        nodes.shutdown()


@pytest.fixture
def workers(cluster: Any) -> Iterator[Executor]:
    from bench.run.on_ray import RayWorkers

    with RayWorkers(RayCluster(cluster.address)) as found:
        yield found


def run(made: Path, out: Path, workers: Executor, watcher: Watcher) -> tuple[Plan, Summary, Any]:
    lookup = local_lookup(Where(made / "checkpoints"))
    plan = make_plan(load_suite(made / "suite.yaml", lookup))
    store = RunStore(out)
    jobs = make_jobs(cells_to_run(plan, store), Where(made / "checkpoints"), save_adv=True)
    runner = Probing(jobs, out, workers)
    summary = run_cells(plan, store, jobs, runner, watcher)
    assert runner.known
    return plan, summary, {i: store.read_cell(i)[1] for i in store.cell_ids()}


@dataclass(frozen=True)
class Errand:
    """A job that opens no model."""

    name: str
    where: Where = Where(Path("checkpoints"))  # noqa: RUF009
    model_names: tuple[str, ...] = ()
    data: DataSpec = DataSpec(name="fashion-mnist", limit=1)  # noqa: RUF009


def work(job: Errand) -> str:
    """Dies, hangs, or answers."""
    if job.name == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if job.name == "hang":
        time.sleep(600)
    return f"{job.name} done"


def lost(job: Errand, why: str) -> str:
    return f"lost: {why}"


def outcomes(workers: Any, *names: str) -> dict[str, str]:
    """Runs errands; returns their outcomes by name."""
    ended = workers.run(work, [Errand(name) for name in names], lost)
    return {one[0].name: one[1] for one in ended if one is not None}


class AddsAndRemoves(Watcher):
    """Adds a node after the first chunk, and kills the older one a few chunks later."""

    def __init__(self, cluster: Any) -> None:
        self._cluster, self._ended = cluster, 0

    def progress(self, cell_id: str, cost: float) -> None:
        self._ended += 1
        if self._ended == 1:
            self._cluster.add_node(num_cpus=1)
        if self._ended == 8:
            old = next(
                n for n in self._cluster.list_all_nodes() if n is not self._cluster.head_node
            )
            self._cluster.remove_node(old, allow_graceful=False)


@pytest.mark.slow
def test_rows_are_those_of_the_local_engine_though_a_node_is_lost(
    made: Path, tmp_path: Path, cluster: Any, workers: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "PASSES", 1)
    with Workers(1) as here:
        _, _, expected = run(made, tmp_path / "local", here, Watcher())
    plan, summary, found = run(made, tmp_path / "ray", workers, AddsAndRemoves(cluster))
    assert not summary.incomplete and not summary.open
    assert found == expected and len(found) == len(plan.cells)
    stored = RunStore(tmp_path / "ray").examples
    for cell in plan.cells:
        assert stored.has(cell.cell_id, 5) == (cell.attack_kind != "none")


@pytest.mark.slow
def test_a_job_that_kills_its_worker_or_hangs_costs_itself_alone(
    workers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_limit", 5.0)
    found = outcomes(workers, "die", "hang", "a", "b")
    assert found["die"].startswith(("lost: its worker was lost 3 times", "lost: ended after more"))
    assert {found["a"], found["b"]} == {"a done", "b done"}
    assert found["hang"] == "lost: ended after more than 5 s, the time limit of a chunk"


@pytest.mark.slow
def test_a_stop_begins_no_more(workers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = Stop()
    stop.signal = signal.SIGTERM
    monkeypatch.setattr(workers, "_stop", stop)
    assert outcomes(workers, "a", "b") == {}


def test_an_address_without_a_cluster_is_named() -> None:
    import ray

    from bench.run.on_ray import RayWorkers

    ray.shutdown()
    with pytest.raises(UserError, match=r"--address 127.0.0.1:1: .*ray start --head"):
        RayWorkers(RayCluster("127.0.0.1:1"))


def test_other_code_on_a_node_is_refused() -> None:
    check_code(code_hash(), "here")
    with pytest.raises(UserError, match="rbench on node7 is not the same as here"):
        check_code("0" * 16, "node7")


def test_what_a_job_reads_is_known_and_can_be_elsewhere(made: Path) -> None:
    lookup = local_lookup(Where(made / "checkpoints"))
    plan = make_plan(load_suite(made / "suite.yaml", lookup))
    here = Where(made / "checkpoints")
    jobs = tuple(make_jobs(plan.cells, here))
    transfer = next(job for job in jobs if job.spec.surrogate)
    assert inputs_of([transfer]) == inputs_of([jobs]) == inputs_of(jobs)
    assert {path.name for path in inputs_of(jobs).checkpoints} == {"first", "drawn"}
    assert {path.name for path in inputs_of(jobs[:1]).checkpoints} == {"first"}
    assert inputs_of(jobs).slices == {(plan.suite.data, None)}
    elsewhere = with_checkpoints_in(jobs, Path("/elsewhere"))
    assert {job.where for job in elsewhere} == {Where(Path("/elsewhere"))}
    assert tuple(replace(job, where=here) for job in elsewhere) == jobs
    assert with_checkpoints_in(transfer, Path("/elsewhere")) in elsewhere
