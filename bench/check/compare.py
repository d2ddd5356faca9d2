"""Compares the cells of a run with a baseline: tests, verdicts and the exit code."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.check.baseline_file import differing
from bench.check.identity import differences, trained_apart
from bench.check.record import Key, Record, Recording
from bench.metrics import Estimate, independent_difference
from bench.metrics.hypothesis import Tested, detectable_drop, holm, paired_test, unpaired_test
from bench.metrics.paired import score_difference

Verdict = Literal["same", "improved", "regressed", "small drop", "new", "missing", "not comparable"]
"""``same``: no significant change, on the same images and measurement. ``improved`` and
``regressed``: a significant change or, for the latter, a new alarm; it fails the check. ``small
drop``: a significant drop below the smallest that fails the check. ``new``: not in the baseline.
``missing``: in the baseline only. ``not comparable``: measured differently, or two trainings
without a significant difference."""

ORDER: tuple[Verdict, ...] = (
    "regressed",
    "small drop",
    "missing",
    "not comparable",
    "improved",
    "new",
    "same",
)
"""From the most to the least urgent."""

EXIT_FINE, EXIT_REGRESSED, EXIT_INCOMPLETE = 0, 1, 3

ALPHA = 0.01
"""Default probability that a check without any change fails."""

NAMED = 10
"""Cells that a note names."""

UNCHANGED_DROP = (
    "weights, data and attack are those of the baseline: code or a library has changed the model, "
    "or made the attack stronger"
)
UNCHANGED_GAIN = (
    "weights, data and attack are those of the baseline, and yet it breaks fewer images: the "
    "attack or what runs it got weaker, the model did not get better"
)


@dataclass(frozen=True)
class Checked:
    """The result for one cell.

    Attributes:
        model: Label of the model.
        attack: Label of the attack.
        verdict: Outcome of the comparison.
        fails: Whether it makes the check fail with a regression.
        leaves_open: Whether it leaves the check incomplete.
        before: Accuracy in the baseline, if any.
        now: Accuracy in the run, if any.
        difference: ``now`` minus ``before``, with its 95 % interval.
        p: p-value of the test of no difference; ``None`` if there was no test.
        adjusted: The p-value after Holm's correction over all cells.
        test: Name of the test.
        seen: Smallest drop that would have been detected with 90 % power; ``None`` if unknown.
        lost: Images whose score fell, by position in the split, largest falls first.
        gained: Images whose score rose, largest rises first.
        reasons: Explanations of the verdict.
    """

    model: str
    attack: str
    verdict: Verdict
    fails: bool = False
    leaves_open: bool = False
    before: Estimate | None = None
    now: Estimate | None = None
    difference: Estimate | None = None
    p: float | None = None
    adjusted: float | None = None
    test: str = ""
    seen: float | None = None
    lost: tuple[int, ...] = ()
    gained: tuple[int, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The cell's labels in one."""
        return f"{self.model} / {self.attack}"


