"""Shares a budget of time among the cells of a baseline, for the most power to see a drop.

Nothing is run here. Every model gets its natural column, on as many images as a tenth of the budget
allows, and the attack that finds the smallest drop in the time there is; time is shared out so that
all models' drops are about the same. What is left goes to more images, and, once all images of
these are run, to further attacks.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.check.chosen import Choice
from bench.check.option import Option, options_of
from bench.check.picking import pick
from bench.check.record import Key, Recording

NATURAL = 0.1
"""Share of the budget for clean images, at most."""

WORST_DROP, STEPS = 100.0, 48
"""Where the search for the common drop begins, and how often it is narrowed down."""

Share = tuple[Option, int]
"""A cell, and how many of its images are run."""


def choose(
    baseline: Recording,
    costs: Mapping[Key, float],
    seconds: float,
    *,
    workers: int = 1,
    alpha: float,
    apart: Collection[str] = (),
) -> list[Choice]:
    """Chooses what to run; the same arguments give the same choice.

    Args:
        baseline: What is compared with.
        costs: Seconds that an image of a cell takes one worker; cells without are not run.
        seconds: That there are.
        workers: That share the work.
        alpha: Probability that a check without any change finds one, at most.
        apart: Labels of models that were trained anew. Their images are taken as they come: what
            is near the decision of one network need not be near that of another.

    Returns:
        The choices, in the order of the baseline. A model for which the time is too short, or none
        of whose attacks leaves anything to lose, may be missing.
    """
    models = options_of(baseline, costs)
    clock = _Clock(seconds, workers)
    shares = _add_further(models, _shared(models, clock, alpha), clock, alpha)
    taken = {option.record.key: (option, n) for option, n in shares}
    ordered = [taken[key] for key in baseline.records if key in taken]
    level = alpha / max(len(ordered), 1)
    records = list(baseline.records.values())
    return [
        pick(option.record, n, option.cost, [] if option.record.model in apart else records, level)
        for option, n in ordered
    ]


@dataclass(frozen=True)
class _Clock:
    seconds: float
    workers: int

    def fits(self, shares: Iterable[Share]) -> bool:
        """Whether the time suffices, if the last worker begins a longest batch last."""
        total = longest = 0.0
        for option, n in shares:
            total += n * option.cost
            longest = max(longest, min(n, option.record.spec.batch_size) * option.cost)
        return (total + (self.workers - 1) * longest) / self.workers <= self.seconds


def _shared(models: Sequence[Sequence[Option]], clock: _Clock, alpha: float) -> list[Share]:
    """Returns each model's natural column and best attack, for the least common drop that fits."""
    attacks = [[o for o in options if not o.natural] or list(options) for options in models]
    columns = [o for options in models for o in options if o.natural and len(options) > 1]
    level = alpha / max(len(columns) + len(models), 1)
    natural = _natural(columns, clock, level)
    best: list[Share] | None = None
    low, high = -math.log(WORST_DROP), math.log(WORST_DROP)
    drop = WORST_DROP
    for _ in range(STEPS):
        found = natural + [s for some in attacks if (s := _cheapest(some, drop, level))]
        if clock.fits(found):
            best, high = found, math.log(drop)
        elif best is None:
            return _most(found, clock)
        else:
            low = math.log(drop)
        drop = math.exp((low + high) / 2)
    return best or []


def _natural(columns: Sequence[Option], clock: _Clock, level: float) -> list[Share]:
    """Returns the columns of clean images, on as many as their share of the time allows."""
    each = NATURAL * clock.seconds * clock.workers / max(len(columns), 1)
    found = []
    for option in columns:
        least = option.need(WORST_DROP, level)
        if least is not None:
            found.append((option, max(least, option.upto(int(each / max(option.cost, 1e-12))))))
    return found


def _cheapest(options: Sequence[Option], drop: float, level: float) -> Share | None:
    """Returns what shows a drop in the least time; if nothing does, all images of the best."""
    needs = [(option, option.need(drop, level)) for option in options]
    able = [(option, n) for option, n in needs if n is not None]
    if able:
        return min(able, key=lambda share: share[1] * share[0].cost)
    usable = [option for option in options if option.need(WORST_DROP, level) is not None]
    if not usable:
        return None
    best = min(usable, key=lambda option: option.detectable(option.n, level) / option.strength)
    return best, best.n


def _most(shares: Iterable[Share], clock: _Clock) -> list[Share]:
    """Returns as many cells as fit, the shortest first."""
    found: list[Share] = []
    for share in sorted(shares, key=lambda share: share[1] * share[0].cost):
        if clock.fits([*found, share]):
            found.append(share)
    return found


def _add_further(
    models: Sequence[Sequence[Option]], shares: list[Share], clock: _Clock, alpha: float
) -> list[Share]:
    """Spends what time is left: on more images, and, once all are run, on further attacks."""
    taken = {option.record.key: (option, n) for option, n in shares}

    def most(option: Option) -> int:
        others = [share for key, share in taken.items() if key != option.record.key]
        return _largest(option, others, clock)

    for option, n in sorted(shares, key=lambda share: share[0].natural):
        taken[option.record.key] = (option, max(n, most(option)))
    if any(n < option.n for option, n in taken.values()):
        return list(taken.values())
    queues = [sorted(options, key=lambda o: -o.strength / max(o.cost, 1e-12)) for options in models]
    for turn in itertools.zip_longest(*queues):
        for option in turn:
            if option is None or option.record.key in taken:
                continue
            least = option.need(WORST_DROP, alpha / (len(taken) + 1))
            if least is not None and (n := most(option)) >= least:
                taken[option.record.key] = (option, n)
    return list(taken.values())


def _largest(option: Option, others: list[Share], clock: _Clock) -> int:
    """Returns how many images of a cell fit beside others."""
    counts = range(option.n + 1)
    beyond = bisect.bisect_left(counts, True, key=lambda n: not clock.fits([*others, (option, n)]))
    return option.upto(beyond - 1)
