"""Parts of a batch side by side on the CPU, one thread each.

PyTorch cuts each operation over its threads, which then all wait for the slowest at its end. Here
each thread takes some of the images through all operations, and they meet once.
"""

from __future__ import annotations

import copy
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M")
P = TypeVar("P")
R = TypeVar("R")


def side_by_side(members: Sequence[M], work: Callable[[M, P], R], parts: Sequence[P]) -> list[R]:
    """Returns what ``work`` makes of each part, in order.

    Each member has a thread, and takes one part after the other until none is left. Each operation
    runs in the thread that calls it, so a result depends on its part alone, and not on how many
    members there are. An error ends the others as soon as their parts are done, and is raised.

    Args:
        members: What a thread needs for itself, such as a model: see ``replicas``.
        work: Called with a member and a part; gradient mode and autocast are its own to set.
        parts: In order.
    """
    results: dict[int, R] = {}
    waiting = deque(enumerate(parts))

    def take(member: M) -> None:
        while waiting:
            try:
                number, part = waiting.popleft()
            except IndexError:  # another thread was faster
                return
            try:
                results[number] = work(member, part)
            except BaseException:
                waiting.clear()
                raise

    with threads(1):
        if min(len(members), len(parts)) < 2:
            take(members[0])
        else:
            pool = _pool(len(members) - 1)
            futures = [pool.submit(take, member) for member in members[1 : len(parts)]]
            try:
                take(members[0])
            finally:
                errors = [future.exception() for future in futures]
            for error in filter(None, errors):
                raise error
    return [results[number] for number in range(len(parts))]


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Has PyTorch cut each operation over n threads while the context lasts; 1 leaves it whole."""
    before = torch.get_num_threads()
    if before != n:
        torch.set_num_threads(n)
    try:
        yield
    finally:
        if before != n:
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


def replicas(model: nn.Module, n: int) -> list[nn.Module]:
    """Returns a model and n - 1 copies of its modules that share its weights and buffers.

    A network may keep things in its modules while it runs (a mask, a feature map, the path through
    RNA's layers), which no two threads may do at the same time. Foreign code that cannot be copied
    comes back alone.
    """
    shared = [*model.parameters(), *model.buffers()]
    try:
        copies = [copy.deepcopy(model, {id(one): one for one in shared}) for _ in range(n - 1)]
    except Exception:  # foreign code
        return [model]
    return [model, *copies]
