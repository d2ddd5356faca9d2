"""Workers that die, hang or are told to stop cost no more than what they were doing."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bench.core.errors import UserError
from bench.run.local import Stop, Workers, stop_on_signals
from bench.run.worker import Worker

pytestmark = pytest.mark.process


def work(job: str) -> str:
    """Does what it is told: dies, hangs, dies where it has not died before, or answers."""
    kind, _, rest = job.partition(" ")
    if kind == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "once" and not Path(rest).exists():
        Path(rest).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "hang":
        time.sleep(600)
    if kind == "refuse":
        raise UserError("refused")
    if kind == "unsendable":
        return lambda: job  # type: ignore[return-value]
    if kind == "nap":
        time.sleep(float(rest))
    return f"{job} done"


def lost(job: str, why: str) -> str:
    return f"{job} lost: {why}"


def outcomes(workers: Workers, jobs: list[str]) -> dict[str, str]:
    return dict(outcome for outcome in workers.run(work, jobs, lost) if outcome is not None)


def test_jobs_that_kill_their_worker_or_hang_do_not_stop_the_others(tmp_path: Path) -> None:
    once = f"once {tmp_path / 'mark'}"
    with Workers(2, limit=8.0) as workers:
        found = outcomes(workers, ["die", "hang", once, *(f"job {i}" for i in range(6))])
        later = outcomes(workers, ["after"])
    assert found["die"].startswith("die lost: its worker process was ended by SIGKILL, 3 times")
    assert found["hang"] == "hang lost: ended after 8 s, the time limit of a chunk"
    assert found[once] == f"{once} done", "a worker that died once is replaced, its job begun anew"
    assert all(found[f"job {i}"] == f"job {i} done" for i in range(6))
    assert later == {"after": "after done"}


def test_one_worker_can_be_ended_too_where_there_is_a_limit() -> None:
    with Workers(1, limit=5.0) as workers:
        assert outcomes(workers, ["hang", "job"]) == {
            "hang": "hang lost: ended after 5 s, the time limit of a chunk",
            "job": "job done",
        }


def test_workers_killed_before_they_have_a_job_are_replaced() -> None:
    def kill() -> None:
        killed: set[int] = set()
        while len(killed) < 2:
            for process in multiprocessing.active_children():
                if process.pid is not None and process.pid not in killed and len(killed) < 2:
                    killed.add(process.pid)
                    os.kill(process.pid, signal.SIGKILL)
            time.sleep(0.01)

    killer = threading.Thread(target=kill)
    killer.start()
    with Workers(2) as workers:
        found = outcomes(workers, [f"job {i}" for i in range(4)])
    killer.join()
    assert found == {f"job {i}": f"job {i} done" for i in range(4)}


def test_workers_that_cannot_start_do_not_start_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.run.local.Worker", lambda threads: Worker(-1))
    with Workers(2) as workers:
        found = outcomes(workers, ["a", "b"])
    why = "its worker process ended with code 1, 3 times, as it started"
    assert found == {job: f"{job} lost: {why}" for job in "ab"}


def test_what_cannot_be_sent_back_is_told() -> None:
    with pytest.raises(AttributeError, match="lambda"), Workers(2) as workers:
        outcomes(workers, ["unsendable"])


def test_a_run_that_is_given_up_leaves_nothing_to_the_next() -> None:
    with Workers(2) as workers:
        for _ in workers.run(work, ["nap 30", "nap 31", "job"], lost):
            if any(worker.task for worker in workers._workers):
                break
        assert outcomes(workers, ["after"]) == {"after": "after done"}


def test_an_expected_failure_reaches_the_caller() -> None:
    with pytest.raises(UserError, match="refused"), Workers(2) as workers:
        outcomes(workers, ["refuse"])


@pytest.mark.parametrize("n", [1, 2])
def test_what_is_at_work_ends_and_nothing_is_begun_after_a_stop(n: int) -> None:
    stop, found = Stop(), {}
    with Workers(n, stop=stop) as workers:
        for outcome in workers.run(work, [f"nap 0.{i}" for i in range(1, 10)] * 3, lost):
            if outcome is not None:
                found[outcome[0]] = outcome[1]
                stop.signal = signal.SIGTERM
    assert 1 <= len(found) <= 2 * n + 1
    assert all(result == f"{job} done" for job, result in found.items())
    assert stop.exit_code == 143


def test_the_first_signal_asks_and_the_second_ends() -> None:
    code = """
import os, signal
from bench.run.local import stop_on_signals
try:
    with stop_on_signals(lambda stop: print("told", stop.signal.name)) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        print("goes on", stop.asked)
        os.kill(os.getpid(), signal.SIGINT)
        print("never")
except KeyboardInterrupt:
    print("ended", stop.exit_code)
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:-1] == ["told SIGTERM", "goes on True", "ended 143", "True"]


def test_signals_are_left_alone_outside_the_main_thread() -> None:
    before, seen = signal.getsignal(signal.SIGTERM), []

    def look() -> None:
        with stop_on_signals(lambda stop: None):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [before]
