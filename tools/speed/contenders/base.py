"""Contenders, and how a library is run as one."""

from __future__ import annotations

import importlib
import importlib.metadata
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from bench.attacks import get_attack
from bench.attacks.base import Budget
from bench.attacks.randomness import seeded
from bench.core.attack import AttackKind
from bench.core.result import VIOLATIONS, Row
from bench.norms import find_paths
from bench.verify import ModelGuard, Scoring, check_candidate, verify_batch
from tools.speed.arena import Arena
from tools.speed.clock import Clock
from tools.speed.counting import CountedModel
from tools.speed.settings import Setting

N_DRAWS = 20
"""Fresh draws to score each image of a stochastic model."""


class ContenderError(Exception):
    """A contender cannot run an attack, or failed at it; the message says why."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of one run of a contender.

    Attributes:
        seconds: From images to verified verdicts.
        search_seconds: Part of them in the attack.
        model_seconds: Part of those in the model's forward and backward passes.
        forwards: Forward passes per image of the attack.
        backwards: Backward passes per image.
        robust: The verifier's verdict on each image: 0 or 1, or a fraction of fresh draws.
    """

    seconds: float
    search_seconds: float
    model_seconds: float
    forwards: float
    backwards: float
    robust: tuple[float, ...]


class Contender(Protocol):
    """Runs attacks for a comparison."""

    @property
    def name(self) -> str:
        """Name in tables."""

    @property
    def distribution(self) -> str:
        """Its package."""

    def missing(self) -> str:
        """Returns why it cannot be used here; empty if it can."""

    def offers(self, setting: Setting) -> bool:
        """Returns whether it has an attack."""

    def note(self, setting: Setting) -> str:
        """Returns what differs despite equal parameters; mostly empty."""

    def run(self, arena: Arena, setting: Setting) -> Outcome:
        """Runs an attack; raises ``ContenderError`` where it fails."""


@dataclass(frozen=True)
class Call:
    """How an attack of a library is called.

    Attributes:
        target: Its class or function.
        arguments: Its names of our parameters.
        fixed: Arguments without a counterpart among our parameters.
        implied: Our parameters that it has no argument for, with its fixed value. A setting with
            another value cannot be run.
        minimum_norm: Whether it is a minimum-norm attack, though the setting is for a ball; images
            beyond eps are then neither violations nor successes.
        note: What differs despite equal parameters.
    """

    target: str
    arguments: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, object] = field(default_factory=dict)
    implied: Mapping[str, object] = field(default_factory=dict)
    minimum_norm: bool = False
    note: str = ""

    def translate(self, params: Mapping[str, object]) -> dict[str, Any]:
        """Returns the library's arguments for our parameters.

        Raises:
            ContenderError: When the library lacks a parameter.
        """
        found = dict(self.fixed)
        for key, value in params.items():
            if key in self.arguments:
                found[self.arguments[key]] = value
            elif key not in self.implied or self.implied[key] != value:
                does = f"; it does {self.implied[key]}" if key in self.implied else ""
                raise ContenderError(f"{self.target} cannot be told {key} = {value}{does}")
        return found


@dataclass(frozen=True)
class Request:
    """A call of a library's attack.

    Attributes:
        target: Its class or function.
        arguments: Its arguments.
        norm: ``linf`` or ``l2``.
        eps: Radius.
        classes: Number of classes.
        seed: Seeds everything random.
    """

    target: str
    arguments: dict[str, Any]
    norm: str
    eps: float
    classes: int
    seed: int


