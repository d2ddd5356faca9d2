"""Times contenders in turns, so that noise of the machine affects all of them equally."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """The times of a contender.

    Attributes:
        seconds: Time of each round, in order.
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median over the rounds, in seconds."""
        return statistics.median(self.seconds)


def turns(names: Sequence[str], rounds: int) -> Iterator[tuple[int, str]]:
    """Yields round (from 0) and contender of each turn; the order is reversed every round."""
    order = list(names)
    for number in range(rounds):
        yield from ((number, name) for name in order)
        order.reverse()


def take_turns(
    contenders: Mapping[str, Callable[[], object]],
    rounds: int,
    wait: Callable[[], None] = lambda: None,
) -> dict[str, Timing]:
    """Runs every contender once per round; the order is reversed every round.

    Args:
        contenders: Calls by name, already warmed up.
        rounds: Number of rounds, at least 1.
        wait: Synchronizes the device.
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