@dataclass(frozen=True)
class Check:
    """The result for a whole run.

    Attributes:
        suite: Name of the run's suite.
        baseline: Origin of the baseline.
        run: Origin of the run.
        alpha: Highest probability that a check without any change finds one.
        min_drop: Smallest drop that makes the check fail, in [0, 1].
        cells: All cells of baseline and run, most urgent first.
        notes: Further information, such as differing versions of libraries.
    """

    suite: str
    baseline: str
    run: str
    alpha: float
    min_drop: float
    cells: tuple[Checked, ...]
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0: no regression. 1: a regression. 3: some cells could not be checked."""
        if any(cell.fails for cell in self.cells):
            return EXIT_REGRESSED
        return EXIT_INCOMPLETE if any(cell.leaves_open for cell in self.cells) else EXIT_FINE

    def count(self, verdict: Verdict) -> int:
        """Returns the number of cells with a verdict."""
        return sum(cell.verdict == verdict for cell in self.cells)

    @property
    def tested(self) -> int:
        """The number of tested cells, over which p-values are corrected."""
        return sum(cell.p is not None for cell in self.cells)


def in_order(cells: Iterable[Checked]) -> tuple[Checked, ...]:
    """Returns cells sorted by urgency, otherwise in their own order."""
    return tuple(
        sorted(cells, key=lambda c: (not c.fails, not c.leaves_open, ORDER.index(c.verdict)))
    )


@dataclass(frozen=True)
class Rules:
    """Criteria of a check.

    Attributes:
        alpha: Highest probability that a check of unchanged models finds any change.
        min_drop: Smallest drop in accuracy that fails the check, in [0, 1]; smaller ones are shown.
        accept_retrained: Whether two trainings without a significant difference pass; otherwise
            they leave the check incomplete.
    """

    alpha: float = ALPHA
    min_drop: float = 0.0
    accept_retrained: bool = False


@dataclass(frozen=True)
class _Pair:
    """Two comparable cells, and the test of no difference between them.

    ``apart`` says why the models are two trainings; empty if they are not.
    """

    before: Record
    now: Record
    apart: str
    tested: Tested

    @property
    def difference(self) -> Estimate:
        """``now`` minus ``before``, with its 95 % interval."""
        if self.apart:
            return independent_difference(self.now.accuracy, self.before.accuracy)
        return score_difference(self.now.scores, self.before.scores, self.now.groups).estimate

    @property
    def unchanged(self) -> bool:
        """Whether both cells have the same identity."""
        return self.before.spec == self.now.spec

    def moved(self, sign: int) -> tuple[int, ...]:
        """Returns the images whose score rose (1) or fell (-1), the largest moves first."""
        if self.apart:
            return ()
        steps = zip(self.now.hits, self.before.hits, self.now.index, strict=True)
        moves = [(sign * (a - b), i) for a, b, i in steps if sign * (a - b) > 0]
        return tuple(i for _, i in sorted(moves, key=lambda move: (-move[0], move[1])))


def compare(run: Recording, baseline: Recording, rules: Rules | None = None) -> Check:
    """Compares every cell of a run with the cell of the same labels in a baseline.

    On the same images the test is paired and exact (``paired_test``); for two trainings it is
    unpaired. Holm's correction bounds the probability of any false finding by ``alpha``.
    """
    rules = rules or Rules()
    pairs: dict[Key, _Pair] = {}
    cells: dict[Key, Checked] = {}
    for key in dict.fromkeys((*baseline.records, *run.records)):
        before, now = baseline.records.get(key), run.records.get(key)
        if before is None:
            assert now is not None
            alarms = tuple(f"it has an alarm: {name}" for name in now.alarms)
            cells[key] = Checked(*key, "new", now=now.accuracy, reasons=alarms)
        elif now is None:
            why = run.missing.get(key, "not among the run's cells")
            cells[key] = Checked(
                *key, "missing", leaves_open=True, before=before.accuracy, reasons=(why,)
            )
        elif parts := differences(before, now):
            cells[key] = _otherwise(before, now, parts)
        else:
            pairs[key] = _pair(before, now, run, baseline)
    tested = {key: pair.tested.p for key, pair in pairs.items() if pair.tested.p is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    level = rules.alpha / max(len(tested), 1)
    for key, pair in pairs.items():
        cells[key] = _judge(pair, adjusted.get(key), level, rules)
    for key, why in run.missing.items():
        if key not in cells:
            cells[key] = Checked(*key, "missing", leaves_open=True, reasons=(why,))
    return Check(
        suite=run.suite,
        baseline=baseline.origin,
        run=run.origin,
        alpha=rules.alpha,
        min_drop=rules.min_drop,
        cells=in_order(cells.values()),
        notes=tuple(_notes(run, baseline)),
    )


def _pair(before: Record, now: Record, run: Recording, baseline: Recording) -> _Pair:
    apart = ""
    if before.spec.sha256 != now.spec.sha256:
        apart = trained_apart(
            baseline.checkpoints.get(before.spec.checkpoint),
            run.checkpoints.get(now.spec.checkpoint),
        )
    draws = now.spec.n_draws
    if apart:
        groups = (before.groups, now.groups)
        tested = unpaired_test(before.hits, now.hits, draws, groups)
    else:
        tested = paired_test(before.hits, now.hits, draws, now.groups)
    return _Pair(before, now, apart, tested)


def _otherwise(before: Record, now: Record, parts: Sequence[str]) -> Checked:
    """Returns the result for two cells that were measured differently; a new alarm counts."""
    alarms = _new_alarms(before, now)
    return Checked(
        now.model,
        now.attack,
        "regressed" if alarms else "not comparable",
        fails=bool(alarms),
        leaves_open=True,
        before=before.accuracy,
        now=now.accuracy,
        reasons=(*alarms, *parts),
    )


def _judge(pair: _Pair, adjusted: float | None, level: float, rules: Rules) -> Checked:
    """Returns the result for a tested pair."""
    difference = pair.difference
    base = Checked(
        pair.now.model,
        pair.now.attack,
        "same",
        before=pair.before.accuracy,
        now=pair.now.accuracy,
        difference=difference,
        p=pair.tested.p,
        adjusted=adjusted,
        test=pair.tested.method,
        seen=_seen(pair, level),
        lost=pair.moved(-1),
        gained=pair.moved(1),
        reasons=(pair.apart,) if pair.apart else (),
    )
    shown = adjusted is not None and adjusted <= rules.alpha
    alarms = _new_alarms(pair.before, pair.now)
    if alarms:
        return _with(base, "regressed", *alarms, fails=True)
    if shown and difference.value < 0:
        if pair.unchanged:
            base = dataclasses.replace(base, reasons=(UNCHANGED_DROP,))
        # A drop of exactly ``min_drop`` counts, despite rounding.
        if -difference.value >= rules.min_drop - 1e-9:
            return _with(base, "regressed", fails=True)
        small = f"a real drop, but below {100 * rules.min_drop:g} points"
        return _with(base, "small drop", small)
    if shown and pair.unchanged:
        return _with(base, "regressed", UNCHANGED_GAIN, fails=True)
    if shown:
        return _with(base, "improved")
    if pair.tested.p is None:
        return _with(base, "not comparable", pair.tested.method, leaves_open=True)
    if pair.apart:
        why = "retrained (unpaired test): no difference detected, but equality is not claimed"
        return _with(base, "not comparable", why, leaves_open=not rules.accept_retrained)
    return base


def _with(cell: Checked, verdict: str, *reasons: str, **flags: bool) -> Checked:
    return dataclasses.replace(
        cell,
        verdict=verdict,  # type: ignore[arg-type]
        reasons=(*cell.reasons, *reasons),
        **flags,  # type: ignore[arg-type]
    )


def _new_alarms(before: Record, now: Record) -> list[str]:
    fresh = [name for name in now.alarms if name not in before.alarms]
    return [f"a new alarm: {name}" for name in fresh]


def _seen(pair: _Pair, level: float) -> float | None:
    """Returns the smallest detectable drop, given the noise between these two cells."""
    if pair.apart or pair.now.groups is not None or pair.now.spec.n_draws > 1:
        return None
    n = len(pair.now.index)
    noise = min(len(pair.moved(1)), len(pair.moved(-1))) / n
    found = detectable_drop(n, noise, level)
    return found if found is not None and found <= pair.before.accuracy.value else None


def _notes(run: Recording, baseline: Recording) -> Iterator[str]:
    if run.suite != baseline.suite:
        yield f"the run is of suite '{run.suite}', the baseline of '{baseline.suite}'"
    if baseline.missing:
        names = [" / ".join(key) for key in baseline.missing]
        more = ", ..." if len(names) > NAMED else ""
        yield f"the baseline has no number of {', '.join(names[:NAMED])}{more}"
    others = differing(baseline.versions, run.versions)
    if others:
        yield f"made with other versions or on another machine: {', '.join(others)}"