@dataclass(frozen=True)
class Library:
    """A library of attacks, called as in its documentation: model parameters are not frozen.

    Attributes:
        name: Name in tables.
        distribution: Its package.
        module: Its module.
        calls: The call for each setting, given the model's number of classes.
        attack: Runs it on a batch: ``attack(module, model, x, y, request)`` returns x_adv.
    """

    name: str
    distribution: str
    module: str
    calls: Callable[[int], Mapping[str, Call]]
    attack: Callable[[Any, nn.Module, Tensor, Tensor, Request], Tensor]

    def missing(self) -> str:
        """Returns why it cannot be used here; empty if it can."""
        try:
            importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            return f"{self.distribution} is not installed (pip install 'rbench[bench]')"
        try:
            importlib.import_module(self.module)
        except Exception as error:  # foreign code can raise anything; shown as the reason
            return f"cannot be imported: {type(error).__name__}: {error}"
        return ""

    def offers(self, setting: Setting) -> bool:
        """Returns whether it has an attack."""
        return setting.name in self.calls(0)

    def note(self, setting: Setting) -> str:
        """Returns what differs despite equal parameters; mostly empty."""
        return self.calls(0)[setting.name].note

    def run(self, arena: Arena, setting: Setting) -> Outcome:
        """Attacks batch by batch and lets the verifier decide.

        Raises:
            ContenderError: When the library raises, changes the model, or leaves the ball.
        """
        clock, model = Clock(arena.target.device), arena.target.model
        counted, guard = CountedModel(model, clock.model), ModelGuard(model)
        call = self.calls(arena.target.classes)[setting.name]
        request = _request(call, arena, setting)
        kind = "minimum-norm" if call.minimum_norm else get_attack(setting.attack).kind
        rows: list[Row] = []
        with seeded(arena.seed):
            reset_draws(model, arena.seed)
            batches = arena.batches()
            begun = time.perf_counter()
            for x, y in batches:
                with clock.search.running():
                    x_adv = self._propose(counted, x, y, request)
                counted.close()
                rows += _verified(arena, setting.norm, kind, x, y, x_adv)
            seconds = time.perf_counter() - begun
        model.zero_grad(set_to_none=True)
        changes = guard.changes()
        if changes:
            raise ContenderError(f"changed the model ({', '.join(changes[:3])}); restored")
        n = len(rows)
        return Outcome(
            seconds,
            clock.search.seconds,
            clock.model.seconds,
            counted.forwards / n,
            counted.backwards / n,
            verdicts(rows),
        )

    def _propose(self, model: nn.Module, x: Tensor, y: Tensor, request: Request) -> Tensor:
        module = importlib.import_module(self.module)
        try:
            with torch.enable_grad():
                proposed = self.attack(module, model, x.clone(), y.clone(), request)
            return check_candidate(x, proposed)
        except (KeyboardInterrupt, SystemExit):
            raise
        except Exception as error:  # foreign code can raise anything
            raise ContenderError(f"{type(error).__name__}: {error}") from error


def reset_draws(model: nn.Module, seed: int) -> None:
    """Restarts the draws of a model's RNA layers, if it has any."""
    paths = find_paths(model)
    if paths is not None:
        paths.seed(seed)


def verdicts(rows: list[Row]) -> tuple[float, ...]:
    """Returns the verdict on each image.

    Raises:
        ContenderError: When an image is outside the ball or the box, so that there is no verdict.
    """
    found = [row.status for row in rows if row.status in VIOLATIONS]
    if found:
        what = found[0].replace("_", " ")
        raise ContenderError(f"{len(found)} of {len(rows)} images fail verification: {what}")
    return tuple(float(row.robust) for row in rows if row.robust is not None)


def _request(call: Call, arena: Arena, setting: Setting) -> Request:
    draws = {"eot_iter": setting.eot_iter} if setting.stochastic else {}
    arguments = call.translate({**setting.params, **draws})
    eps, classes = arena.radius(setting.norm), arena.target.classes
    return Request(call.target, arguments, setting.norm, eps, classes, arena.seed)


def _verified(
    arena: Arena, norm: str, kind: AttackKind, x: Tensor, y: Tensor, x_adv: Tensor
) -> list[Row]:
    target = arena.target
    budget = Budget.of(arena.threat(norm), target.std)
    scoring = Scoring(
        n_draws=N_DRAWS if target.stochastic else 1,
        seed=arena.seed,
        stochastic=target.stochastic,
    )
    return verify_batch(target.model, x, y, x_adv, budget, kind, scoring)
