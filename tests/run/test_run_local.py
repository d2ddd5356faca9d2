"""Workers that die, hang or are told to stop cost no more than what they were doing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.core.errors import UserError
from bench.run.local import Workers
from bench.run.stop import Stop, stop_on_signals


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
from bench.run.stop import stop_on_signals
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
    import threading

    before, seen = signal.getsignal(signal.SIGTERM), []

    def look() -> None:
        with stop_on_signals(lambda stop: None):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [before]
