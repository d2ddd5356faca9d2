"""Planted models with a known true robustness, each attacked by one attack alone.

What one attack reports of a planted model must carry an alarm, or be true. What it reports of the
same network without the plant must carry none, and be true.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from torch import nn

from bench.selftest.alone import SHORT, SHORT_RANDOM, Alone, Reading, read
from bench.selftest.case import Case, Outcome
from bench.selftest.exact import EPS, Images, Template, exact_robust, images
from bench.selftest.noisy_models import (
    Dropped,
    FromNumpy,
    FromPython,
    OffGrid,
    OwnNumpy,
    OwnTorch,
    SeededByImage,
    truth_seeded_by_image,
    truth_unreliable,
)
from bench.selftest.planted_models import (
    Cache,
    Counter,
    CutBeyond,
    Detector,
    HalfAttached,
    Hot,
    Ripple,
    Sine,
    Thresholded,
    Truth,
    as_template,
    truth_thresholded,
)

CLEAR = (0.9, 1.1)
"""Multiples of the radius at which an image must have the same verdict. What an attack loses on the
closest calls is not due to a plant; ``exact_networks`` holds attacks to those."""

BATCH, NOISY_BATCH = 64, 32
"""Images that are attacked together; of a random model in batches, so that there is an interval."""

HEIGHT = 0.01
"""Height of the sines, in pixel units: a tenth of the radius."""

WAVE_NUMBERS = {"long": 200, "middle": 600, "short": 2000}
"""Wave numbers of the sines: 6, 19 and 64 waves in the ball, each falling on a third to a half."""


@dataclass(frozen=True)
class Plant:
    """A planted model.

    Attributes:
        name: Id of its case.
        trap: Number in ``TRAPS``.
        planted: What is planted, in a few words.
        make: Makes the model, given the images that it will be attacked on.
        truth: Returns its true robust accuracy on them, under ``THREAT``; ``None`` where it has
            none, as its answers depend on what it was asked before: then only an alarm is right.
        stochastic: Whether its score is a mean over draws.
    """

    name: str
    trap: int
    planted: str
    make: Callable[[Images], nn.Module]
    truth: Callable[[Images], Truth] | None = as_template
    stochastic: bool = False


def _sine(name: str, wave_number: float) -> Plant:
    planted = f"{HEIGHT:g} sin {wave_number:g} x added to each pixel"
    made = partial(Sine, wave_number, HEIGHT)
    return Plant(f"sine-{name}", 8, planted, lambda _: made(), lambda data: made().truth(data))


def _noisy(name: str, planted: str, make: Callable[[], nn.Module]) -> Plant:
    return Plant(name, 1, planted, lambda _: make(), truth_unreliable, stochastic=True)


def clear_images() -> Images:
    """Returns images on which the template's verdict is no close call."""
    data, net = images(), Template()
    weak, strong = (exact_robust(net, data, factor * EPS) for factor in CLEAR)
    return data.where(weak == strong)


def attached() -> nn.Module:
    """Returns the ensemble with all members attached."""
    return HalfAttached(5)


PLANTS = (
    Plant("threshold", 8, "pixels made black or white", lambda _: Thresholded(), truth_thresholded),
    *(_sine(name, number) for name, number in WAVE_NUMBERS.items()),
    Plant(
        "ripple",
        8,
        "a small term of high frequency on the logits",
        lambda _: Ripple(),
        lambda data: Ripple().truth(data),
    ),
    Plant(
        "cut-beyond",
        8,
        "no gradient farther than half of eps from the clean images",
        lambda data: CutBeyond(data.x),
    ),
    Plant("detector", 8, "a detector that detaches where it fires", lambda _: Detector()),
    Plant("cache", 6, "answers as to an earlier image that looked alike", lambda _: Cache(), None),
    Plant("counter", 6, "another answer in every third pass", lambda _: Counter(), None),
    Plant("temperature", 7, "logits multiplied by 2^20", lambda _: Hot()),
    Plant("detached-ensemble", 8, "four of five members detached", lambda _: HalfAttached(1)),
    Plant(
        "dropout",
        1,
        "dropout of whole images, active in eval mode",
        lambda _: Dropped(),
        lambda data: Dropped().truth(data),
        stochastic=True,
    ),
    _noisy("numpy-noise", "10 % wrong answers, drawn from numpy's generator", FromNumpy),
    _noisy("python-noise", "the same from Python's generator", FromPython),
    _noisy("own-torch-noise", "the same from a torch generator of its own", OwnTorch),
    _noisy("own-numpy-noise", "the same from a numpy generator of its own", OwnNumpy),
    _noisy("off-grid-noise", "the same for images off the grid of 8 bits only", OffGrid),
    Plant(
        "image-noise",
        8,
        "10 % wrong answers, drawn by a hash of the image",
        lambda _: SeededByImage(),
        truth_seeded_by_image,
    ),
)
"""The planted models. Each attack alone is doubted, or reports the truth."""

LIMITS = (
    Plant(
        "sine-flat",
        8,
        "0.05 sin 30 x added to each pixel",
        lambda _: Sine(30, 0.05),
        lambda data: Sine(30, 0.05).truth(data),
    ),
)
"""Planted models on which a number without an alarm is wrong, by less than what the sentinel takes
for weak (``bench.alarms.sentinel.GAP``). No case; ``tools/planted.py`` shows them."""

SOUND: Mapping[str, tuple[str, Callable[[], nn.Module]]] = {
    "sound-template": ("the template classifier", Template),
    "sound-ensemble": ("a mean of five linear classifiers", attached),
}
"""The networks without the plants, by id of their case, with what they are: the ensemble with all
members attached, and the template of all others."""


def read_plant(plant: Plant, data: Images, attacks: Sequence[Alone]) -> dict[str, Reading]:
    """Returns what each attack alone reports of a planted model, made anew for each."""
    size = NOISY_BATCH if plant.stochastic else BATCH
    return {alone.label: read(plant.make(data), data, alone, size) for alone in attacks}


def read_sound(
    make: Callable[[], nn.Module], data: Images, attacks: Sequence[Alone]
) -> dict[str, Reading]:
    """Returns what each attack alone reports of a network without a plant."""
    return {alone.label: read(make(), data, alone, BATCH) for alone in attacks}


def caught_or_true(plant: Plant) -> Outcome:
    """Each attack alone is doubted, or reports the truth."""
    data = clear_images()
    truth = None if plant.truth is None else plant.truth(data)
    found = read_plant(plant, data, SHORT_RANDOM if plant.stochastic else SHORT)
    return Outcome(
        "an alarm" if truth is None else f"an alarm, or {truth}",
        "; ".join(f"{label} {one}" for label, one in found.items()),
        all(one.right(truth, stochastic=plant.stochastic) for one in found.values()),
    )


def sound(make: Callable[[], nn.Module]) -> Outcome:
    """Each attack alone reports the truth of a sound network, without any alarm."""
    data = clear_images()
    truth = as_template(data)
    found = read_sound(make, data, SHORT)
    return Outcome(
        f"no alarm, {truth}",
        "; ".join(f"{label} {one}" for label, one in found.items()),
        all(not one.doubted and one.right(truth) for one in found.values()),
    )


CASES = (
    *(Case(p.name, p.trap, p.planted, partial(caught_or_true, p)) for p in PLANTS),
    *(Case(name, 20, planted, partial(sound, make)) for name, (planted, make) in SOUND.items()),
)
