"""Repeats and rearranges forward passes: is a model stochastic, is it batch-dependent?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.attacks.randomness import reseed
from bench.probe.subject import Subject, deviation, held, paths_to_hold, scale_of

REPEATS = 8
"""Passes over the same batch; half of them after reseeding the global generators."""

REPEAT_TOLERANCE = 1e-5
"""Change between equal passes that rounding on a GPU may cause, relative to the logits' scale."""

BATCH_TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-3}
"""The same between batches of different shapes, for which kernels round differently."""

ROUNDINGS = 8
"""The same in half precision, in units of its rounding: through the layers of a ResNet, bfloat16's
adds up to three."""

OFF_GRID = 0.00731
"""Added to pixels to move them between the levels of 8-bit images."""

LARGEST_BATCH = 256
"""Images of the largest batch that is asked repeatedly."""

STATISTICAL_PASSES, PERMUTATIONS, LEVEL = 16, 999, 0.002

UNMOVED = 1e-4
"""Standard deviation, relative to the logits' scale, below which draws do not affect a logit."""


def measure_noise(subject: Subject, x: Tensor, seed: int, batch_size: int = 0) -> float:
    """Returns the largest change between passes over the same batch, relative to the logits' scale.

    Batches alternate, so that a pass that depends on the previous one shows: the images, others off
    the grid of 8 bits, and as many as the run's batches hold, as noise may be added in such
    circumstances only. Half of the passes follow a reseeding: a model that restores the global
    generators after use draws the same values until something else changes them. Stops early once
    noise is certain.
    """
    groups = [x, 1 - x.flip(0), x * 0.98 + OFF_GRID]
    if batch_size > len(x):
        times = -(-min(batch_size, LARGEST_BATCH) // len(x))
        groups.append(x.repeat(times, 1, 1, 1)[:batch_size])
    first = [subject.run(group) for group in groups]
    scale, noise = scale_of(first[0]), 0.0
    fresh = subject.fresh_copy()
    for repeat in range(REPEATS):
        if repeat >= REPEATS // 2:
            reseed(seed + repeat)
        runner = fresh if fresh is not None and repeat == 0 else subject
        for group, z in zip(groups, first, strict=True):
            noise = max(noise, deviation(runner.run(group), z, scale))
        if noise > 100 * REPEAT_TOLERANCE:
            break
    return noise


@dataclass(frozen=True)
class BatchProbe:
    """The effect of the batch on an image's logits.

    Attributes:
        dependent: Whether there is one.
        effect: Its size relative to the logits' scale; ``None`` if it was not measured.
        fails_on: The arrangements on which the forward pass fails; empty if none.
    """

    dependent: bool
    effect: float | None
    fails_on: str = ""


@dataclass(frozen=True)
class Arrangement:
    """Another batch (n, c, h, w) with image ``source[j]`` at position ``place[j]``."""

    name: str
    batch: Tensor
    place: list[int]
    source: list[int]


HALVED = "half of the batch"
"""A model that fails on it takes batches of one size, so that no image can be asked alone."""


def _joined(names: list[str]) -> str:
    return " and ".join(dict.fromkeys(names))


def arrangements(x: Tensor) -> Iterator[Arrangement]:
    """Yields other batches of images (b, c, h, w): reversed, halved, single, duplicated."""
    b = len(x)
    half = list(range((b + 1) // 2))
    yield Arrangement("one image", x[:1], [0], [0])
    yield Arrangement("one image", x[-1:], [0], [b - 1])
    yield Arrangement(HALVED, x[: len(half)], half, half)
    yield Arrangement("the batch reversed", x.flip(0), list(range(b))[::-1], list(range(b)))
    yield Arrangement("copies of one image", x[:1].expand_as(x).clone(), [0, b - 1], [0, 0])


def probe_batches(subject: Subject, x: Tensor, noise: float, seed: int) -> BatchProbe:
    """Compares the logits of images (b, c, h, w) in different batches.

    A double-precision copy is used if possible, so that differences are not due to rounding. For a
    stochastic model a path is pinned if it has RNA layers; otherwise a permutation test compares
    the difference with the model's noise.
    """
    exact = subject.in_float64(x)
    subject, x = (subject, x) if exact is None else (exact, x.double())
    probes = []
    for path in paths_to_hold(subject.model, seed):
        with held(subject.model, path):
            quiet = noise <= REPEAT_TOLERANCE or (path is not None and _repeats(subject, x, seed))
            probes.append(_compare(subject, x) if quiet else _test(subject, x, seed))
        if probes[-1].dependent:
            return probes[-1]
    effects = [probe.effect for probe in probes if probe.effect is not None]
    fails_on = _joined([probe.fails_on for probe in probes if probe.fails_on])
    return BatchProbe(False, max(effects) if len(effects) == len(probes) else None, fails_on)


def _repeats(subject: Subject, x: Tensor, seed: int) -> bool:
    """Returns whether passes repeat exactly once a path is pinned."""
    z = subject.run(x)
    reseed(seed + 1)
    return deviation(subject.run(x), z, scale_of(z)) <= REPEAT_TOLERANCE


def _compare(subject: Subject, x: Tensor) -> BatchProbe:
    whole = subject.run(x)
    scale, effect, failed = scale_of(whole), 0.0, list[str]()
    for other in arrangements(x):
        try:
            z = subject.run(other.batch)
        except Exception:  # foreign code: a failure on this batch is a result
            failed.append(other.name)
            continue
        effect = max(effect, deviation(z[other.place], whole[other.source], scale))
    tolerance = BATCH_TOLERANCE.get(whole.dtype, BATCH_TOLERANCE[torch.float32])
    dependent = effect > max(tolerance, ROUNDINGS * subject.rounding)
    return BatchProbe(dependent or HALVED in failed, None if failed else effect, _joined(failed))


def _test(subject: Subject, x: Tensor, seed: int) -> BatchProbe:
    """Compares mean logits in each arrangement by a permutation test over whole passes.

    A difference must show again on fresh draws: with five arrangements per model, chance alone
    would otherwise flag one model in a hundred.
    """
    generator = torch.Generator().manual_seed(seed)
    whole, failed = _passes(subject, x, seed), list[str]()
    for n, other in enumerate(arrangements(x), start=1):
        try:
            passes = _passes(subject, other.batch, seed + 100 * n)
        except Exception:  # as above
            failed.append(other.name)
            continue
        if _p_value(whole[:, other.source], passes[:, other.place], generator) > LEVEL:
            continue
        anew = (
            _passes(subject, x, seed + 5000),
            _passes(subject, other.batch, seed + 5000 + 100 * n),
        )
        if _p_value(anew[0][:, other.source], anew[1][:, other.place], generator) <= LEVEL:
            return BatchProbe(True, None, _joined(failed))
    return BatchProbe(HALVED in failed, None, _joined(failed))


def _passes(subject: Subject, x: Tensor, seed: int) -> Tensor:
    """Returns logits (n_passes, b, classes), in double precision on the CPU, each pass reseeded."""
    passes = []
    for i in range(STATISTICAL_PASSES):
        reseed(seed + i)
        passes.append(subject.run(x).double().cpu())
    return torch.stack(passes)


def _p_value(a: Tensor, b: Tensor, generator: torch.Generator) -> float:
    """Returns the permutation p-value for a difference in mean of passes (n, images, classes)."""
    n = len(a)
    pooled = torch.nan_to_num(torch.cat([a, b]).flatten(1))
    # A logit that does not depend on draws differs by rounding only, which would always be found.
    least = UNMOVED * scale_of(torch.cat([a, b]).flatten(0, 1))
    pooled = (pooled - pooled.mean(0)) / (pooled.std(0) + least)
    signs = torch.cat([torch.ones(n), -torch.ones(n)]).double()
    shuffled = [signs[torch.randperm(2 * n, generator=generator)] for _ in range(PERMUTATIONS)]
    statistics = (torch.stack([signs, *shuffled]) @ pooled / n).square().sum(1)
    # Rounding must neither break ties nor count as a difference by itself.
    return float((statistics >= statistics[0] * (1 - 1e-9) - 1e-6).double().mean())
