"""Asks the same in other circumstances: does a model remember, does it look at how it is asked?"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from bench.attacks.randomness import reseed
from bench.probe.forward import REPEAT_TOLERANCE, REPEATS, ROUNDINGS
from bench.probe.subject import Run, Subject, deviation, held, paths_to_hold, scale_of

Ask: TypeAlias = Callable[..., Tensor]
"""``ask(subject, images, run)``: logits of seeded generators, and of one path."""


SHIFTS = (0.01, 0.1)
"""How far from clean images, in each pixel, a remembering model is asked."""


@dataclass(frozen=True)
class StateProbe:
    """What a model's answers depend on, beside the images.

    Attributes:
        remembers: Whether an answer depends on what was asked before, though no generator is
            behind it.
        grad_effect: Largest change of a logit when a gradient is wanted, relative to the logits'
            scale; 0 where passes cannot be repeated.
    """

    remembers: bool
    grad_effect: float


def probe_state(subject: Subject, x: Tensor, seed: int) -> StateProbe:
    """Asks a model, a fresh copy of it, and both with gradients wanted and not.

    Images near others are asked after those, to which a cache then has the answers, and of a copy
    that was not asked those. Before each pass the global generators are seeded alike.

    Args:
        subject: The model.
        x: Images (b, c, h, w) in [0, 1].
        seed: Of everything random.
    """
    path = paths_to_hold(subject.model, seed)[-1]

    def ask(who: Subject, images: Tensor, run: Run | None = None) -> Tensor:
        reseed(seed)
        with held(who.model, path):
            return (run or who.run)(images)

    first = ask(subject, x)
    scale = scale_of(first)
    return StateProbe(
        _remembers(subject, x, ask, scale, seed), _grad_effect(subject, x, ask, scale)
    )


def _remembers(subject: Subject, x: Tensor, ask: Ask, scale: float, seed: int) -> bool:
    if has_generator(subject.model):
        return False
    generator = torch.Generator().manual_seed(seed)
    for shift in SHIFTS:
        fresh, other = subject.fresh_copy(), subject.fresh_copy()
        if fresh is None or other is None:
            return False
        new = (1 - x).roll(
            1 + round(100 * shift), 3
        )  # a copy has the answers to all earlier images
        near = (new + shift * (torch.rand(x.shape, generator=generator).to(x) * 2 - 1)).clamp(0, 1)
        ask(subject, new)
        after, alone, again = ask(subject, near), ask(fresh, near), ask(other, near)
        if deviation(again, alone, scale) > REPEAT_TOLERANCE:
            return False  # it draws, from a generator of its own that a copy does not take along
        if deviation(after, alone, scale) > REPEAT_TOLERANCE:
            return True
    return False


def _grad_effect(subject: Subject, x: Tensor, ask: Ask, scale: float) -> float:
    plain = ask(subject, x)
    if any(deviation(ask(subject, x), plain, scale) > REPEAT_TOLERANCE for _ in range(REPEATS)):
        return 0.0  # one pass alone may be equal by chance

    def wanted(images: Tensor) -> Tensor:
        return subject.attached(images.detach().clone().requires_grad_()).detach()

    try:
        effect = deviation(ask(subject, x, wanted), plain, scale)
        return 0.0 if effect <= ROUNDINGS * subject.rounding else effect
    except RuntimeError:
        return 0.0  # a backward pass that cannot be prepared is reported with the gradient


def changed_by(model: nn.Module, before: nn.Module, x: Tensor, seed: int) -> float:
    """Returns how far a model's logits are from those of a copy made earlier, relative to scale.

    0 where either draws from a generator of its own.

    Args:
        model: The model, after it was attacked.
        before: A copy of it from before.
        x: Images (b, c, h, w).
        seed: Of the global generators.
    """
    if has_generator(model):
        return 0.0
    path = paths_to_hold(model, seed)[-1]
    z = []
    for one in (before, model, before):
        reseed(seed)
        with torch.no_grad(), held(one, path):
            z.append(torch.as_tensor(one(x)))
    scale = scale_of(z[0])
    return 0.0 if deviation(z[0], z[2], scale) > REPEAT_TOLERANCE else deviation(z[0], z[1], scale)


def has_generator(model: nn.Module) -> bool:
    """Says whether a module of the model holds a random generator of its own."""
    kinds = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
    return any(
        isinstance(value, kinds) for module in model.modules() for value in vars(module).values()
    )
