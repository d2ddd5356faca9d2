"""Measures false alarms and power of `rbench check` by simulation: ``make power``.

Simulated scores go through the same comparison as those of runs. The result is written to
``reports/regression_power.md``.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import special

from bench.check.compare import compare
from bench.check.record import Record, Recording
from bench.core.cell import CellSpec, DataSpec
from bench.core.host import processor
from bench.core.threat import ThreatModel
from bench.metrics import wilson

PAGE = Path(__file__).parents[1] / "reports" / "regression_power.md"
MODELS, ATTACKS, N, DRAWS, BATCH = 8, 5, 1_000, 20, 125
CELLS = MODELS * ATTACKS
ACCURACY = 0.6
Hits = NDArray[np.int64]


@dataclass(frozen=True)
class NoiseModel:
    """A model of how two runs without any change differ by chance.

    Attributes:
        title: Title in the report.
        draws: Draws per image.
        grouped: Whether images of a batch are dependent.
        make: Returns the hits of all cells (cells, n) in the first and in the second run.
    """

    title: str
    draws: int
    grouped: bool
    make: Callable[[np.random.Generator], tuple[Hits, Hits]]


def coin_flips(noise: float) -> Callable[[np.random.Generator], tuple[Hits, Hits]]:
    """Returns a noise model in which some images flip, the same for all attacks on a model.

    Args:
        noise: Share of images that flip in each direction.
    """

    def make(draw: np.random.Generator) -> tuple[Hits, Hits]:
        kind = draw.random((MODELS, 1, N))
        undecided = np.broadcast_to(kind < 4 * noise, (MODELS, ATTACKS, N))
        settled = np.broadcast_to(kind > 1 - ACCURACY + 2 * noise, (MODELS, ATTACKS, N))
        runs = []
        for _ in range(2):
            # Four times in five an image is the same under all attacks on a model.
            own = draw.random((MODELS, ATTACKS, N)) < 0.5
            shared = np.broadcast_to(draw.random((MODELS, 1, N)) < 0.5, own.shape)
            coin = np.where(draw.random(own.shape) < 0.8, shared, own)
            runs.append(np.where(undecided, coin, settled).astype(np.int64).reshape(CELLS, N))
        return runs[0], runs[1]

    return make


def random_draws(draw: np.random.Generator) -> tuple[Hits, Hits]:
    """A stochastic model: each image has its own probability of being right."""
    right = draw.beta(0.6, 0.4, (CELLS, N))
    return draw.binomial(DRAWS, right), draw.binomial(DRAWS, right)


def batches_move(draw: np.random.Generator) -> tuple[Hits, Hits]:
    """Images of a batch share statistics or a path, which affect all of them a little."""
    runs = []
    base = draw.normal(0, 1, (CELLS, N))
    for _ in range(2):
        shift = np.repeat(draw.normal(0, 0.1, (CELLS, N // BATCH)), BATCH, axis=1)
        noise = draw.normal(0, 0.05, (CELLS, N))
        runs.append((base + shift + noise > special.ndtri(1 - ACCURACY)).astype(np.int64))
    return runs[0], runs[1]


NOISE_MODELS = (
    NoiseModel("nothing differs: same seeds, same machine", 1, False, coin_flips(0.0)),
    NoiseModel("0.5 % of images flip each way", 1, False, coin_flips(0.005)),
    NoiseModel("2 % of images flip each way", 1, False, coin_flips(0.02)),
    NoiseModel("5 % of images flip each way", 1, False, coin_flips(0.05)),
    NoiseModel(f"stochastic models, {DRAWS} fresh draws", DRAWS, False, random_draws),
    NoiseModel(f"batches of {BATCH} that move together", 1, True, batches_move),
)


def recording(hits: Hits, noise_model: NoiseModel, weights: str) -> Recording:
    """Returns simulated scores as the recording of a run."""
    spec = CellSpec(
        checkpoint="made-up",
        sha256=weights * 64,
        stats=None,
        data=DataSpec(name="made-up"),
        data_hash="0" * 64,
        threat_model=ThreatModel(eps=0.1),
        attack="made-up",
        attack_version=1,
        attack_params={},
        protocol="white_box",
        batch_size=BATCH,
        n_draws=noise_model.draws,
        seed=0,
    )
    first = Record(
        model="",
        attack="",
        spec=spec,
        attack_kind="bounded",
        cluster="batch" if noise_model.grouped else "sample",
        index=tuple(range(N)),
        batch=tuple(i // BATCH for i in range(N)),
        hits=(),
    )
    records = {}
    for cell, row in enumerate(hits):
        key = (f"model {cell // ATTACKS}", f"attack {cell % ATTACKS}")
        records[key] = replace(first, model=key[0], attack=key[1], hits=tuple(row.tolist()))
    return Recording("made-up", records)


@dataclass
class Found:
    """Detections by each method of comparison.

    Attributes:
        check: ``rbench check`` fails.
        proportions: A test of two proportions is below 5 % in any cell, and the accuracy fell.
        intervals: The 95 % intervals of any cell do not overlap, and the accuracy fell.
        points: The accuracy of any cell fell by a point or more.
    """

    check: int = 0
    proportions: int = 0
    intervals: int = 0
    points: int = 0

    def add(self, before: Hits, now: Hits, noise_model: NoiseModel) -> None:
        """Compares two runs by every method."""
        # The same sha256: noise between runs, where any change fails the check.
        old, new = recording(before, noise_model, "0"), recording(now, noise_model, "0")
        self.check += compare(new, old).exit_code == 1
        a, b = before.mean(axis=1) / noise_model.draws, now.mean(axis=1) / noise_model.draws
        pooled = (a + b) / 2
        spread = np.sqrt(np.maximum(2 * pooled * (1 - pooled) / N, 1e-12))
        self.proportions += bool(np.any(2 * special.ndtr((b - a) / spread) < 0.05))
        ends = [(wilson(x * N, N)[0], wilson(y * N, N)[1]) for x, y in zip(a, b, strict=True)]
        self.intervals += any(high < low for low, high in ends)
        self.points += bool(np.any(a - b >= 0.01 - 1e-12))


def drops(before: Hits, now: Hits, draw: np.random.Generator, share: float, cells: int) -> Hits:
    """Returns the second run with a share of the images lost in some cells, the same in each.

    Args:
        before: Hits of the first run (cells, n).
        now: Hits of the second, without a drop.
        draw: Chooses the images.
        share: Share of all images to lose, out of those that are right.
        cells: Number of affected cells.
    """
    now = now.copy()
    for cell in range(cells):
        right = np.flatnonzero(now[cell] & before[cell])
        now[cell, draw.choice(right, round(share * N), replace=False)] = 0
    return now


def share_text(count: int, times: int) -> str:
    """Returns a share in percent with its interval."""
    low, high = wilson(count, times)
    return f"{100 * count / times:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def rows_of(found: Found, times: int, *first: str) -> str:
    """Returns a row of a table."""
    counts = (found.check, found.proportions, found.intervals, found.points)
    return "| " + " | ".join([*first, *(share_text(count, times) for count in counts)]) + " |"


WAYS = "`rbench check` | two proportions, 5 % | intervals apart | a point or more |"


def page(times: int, power_times: int, seed: int) -> Iterator[str]:
    """Yields the lines of the report as they are made."""
    yield "# False alarms and power of `rbench check`"
    yield ""
    yield (
        f"Made-up scores of {CELLS} cells ({MODELS} models, {ATTACKS} attacks, {N:,} images each, "
        f"accuracy about {100 * ACCURACY:.0f} %) go through the comparison that `rbench check` "
        "makes, at its default level of 1 %. Beside it three naive ways to compare the same two "
        "accuracies, each applied to every cell: a test of two proportions at 5 %, 95 % intervals "
        "that do not overlap, and a drop of a point or more. All count as an alarm when any cell "
        "is hit. Shares have their 95 % intervals (Wilson)."
    )
    yield ""
    yield "## Alarms although nothing has changed"
    yield ""
    yield f"| {times:,} pairs of runs that differ by chance | {WAYS}"
    yield "| :-- | --: | --: | --: | --: |"
    draw = np.random.default_rng(seed)
    for noise_model in NOISE_MODELS:
        found = Found()
        for _ in range(times):
            found.add(*noise_model.make(draw), noise_model)
        yield rows_of(found, times, noise_model.title)
    yield ""
    yield "## Drops that are found"
    yield ""
    yield f"| {power_times:,} pairs of runs; the drop | images that flip each way besides | {WAYS}"
    yield "| :-- | --: | --: | --: | --: | --: |"
    for cells, share in ((1, 0.03), (CELLS, 0.03), (1, 0.02), (1, 0.05)):
        for noise in (0.0, 0.005, 0.01, 0.02):
            noise_model = NoiseModel("", 1, False, coin_flips(noise))
            found = Found()
            for _ in range(power_times):
                before, now = noise_model.make(draw)
                found.add(before, drops(before, now, draw, share, cells), noise_model)
            where = "one cell" if cells == 1 else "every cell"
            title = f"{100 * share:g} points in {where}"
            yield rows_of(found, power_times, title, f"{100 * noise:g} %")
    yield ""
    yield (
        "The naive tests take the two runs as independent samples, and so need a drop of about "
        f"{100 * 1.96 * math.sqrt(2 * ACCURACY * (1 - ACCURACY) / N):.0f} points in a cell; "
        "without a correction for the number of cells they also alarm by chance."
    )
    yield ""
    when = f"{datetime.now(UTC):%Y-%m-%d}"
    yield f"Made on {processor()}, {when}, seed {seed}. Command: `make power`."
    yield ""


def main() -> None:
    """Simulates and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=1_000)
    parser.add_argument("--power-times", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=PAGE)
    given = parser.parse_args()
    lines = []
    for line in page(given.times, given.power_times, given.seed):
        print(line, flush=True)
        lines.append(line)
    given.out.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
