"""Which of several ways to do the same is fastest here and now."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

K = TypeVar("K")

CLEARLY = 1.3
"""What takes this many times as long as the fastest so far is not timed again."""


def race(
    contenders: Mapping[K, Callable[[], object]],
    rounds: int,
    *,
    clearly: float = CLEARLY,
    forgive: tuple[type[Exception], ...] = (),
    clock: Callable[[Callable[[], object]], float] | None = None,
) -> dict[K, float]:
    """Returns the least seconds that each contender took.

    They take turns, so that a moment in which the machine is busy strikes them all. A first round
    makes ready what each needs and is not counted; whoever is clearly slower in a later one is left
    out from then on, with what it has.

    Args:
        contenders: What is called, by name.
        rounds: Times that each is timed.
        clearly: How many times slower than the fastest that is.
        forgive: Errors for which a contender is left out, with no time.
        clock: Returns the seconds that a call takes.
    """
    clock = clock or seconds
    running, least = dict(contenders), dict[K, float]()
    for number in range(1 + rounds):
        for name, call in list(running.items()):
            try:
                taken = clock(call)
            except forgive:
                del running[name]
                least.pop(name, None)
                continue
            if number:
                least[name] = min(taken, least.get(name, taken))
        if number and least:
            best = min(least.values())
            running = {k: call for k, call in running.items() if least[k] <= clearly * best}
    return least


def seconds(call: Callable[[], object]) -> float:
    """Returns what a call takes by the wall's clock."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
