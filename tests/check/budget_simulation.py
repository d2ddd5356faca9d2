"""Measures how often a check within a budget raises a false alarm, and how often it sees a drop.

Run by hand: ``python tests/check/budget_simulation.py``; takes about two minutes. It writes a
Markdown table.

An image has a margin for each model and attack: how hard it is at all, how hard it is for this
model, and what is peculiar to the attack; it is broken where the margin is below the strength of
the attack. What a run adds is noise: of each cell its own, or the same in all cells of a model, as
if its weights had moved a little. A new run has new noise; a worse model has smaller margins too.
Checked are the natural column on all images and one attack on 150 of 1,000, together at 1 %.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from made_records import made_record

from bench.check.nearness import distances, preferred
from bench.check.record import Record
from bench.metrics.hypothesis import holm, paired_test

N, PICKED, ALPHA = 1000, 150, 0.01
STRENGTHS = {"natural": -1.3, "fgsm": -0.6, "mim": -0.3, "pgd": 0.0, "autoattack": 0.03}
"""Margins below which an image is broken; those of the last two are hardly told apart."""

TESTED = ("fgsm", "mim", "pgd", "autoattack")
HARDNESS = (-0.8, 0.0, 0.8)
"""Mean margins: about 20, 50 and 80 % are robust to the strongest attack."""

OWN, PECULIAR = 0.5, 0.12
"""Spreads of what is the model's own, and the attack's."""

DROP = 0.12
"""By which all margins of a worse model are smaller: some 3 to 5 points of accuracy."""

Hits = np.ndarray
Rule = Callable[[Record, Sequence[Record]], list[int]]


def near(record: Record, others: Sequence[Record]) -> list[int]:
    """The rule of ``bench.check``."""
    return preferred(distances(record, others), N)[:PICKED]


def first(record: Record, others: Sequence[Record]) -> list[int]:
    """Images as they come."""
    return list(range(PICKED))


def disputed(record: Record, others: Sequence[Record]) -> list[int]:
    """Images on which the model's other attacks disagree most: q (1 - q)."""
    mine = [o.hits for o in others if o.model == record.model and o.key != record.key]
    q = np.mean(mine, axis=0)
    return [int(i) for i in np.argsort(-q * (1 - q), kind="stable")[:PICKED]]


def nearest(record: Record, others: Sequence[Record]) -> list[int]:
    """The nearest of the order that ``near`` takes alike."""
    away = distances(record, others)
    assert away is not None
    return [int(i) for i in np.argsort(away, kind="stable")[:PICKED]]


def peeking(record: Record, others: Sequence[Record]) -> list[int]:
    """As ``near``, but first what was right in the very cell that is tested: the mistake."""
    places = preferred(distances(record, others), N)
    return sorted(places, key=lambda i: -record.hits[i])[:PICKED]


RULES: dict[str, Rule] = {
    "near": near,
    "first": first,
    "disputed": disputed,
    "nearest": nearest,
    "peeking": peeking,
}


def margins(rng: np.random.Generator, n_models: int, hardness: float) -> np.ndarray:
    """Returns margins (model, image, attack) without noise."""
    common = rng.normal(hardness, np.sqrt(1 - OWN**2), (1, N, 1))
    own = rng.normal(0, OWN, (n_models, N, 1))
    return common + own + rng.normal(0, PECULIAR, (n_models, N, len(STRENGTHS)))


def outcomes(rng: np.random.Generator, clean: np.ndarray, noise: float, shared: bool) -> Hits:
    """Returns what is right in a run (model, image, attack)."""
    shape = (*clean.shape[:2], 1) if shared else clean.shape
    right = clean + rng.normal(0, noise, shape) >= np.array(list(STRENGTHS.values()))
    return right.astype(int)


def verdicts(before: Hits, now: Hits, attack: int, places: list[int]) -> tuple[int, int]:
    """Returns -1 for a drop that is shown, 1 for a gain, 0 for neither: of natural, of the attack.

    Either counts after Holm's correction for both.
    """
    pairs = [(before[:, 0], now[:, 0]), (before[places, attack], now[places, attack])]
    tested = [paired_test(b.tolist(), n.tolist(), 1).p for b, n in pairs]
    adjusted = holm([p for p in tested if p is not None])
    natural, attacked = (
        int(np.sign(n.sum() - b.sum())) * (p <= ALPHA)
        for (b, n), p in zip(pairs, adjusted, strict=True)
    )
    return natural, attacked


TEMPLATES = [
    [made_record([1] * N, f"m{i}", name, seed=100 * i + j) for j, name in enumerate(STRENGTHS)]
    for i in range(9)
]


def records(right: Hits) -> list[Record]:
    """Returns the cells of a run."""
    return [
        replace(TEMPLATES[i][j], hits=tuple(right[i, :, j].tolist()))
        for i in range(right.shape[0])
        for j in range(right.shape[2])
    ]


def measure(
    n_models: int, noise: float, shared: bool, reps: int, seed: int, fixed: tuple[float, str] | None
) -> dict[str, np.ndarray]:
    """Returns of each rule the shares of false drops, false gains, drops seen, and flips.

    False ones are of the whole check; seen is a drop in the column of the attack.
    """
    rng = np.random.default_rng(seed)
    found = {name: np.zeros(4) for name in RULES}
    for rep in range(reps):
        hardness, name = fixed or (HARDNESS[rep % 3], TESTED[rep // 3 % len(TESTED)])
        attack = list(STRENGTHS).index(name)
        clean = margins(rng, n_models, hardness)
        before = outcomes(rng, clean, noise, shared)
        same = outcomes(rng, clean, noise, shared)[0]
        worse = outcomes(rng, clean - DROP, noise, shared)[0]
        cells = records(before)
        for rule, pick in RULES.items():
            places = pick(cells[attack], cells)
            false = verdicts(before[0], same, attack, places)
            _, seen = verdicts(before[0], worse, attack, places)
            flips = float((before[0][places, attack] != same[places, attack]).mean())
            found[rule] += [-1 in false, 1 in false, seen < 0, flips]
    return {name: values / reps for name, values in found.items()}


def row(label: str, found: dict[str, np.ndarray]) -> str:
    """Returns a line of the table: false alarms (drops / gains) and power of each rule."""
    cells = [
        f"{100 * drops:.1f} / {100 * gains:.1f} | {100 * power:.0f}"
        for drops, gains, power, _ in found.values()
    ]
    return f"| {label} | {100 * next(iter(found.values()))[3]:.0f} | {' | '.join(cells)} |"


def main() -> None:
    """Prints a table, of all kinds of attacks together or one by one."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--reps", type=int, default=900)
    parser.add_argument(
        "--worst", action="store_true", help="shared noise, case by case; takes longer"
    )
    options = parser.parse_args()
    heads = [f"{name}: false, % | power, %" for name in RULES]
    say = sys.stdout.write
    say(f"| models | noise | flips, % | {' | '.join(heads)} |\n")
    say(f"|{' --- |' * 3}{' --- | --- |' * len(RULES)}\n")
    for n_models in (1, 4):
        for noise in (0.2,) if options.worst else (0.05, 0.2):
            for shared in (True,) if options.worst else (False, True):
                kind = "shared" if shared else "own"
                cases = [(h, a) for h in HARDNESS for a in TESTED] if options.worst else [None]
                for case in cases:
                    of = f", {case[1]} at {case[0]:g}" if case else ""
                    found = measure(n_models, noise, shared, options.reps, 1, case)
                    say(row(f"{n_models} | {noise:g} {kind}{of}", found) + "\n")
                    sys.stdout.flush()


if __name__ == "__main__":
    main()
