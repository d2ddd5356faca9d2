"""Times contenders in turns, so that a noisy machine is noisy to all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """What a contender took.

    Attributes:
        seconds: Of each round, in order.
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median over the rounds, in seconds."""
        return statistics.median(self.seconds)


def turns(names: Sequence[str], rounds: int) -> Iterator[tuple[int, str]]:
    """Yields whose turn it is, with the round from 0; the order is reversed every round."""
    order = list(names)
    for number in range(rounds):
        yield from ((number, name) for name in order)
        order.reverse()


def take_turns(
    contenders: Mapping[str, Callable[[], object]],
    rounds: int,
    wait: Callable[[], None] = lambda: None,
) -> dict[str, Timing]:
    """Runs every contender once a round; the order is reversed from one round to the next.

    Args:
        contenders: What to run, by name; each is warm already.
        rounds: At least 1.
        wait: Waits until the device is idle.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _, name in turns(list(contenders), rounds):
        wait()
        begin = time.perf_counter()
        contenders[name]()
        wait()
        seconds[name].append(time.perf_counter() - begin)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def ratio(slow: Timing, fast: Timing) -> tuple[float, float, float]:
    """Returns the median over rounds of slow / fast, with the smallest and largest."""
    ratios = [a / b for a, b in zip(slow.seconds, fast.seconds, strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)
