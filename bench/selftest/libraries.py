"""Compares rbench with pyautoattack and torchattacks on planted models, as their READMEs say."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.attacks.randomness import seeded, tracing_kept
from bench.evaluation.api import AttackLike, evaluate
from bench.selftest.alarm_cases import HUGE_EPS
from bench.selftest.case import SEED, alarm_codes, percent
from bench.selftest.exact import EPS, Images, Template, exact_accuracy, images, split
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

N_QUERIES, FAB_ITER = 200, 20
"""For pyautoattack's Square and FAB, below its defaults to save time; APGD has its defaults."""

PGD_STEPS = 20

N_DRAWS = 20
"""Fresh draws on which pyautoattack's images are rescored."""

OURS: tuple[AttackLike, ...] = (
    "fgsm",
    "pgd",
    ("square", {"n_queries": N_QUERIES}),
    ("autoattack", {"n_iter": 20, "n_queries": N_QUERIES}),
)

OURS_STOCHASTIC: tuple[AttackLike, ...] = ("pgd",)

WARNINGS = {
    "randomized defense": "randomness",
    "probability distribution": "probabilities",
    "zero gradient": "zero gradients",
    "dynamic defense": "autograd inside forward",
    "Square Attack has decreased": "Square beats the others",
}
"""Warnings of pyautoattack, by a part of their text, and what they mean."""


@dataclass(frozen=True, eq=False)
class Trial:
    """A planted model on which the libraries are run too.

    Attributes:
        id: Id of the case.
        planted: The planted mistake.
        right: The right answer, in words.
        make: Makes the model.
        data: Images and labels.
        eps: Radius in linf.
        stochastic: Whether passes draw at random, so that pyautoattack is run as ``rand``.
        batch_size: Images that are attacked and scored together.
        rescore: Whether pyautoattack's images are also rescored, on fresh draws and in the fixed
            batches.
    """

    id: str
    planted: str
    right: str
    make: Callable[[], nn.Module]
    data: Images
    eps: float = EPS
    stochastic: bool = False
    batch_size: int = 64
    rescore: bool = False


@dataclass(frozen=True)
class Comparison:
    """A row of the table: the right answer, and the answer of each library."""

    id: str
    planted: str
    right: str
    ours: str
    pyautoattack: str
    torchattacks: str


def compare(trial: Trial) -> Comparison:
    """Runs rbench and both libraries on a planted model; shows exceptions as crashes."""
    return Comparison(
        trial.id,
        trial.planted,
        trial.right,
        _shown(_ours, trial),
        _shown(_pyautoattack, trial),
        _shown(_torchattacks, trial),
    )


def _shown(report: Callable[[Trial], str], trial: Trial) -> str:
    try:
        with seeded(SEED):
            return report(trial)
    except Exception as error:  # the table shows that a library crashes
        return f"crashes: {type(error).__name__}"


def _ours(trial: Trial) -> str:
    result = evaluate(
        trial.make(),
        trial.data.x,
        trial.data.y,
        f"linf:{trial.eps}",
        OURS_STOCHASTIC if trial.stochastic else OURS,
        batch_size=8 if trial.stochastic else trial.batch_size,
        eot_iter=20,
    )
    alarms = ", ".join(sorted(alarm_codes(result)))
    done = [label for label, cell in result.cells.items() if cell.info.complete]
    number = percent(result.worst_case().value) if done else "incomplete"
    return f"{number}, alarm: {alarms}" if alarms else number


def _pyautoattack(trial: Trial) -> str:
    """Returns the robust accuracy of ``run_standard_evaluation``, and its warnings."""
    from pyautoattack import AutoAttack, checks

    checks.funcs.update(dict.fromkeys(checks.funcs, 0))  # it keeps counting from model to model
    model, (x, y) = trial.make(), (trial.data.x, trial.data.y)
    version = "rand" if trial.stochastic else "standard"
    with _warnings() as messages, tracing_kept():
        adversary = AutoAttack(model, norm="Linf", eps=trial.eps, version=version, seed=SEED)
        adversary.square.n_queries, adversary.fab.n_iter = N_QUERIES, FAB_ITER
        x_adv, y_adv = adversary.run_standard_evaluation(x, y, batch_size=trial.batch_size)
    text = percent(float((y_adv == y).double().mean()))
    said = [word for part, word in WARNINGS.items() if any(part in text for text in messages)]
    if said:
        text += f", warns: {', '.join(said)}"
    if trial.rescore:
        text += f"; its images scored anew: {percent(_accuracy(model, x_adv, trial, N_DRAWS))}"
    return text


def _torchattacks(trial: Trial) -> str:
    """Returns the accuracy on PGD's images, scored once."""
    import torchattacks

    model, (x, y) = trial.make(), (trial.data.x, trial.data.y)
    attack = torchattacks.PGD(model, eps=trial.eps, alpha=trial.eps / 4, steps=PGD_STEPS)
    parts = zip(split(x, trial.batch_size), split(y, trial.batch_size), strict=True)
    x_adv = torch.cat([attack(*part) for part in parts])
    return percent(_accuracy(model, x_adv, trial))


def _accuracy(model: nn.Module, x: Tensor, trial: Trial, n_draws: int = 1) -> float:
    """Returns the accuracy on images (n, c, h, w) in the fixed batches, mean over draws."""
    with torch.no_grad():
        draws = [
            torch.cat([model(part).argmax(1) for part in split(x, trial.batch_size)])
            for _ in range(n_draws)
        ]
    return float((torch.stack(draws) == trial.data.y).double().mean())


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collects the warnings that pyautoattack logs, instead of printing them."""
    logger, messages = logging.getLogger("auto-attack"), list[str]()

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.WARNING:
                messages.append(record.getMessage())

    handler, propagate = Collect(), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


def trials() -> Iterator[Trial]:
    """Yields the planted models, stochastic and batch-dependent ones first."""
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
