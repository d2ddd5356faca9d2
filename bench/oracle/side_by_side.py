"""Parts of a batch side by side on the CPU, one thread each."""

from __future__ import annotations

import copy
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

import torch
from torch import nn

P = TypeVar("P")
R = TypeVar("R")


class Crew:
    """Threads that pass parts of a batch through a model, one part a thread at a time.

    An operation is cut over threads by PyTorch too, but all threads then wait for the slowest at
    the end of each. Here they meet once, at the end. Whatever their number, each part is computed
    by one thread, so results depend on how a batch is cut and not on who computes it.

    A network may keep things in its modules while it runs (a mask, a feature map, the path through
    RNA's layers), so each thread has modules of its own, which share weights and buffers.

    Args:
        model: What parts are passed through, in the mode in which it stays.
        size: Threads; ``None`` for as many as PyTorch may use.
    """

    def __init__(self, model: nn.Module, size: int | None = None) -> None:
        self.models = [model]
        try:
            more = (size or torch.get_num_threads()) - 1
            self.models += [replica(model) for _ in range(more)]
        except Exception:  # foreign code that cannot be copied has one thread
            return

    @property
    def size(self) -> int:
        """The number of threads."""
        return len(self.models)

    def map(self, work: Callable[[nn.Module, P], R], parts: Sequence[P]) -> list[R]:
        """Returns what ``work`` makes of each part, given a model that no other thread runs.

        An error in one part ends the others as soon as they are done; the first one is raised.
        """
        results: dict[int, R] = {}
        waiting = deque(enumerate(parts))

        def take(model: nn.Module) -> None:
            while True:
                try:
                    number, part = waiting.popleft()
                except IndexError:
                    return
                try:
                    results[number] = work(model, part)
                except BaseException:
                    waiting.clear()
                    raise

        with one_thread_each():
            helpers = self.models[1 : len(parts)]
            futures = [_pool(self.size - 1).submit(take, model) for model in helpers]
            try:
                take(self.models[0])
            finally:
                _wait(futures)
        return [results[number] for number in range(len(parts))]


def _wait(futures: list[Future[None]]) -> None:
    for error in [future.exception() for future in futures]:
        if error is not None:
            raise error


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Has PyTorch run each operation in the thread that calls it while the context lasts."""
    before = torch.get_num_threads()
    if before > 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if before > 1:
            torch.set_num_threads(before)


@lru_cache(maxsize=8)
def _pool(size: int) -> ThreadPoolExecutor:
    """Returns threads that wait for work, all of them begun.

    OpenMP gives each thread a number of threads of its own, which is set once, here.
    """
    pool = ThreadPoolExecutor(size, "rbench")
    begun = threading.Barrier(size)

    def begin() -> None:
        torch.set_num_threads(1)
        begun.wait()

    for future in [pool.submit(begin) for _ in range(size)]:
        future.result()
    return pool


def replica(model: nn.Module) -> nn.Module:
    """Returns a copy of a model's modules that shares its weights and buffers."""
    shared = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(one): one for one in shared})
