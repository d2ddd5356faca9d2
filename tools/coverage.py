"""Coverage and power of the intervals of ``bench.metrics``, by simulation, as a Markdown table.

python -m tools.coverage            # the table of docs/statistics.md
python -m tools.coverage --times 500
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from bench.metrics import estimate_mean
from bench.metrics.paired import score_difference
from bench.metrics.trainings import crossed_mean

Vector = NDArray[np.float64]
DRAWS = 20
"""Draws on which a stochastic model is scored."""


@dataclass(frozen=True)
class Images:
    """A kind of images.

    Attributes:
        said: In words.
        n: How many.
        accuracy: Mean share of right answers.
        spread: Concentration of the beta distribution of the images' own rates; 0 where an answer
            is right or wrong for certain.
        batch: Images that share a rate, in part; 1 for independent images.
        correlation: Intra-batch correlation.
    """

    said: str
    n: int
    accuracy: float
    spread: float = 0.0
    batch: int = 1
    correlation: float = 0.0

    @property
    def groups(self) -> list[int] | None:
        """The batch of each image."""
        return [i // self.batch for i in range(self.n)] if self.batch > 1 else None


def rates(kind: Images, draw: np.random.Generator) -> Vector:
    """Draws the probability (n,) that each image is answered right."""
    mean = np.full(kind.n, kind.accuracy)
    if kind.correlation:
        k = (1 - kind.correlation) / kind.correlation
        own = draw.beta(kind.accuracy * k, (1 - kind.accuracy) * k, -(-kind.n // kind.batch))
        mean = np.repeat(own, kind.batch)[: kind.n]
    if not kind.spread:
        return mean
    inside = np.clip(mean, 1e-6, 1 - 1e-6)
    return draw.beta(inside * kind.spread, (1 - inside) * kind.spread)


def scores(kind: Images, own: Vector, draw: np.random.Generator) -> Vector:
    """Draws the scores (n,) of images with these rates: 0 and 1, or shares of draws."""
    if kind.spread:
        return draw.binomial(DRAWS, own) / DRAWS
    return (draw.random(kind.n) < own).astype(np.float64)


def mean_coverage(kind: Images, times: int, seed: int) -> tuple[float, float]:
    """Returns how often the interval of a mean holds the truth, and its mean width."""
    draw, held, width = np.random.default_rng(seed), 0, 0.0
    for _ in range(times):
        found = estimate_mean(scores(kind, rates(kind, draw), draw).tolist(), kind.groups)
        assert found.low is not None and found.high is not None
        held += found.low <= kind.accuracy <= found.high
        width += found.high - found.low
    return held / times, width / times


@dataclass(frozen=True)
class Pairs:
    """Two attacks on the same images.

    Attributes:
        images: The images under the first.
        drop: By how much the second is stronger, on average; where an image is broken for certain
            it is a share of images.
        noise: Standard deviation of the difference of an image's rates; of right-or-wrong scores,
            the share of images that flip either way.
    """

    images: Images
    drop: float
    noise: float


def pair(kind: Pairs, draw: np.random.Generator) -> tuple[Vector, Vector]:
    """Draws the scores of both attacks."""
    images = kind.images
    own = rates(images, draw)
    if not images.spread:
        first = scores(images, own, draw)
        u = draw.random(images.n)
        lost = (first == 1) & (u < (kind.drop + kind.noise) / images.accuracy)
        gained = (first == 0) & (u < kind.noise / (1 - images.accuracy))
        second = np.where(lost, 0.0, np.where(gained, 1.0, first))
        return first, second
    # Only images that can be moved are: a share of those that are neither safe nor lost.
    room = np.minimum(own, 1 - own)
    moved = own - kind.drop * room / 0.1 + kind.noise * room * draw.standard_normal(images.n)
    other = np.clip(moved, 0, 1)
    return scores(images, own, draw), scores(images, other, draw)


def truth(kind: Pairs) -> float:
    """Returns the true mean difference, from a sample large enough."""
    if not kind.images.spread:
        return kind.drop
    draw = np.random.default_rng(99)
    images = Images("", 400_000, kind.images.accuracy, kind.images.spread)
    first, second = pair(Pairs(images, kind.drop, kind.noise), draw)
    return float((first - second).mean())


def pair_coverage(kind: Pairs, times: int, seed: int) -> tuple[float, float, float, float]:
    """Returns the true difference, coverage, share of verdicts, and the mean width."""
    draw, held, shown, width, real = np.random.default_rng(seed), 0, 0, 0.0, truth(kind)
    for _ in range(times):
        first, second = pair(kind, draw)
        found = score_difference(first.tolist(), second.tolist(), kind.images.groups)
        assert found.low is not None and found.high is not None
        held += found.low <= real <= found.high
        shown += found.verdict != "no difference shown"
        width += found.high - found.low
    return real, held / times, shown / times, width / times


MEANS = (
    *(Images("right or wrong", n, p) for n in (32, 200) for p in (0.05, 0.5, 0.9)),
    *(Images(f"{DRAWS} draws", n, p, 1.0) for n in (32, 200) for p in (0.05, 0.5, 0.9)),
    *(
        Images(f"right or wrong, correlation {icc}", 256, p, 0.0, 16, icc)
        for icc in (0.02, 0.1, 0.3)
        for p in (0.05, 0.5)
    ),
    *(Images(f"{DRAWS} draws, correlation 0.1", 256, p, 1.0, 16, 0.1) for p in (0.05, 0.5)),
)
PAIRS = (
    *(Pairs(Images("right or wrong", n, 0.7), d, 0.01) for n in (64, 200) for d in (0.0, 0.05)),
    *(
        Pairs(Images(f"{DRAWS} draws", n, 0.7, 1.0), d, 0.3)
        for n in (32, 64, 200)
        for d in (0.0, 0.03)
    ),
    *(
        Pairs(Images(f"{DRAWS} draws, batches of 16", 256, 0.7, 1.0, 16, 0.1), d, 0.3)
        for d in (0.0, 0.03)
    ),
)


@dataclass(frozen=True)
class Seeds:
    """Trainings of one recipe.

    Attributes:
        trainings: How many.
        n: Images, the same for all.
        spread: Standard deviation of what trainings reach on all images, about.
    """

    trainings: int
    n: int
    spread: float


OWN, HARD = 1.0, 2.5
"""Standard deviations, on the scale of a margin, of what an image brings and of what is left once
image and training are known. Their mean is ``LEVEL``, which is 70 % right."""
LEVEL = 1.41
PER_POINT = 0.129
"""Share of images that a shift of the margin by 1 moves, at that level."""


def seeds_scores(kind: Seeds, draw: np.random.Generator) -> tuple[Vector, float]:
    """Draws right and wrong (k trainings, n images), and what the recipe reaches in truth."""
    between = kind.spread / PER_POINT
    images = HARD * draw.standard_normal(kind.n)
    trainings = between * draw.standard_normal(kind.trainings)
    left = OWN * draw.standard_normal((kind.trainings, kind.n))
    right = LEVEL + images[None] + trainings[:, None] + left > 0
    reached = float(scipy.special.ndtr(LEVEL / math.sqrt(OWN**2 + HARD**2 + between**2)))
    return right.astype(np.float64), reached


SEEDS = tuple(Seeds(k, n, s) for k in (2, 3, 5) for n in (200, 1000) for s in (0.0, 0.01, 0.03))


def seeds_rows(times: int) -> Iterator[str]:
    """Yields the lines of the table of trainings."""
    for kind in SEEDS:
        draw, held, alone, width = np.random.default_rng(7), 0, 0, 0.0
        for _ in range(times):
            table, real = seeds_scores(kind, draw)
            found, narrow = crossed_mean(table), estimate_mean(table.mean(0).tolist())
            assert found.interval is not None and narrow.interval is not None
            held += found.interval[0] <= real <= found.interval[1]
            alone += narrow.interval[0] <= real <= narrow.interval[1]
            width += found.interval[1] - found.interval[0]
        numbers = f"{held / times:.1%} | {alone / times:.1%} | {100 * width / times:.1f}"
        yield f"| {kind.trainings} | {kind.n} | {100 * kind.spread:.0f} | {numbers} |"


def _table(head: str, rows: Iterator[str]) -> str:
    columns = head.count("|") - 1
    return "\n".join([head, "|" + " --- |" * columns, *rows])


def mean_rows(times: int) -> Iterator[str]:
    """Yields the lines of the table of means."""
    for kind in MEANS:
        covered, width = mean_coverage(kind, times, 5)
        numbers = f"{kind.n} | {kind.accuracy:.0%} | {covered:.1%} | {100 * width:.1f}"
        yield f"| {kind.said} | {numbers} |"


def pair_rows(times: int) -> Iterator[str]:
    """Yields the lines of the table of differences."""
    for kind in PAIRS:
        real, covered, shown, width = pair_coverage(kind, times, 6)
        numbers = f"{100 * real:.1f} | {covered:.1%} | {shown:.1%} | {100 * width:.1f}"
        yield f"| {kind.images.said} | {kind.images.n} | {numbers} |"


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=2_000)
    times: int = parser.parse_args().times
    parts: tuple[tuple[str, Callable[[int], Iterator[str]]], ...] = (
        ("| scores | images | accuracy | coverage | mean width, points |", mean_rows),
        (
            "| scores | images | true difference, points | coverage | difference shown | "
            "mean width, points |",
            pair_rows,
        ),
        (
            "| trainings | images | spread, points | coverage | of the images' part alone | "
            "mean width, points |",
            seeds_rows,
        ),
    )
    print("\n\n".join(_table(head, rows(times)) for head, rows in parts))


if __name__ == "__main__":
    main()
