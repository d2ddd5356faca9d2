"""The same suite on a Ray cluster of two nodes gives the same rows, also when a node is lost."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_checkpoints import save

from bench.core.errors import UserError
from bench.run import chunks
from bench.run.job import Job
from bench.run.local import Executor, Stop, Workers
from bench.run.lookup import local_lookup
from bench.run.probing import Probing
from bench.run.remote_files import Needs, check_code, code_hash, moved, needs_of
from bench.run.schedule import Summary, Watcher, cells_to_run, make_jobs, run_suite
from bench.store import RunStore
from bench.suite import Plan, load_suite, make_plan

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
    from bench.run.on_ray import RayWorkers, Share

    with RayWorkers(cluster.address, None, Share()) as found:
        yield found


def run(made: Path, out: Path, workers: Executor, watcher: Watcher) -> tuple[Plan, Summary, Any]:
    lookup = local_lookup(made / "checkpoints", None)
    plan = make_plan(load_suite(made / "suite.yaml", lookup))
    store = RunStore(out)
    jobs = make_jobs(cells_to_run(plan, store), made / "checkpoints", None, "cpu", save_adv=True)
    runner = Probing(jobs, out, workers)
    summary = run_suite(plan, store, jobs, runner, watcher)
    assert runner.known
    return plan, summary, {i: store.read_cell(i)[1] for i in store.cell_ids()}


@needs_of.register
def _(job: str) -> Needs:
    """Lets a text be a job, here and, as this module is imported there, in a worker."""
    return Needs()


@moved.register
def _(job: str, checkpoints: Path) -> str:
    return job


def work(job: str) -> str:
    """Dies, hangs, or answers with where it was done."""
    if job == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if job == "hang":
        time.sleep(600)
    return f"{job} done"


def lost(job: str, why: str) -> str:
    return f"lost: {why}"


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
    found = dict(o for o in workers.run(work, ["die", "hang", "a", "b"], lost) if o is not None)
    assert found["die"].startswith(("lost: its worker was lost 3 times", "lost: ended after more"))
    assert {found["a"], found["b"]} == {"a done", "b done"}
    assert found["hang"] == "lost: ended after more than 5 s, the time limit of a chunk"


@pytest.mark.slow
def test_a_stop_begins_no_more(workers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = Stop()
    stop.signal = signal.SIGTERM
    monkeypatch.setattr(workers, "_stop", stop)
    assert [o for o in workers.run(work, ["a", "b"], lost) if o is not None] == []


def test_an_address_without_a_cluster_is_named() -> None:
    import ray

    from bench.run.on_ray import RayWorkers, Share

    ray.shutdown()
    with pytest.raises(UserError, match=r"--address 127.0.0.1:1: .*ray start --head"):
        RayWorkers("127.0.0.1:1", None, Share())


def test_other_code_on_a_node_is_refused() -> None:
    check_code(code_hash(), "here")
    with pytest.raises(UserError, match="rbench on node7 is another than here"):
        check_code("0" * 16, "node7")


def test_what_a_job_reads_is_known_and_can_be_elsewhere(made: Path) -> None:
    lookup = local_lookup(made / "checkpoints", None)
    plan = make_plan(load_suite(made / "suite.yaml", lookup))
    jobs = tuple(make_jobs(list(plan.cells), made / "checkpoints", None, "cpu"))
    transfer = next(job for job in jobs if job.spec.surrogate)
    assert needs_of(transfer) == needs_of(jobs)
    assert {path.name for path in needs_of(jobs).checkpoints} == {"first", "drawn"}
    assert {path.name for path in needs_of(jobs[:1]).checkpoints} == {"first"}
    elsewhere = moved(jobs, Path("/elsewhere"))
    assert {job.checkpoints for job in elsewhere} == {Path("/elsewhere")}
    assert [replace(job, checkpoints=made / "checkpoints") for job in elsewhere] == list(jobs)
    assert isinstance(elsewhere[0], Job)
