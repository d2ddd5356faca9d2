"""The planted models that libraries are shown too, with their right answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import nn

from bench.selftest.alarm_cases import HUGE_EPS
from bench.selftest.case import percent
from bench.selftest.exact import EPS, Template, exact_accuracy, images
from bench.selftest.libraries import Trial
from bench.selftest.model_cases import (
    SATURATING,
    Detached,
    GradientAtDataOnly,
    NaNGradient,
    PathOutside,
    Probabilities,
    Purifying,
    Quantized,
    Restoring,
    WrongGradient,
    exact_quantized,
)
from bench.selftest.random_cases import (
    NOISE_ACCURACY,
    SAFE_EPS,
    CentredOnBatch,
    LabelNoise,
    Lottery,
    NoisySlope,
    safe_images,
)


def trials() -> Iterator[Trial]:
    """Yields the trials, the stochastic and batch-dependent ones first."""
    yield from _stochastic()
    yield from _deterministic()


def _stochastic() -> Iterator[Trial]:
    data, noise = safe_images().first(64), percent(NOISE_ACCURACY)
    yield Trial(
        "label-noise",
        "90 % label noise",
        noise,
        lambda: LabelNoise(NOISE_ACCURACY),
        data,
        SAFE_EPS,
        stochastic=True,
        rescore=True,
    )
    yield Trial(
        "averaged-logits",
        "right by 1 at 90 %, wrong by 100 at 10 %",
        noise,
        lambda: Lottery(NOISE_ACCURACY),
        data,
        SAFE_EPS,
        stochastic=True,
        rescore=True,
    )
    yield Trial(
        "too-few-draws",
        "a gradient that one draw gets wrong",
        "as fresh draws confirm",
        lambda: NoisySlope(2.0),
        images(),
        stochastic=True,
        rescore=True,
    )
    yield Trial(
        "dropped-samples",
        "statistics of the batch",
        "as the fixed batches confirm",
        CentredOnBatch,
        images(),
        batch_size=32,
        rescore=True,
    )


def _deterministic() -> Iterator[Trial]:
    data = images()
    exact = percent(exact_accuracy(Template(), data))
    quantized = percent(exact_quantized(Quantized(), data, EPS))
    huge = percent(exact_quantized(Quantized(), data, HUGE_EPS))
    masked: tuple[tuple[str, str, str, Callable[[], nn.Module]], ...] = (
        ("closed-form", "nothing", exact, Template),
        ("probabilities", "softmax returned as logits", exact, Probabilities),
        ("saturated", "logits multiplied by 16384", exact, lambda: Template(SATURATING)),
        ("detached", "x detached", exact, Detached),
        ("quantized", "pixels rounded to 9 levels", quantized, Quantized),
        ("wrong-gradient", "a gradient with the opposite sign", exact, WrongGradient),
        ("nan-gradient", "a square root at black pixels", exact, NaNGradient),
        ("single-step", "a gradient at the data only", exact, GradientAtDataOnly),
        ("path-outside", "a random path set outside forward", "not that of one path", PathOutside),
        ("autograd-inside", "purification inside forward", "unknown", Purifying),
    )
    for case_id, planted, right, make in masked:
        yield Trial(case_id, planted, right, make, data)
    yield Trial("huge-eps", "masked gradients at eps 0.5", huge, Quantized, data, HUGE_EPS)
    restoring = "a model that restores what it knows, at 3 eps"
    known = data.x
    most = f"at most {exact}"
    yield Trial("rises-with-eps", restoring, most, lambda: Restoring(known, EPS), data, 3 * EPS)
