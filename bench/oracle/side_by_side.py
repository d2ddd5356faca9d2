"""Runs parts of a batch side by side on the CPU, one thread each.

PyTorch splits each operation over its threads, which all wait for the slowest at its end. Here each
thread takes some of the images through all operations, so they wait only once.
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
    """Calls ``work`` on each part in parallel; returns the results in order.

    Each member has a thread that takes one part after the other until none is left. Each operation
    runs entirely in the thread that calls it, so a result depends on its part alone, not on the
    number of members. After an error the other threads stop when their current part is done, and
    the error is raised.

    Args:
        members: What a thread must not share, such as a model: see ``replicas``.
        work: Called with a member and a part; sets gradient mode and autocast itself.
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
    """Sets the number of threads per PyTorch operation in this context."""
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
    """Returns a pool whose threads have all been started.

    OpenMP keeps a thread count for each thread; it is set to 1 once, here.
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

    A network may store things in its modules while it runs (a mask, a feature map, the path through
    RNA's layers), which two threads must not do at the same time. A model that cannot be copied is
    returned alone.
    """
    shared = [*model.parameters(), *model.buffers()]
    try:
        copies = [copy.deepcopy(model, {id(one): one for one in shared}) for _ in range(n - 1)]
    except Exception:  # foreign code
        return [model]
    return [model, *copies]
