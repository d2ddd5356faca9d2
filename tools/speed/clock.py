"""Measures the time of an attack, and the part of it spent in the model's passes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch

import bench.evaluation.cell
from bench.attacks import get_attack
from bench.attacks.base import Attack
from bench.oracle.runner import Runner


class Stopwatch:
    """A stopwatch that adds up intervals; nested or overlapping intervals count once.

    On a GPU it records events in the stream without synchronizing, so that timing does not slow
    the work; only ``seconds`` waits.

    Args:
        device: Where the work is done.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._done = 0.0
        self._marks: list[tuple[Any, Any]] = []
        self._begun: Any = None
        self._depth, self._lock = 0, threading.Lock()

    def begin(self) -> None:
        """Starts an interval."""
        with self._lock:
            self._depth += 1
            if self._depth == 1:
                self._begun = self._mark()

    def end(self) -> None:
        """Ends the interval that was started last, if any."""
        with self._lock:
            if not self._depth:
                return
            self._depth -= 1
            if not self._depth:
                self._add(self._begun, self._mark())

    @contextmanager
    def running(self) -> Iterator[None]:
        """Times the code in this context."""
        self.begin()
        try:
            yield
        finally:
            self.end()

    @property
    def on(self) -> bool:
        """Whether an interval is running."""
        return self._depth > 0

    @property
    def seconds(self) -> float:
        """Total seconds so far."""
        if self._marks:
            torch.cuda.synchronize(self._device)
            self._done += sum(begun.elapsed_time(ended) for begun, ended in self._marks) / 1000
            self._marks.clear()
        return self._done

    def _mark(self) -> Any:
        if self._device.type != "cuda":
            return time.perf_counter()
        event: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _add(self, begun: Any, ended: Any) -> None:
        if self._device.type == "cuda":
            self._marks.append((begun, ended))
        else:
            self._done += ended - begun


class Clock:
    """Times the search of an attack, and the model's passes inside it.

    Args:
        device: Where the work is done.
    """

    def __init__(self, device: torch.device) -> None:
        self.search, self.model = Stopwatch(device), Stopwatch(device)


@contextmanager
def watched(clock: Clock) -> Iterator[None]:
    """Times rbench's own attacks in this context.

    The search is ``Attack.run``, as ``bench.evaluation.cell`` calls it. The model's passes are
    ``Runner.run``, which every query goes through, and ``torch.autograd.grad``, by which the
    oracle gets gradients. The three are wrapped and restored; the oracle's answers do not change.
    """

    def watched_attack(name: str) -> Attack:
        attack = get_attack(name)
        return replace(attack, run=partial(_timed, clock.search, attack.run))

    model_pass, grad = Runner.run, torch.autograd.grad

    def in_search(work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            timed = clock.search.on
            return _timed(clock.model, work, *args, **kwargs) if timed else work(*args, **kwargs)

        return run

    with (
        _replaced(bench.evaluation.cell, "get_attack", watched_attack),
        _replaced(Runner, "run", in_search(model_pass)),
        _replaced(torch.autograd, "grad", in_search(grad)),
    ):
        yield


def _timed(watch: Stopwatch, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with watch.running():
        return work(*args, **kwargs)


@contextmanager
def _replaced(owner: object, name: str, value: object) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
