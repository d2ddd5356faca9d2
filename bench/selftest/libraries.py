"""What pyautoattack and torchattacks report on planted models, each as its README calls it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.attacks.randomness import seeded, tracing_kept
from bench.evaluation.api import AttackLike, evaluate
from bench.selftest.case import SEED, alarm_codes, percent
from bench.selftest.exact import EPS, Images, cut

N_QUERIES, FAB_ITER = 200, 20
"""Of pyautoattack's Square and FAB: fewer than its defaults, for time. APGD is as it comes."""

PGD_STEPS = 20

N_DRAWS = 20
"""Fresh draws on which pyautoattack's images are scored anew."""

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
"""What pyautoattack logs, by a part of the message, and what it comes to."""


@dataclass(frozen=True, eq=False)
class Trial:
    """A planted model that libraries are shown too.

    Attributes:
        id: Of the case.
        planted: What is planted.
        right: The right answer, in words.
        make: Makes the model.
        data: Images and labels.
        eps: Radius in linf.
        stochastic: Whether passes draw at random, so that pyautoattack is run as ``rand``.
        batch_size: Images that are attacked and scored together.
        rescore: Whether pyautoattack's images are also scored anew: on fresh draws, and in the
            fixed batches.
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
    """A line of the table: the right answer, and what each reports."""

    id: str
    planted: str
    right: str
    ours: str
    pyautoattack: str
    torchattacks: str


def compare(trial: Trial) -> Comparison:
    """Runs this harness and both libraries on a planted model; whatever raises is shown as such."""
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
    except Exception as error:  # that a library breaks is what the table is to show
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
    """Returns the robust accuracy that ``run_standard_evaluation`` arrives at, and its warnings."""
    from pyautoattack import AutoAttack, checks

    checks.funcs.update(dict.fromkeys(checks.funcs, 0))  # it counts on from model to model
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
    """Returns the accuracy of the model on the images of PGD, scored once."""
    import torchattacks

    model, (x, y) = trial.make(), (trial.data.x, trial.data.y)
    attack = torchattacks.PGD(model, eps=trial.eps, alpha=trial.eps / 4, steps=PGD_STEPS)
    parts = zip(cut(x, trial.batch_size), cut(y, trial.batch_size), strict=True)
    x_adv = torch.cat([attack(*part) for part in parts])
    return percent(_accuracy(model, x_adv, trial))


def _accuracy(model: nn.Module, x: Tensor, trial: Trial, n_draws: int = 1) -> float:
    """Returns the accuracy on images (n, c, h, w) in the fixed batches, mean over draws."""
    with torch.no_grad():
        draws = [
            torch.cat([model(part).argmax(1) for part in cut(x, trial.batch_size)])
            for _ in range(n_draws)
        ]
    return float((torch.stack(draws) == trial.data.y).double().mean())


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collects what pyautoattack logs as warnings, in place of printing it."""
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
