"""Attacks that misbehave, put into the registry for as long as a case needs them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

from bench.attacks import ATTACKS, get_attack, parse_params
from bench.attacks.base import Attack, AttackFunction, Budget
from bench.attacks.params import NoParams
from bench.core.base import Spec
from bench.oracle import Oracle

PLANTED = "planted"
"""Name of the attack that a case has planted."""


@contextmanager
def planted(
    run: AttackFunction, kind: Literal["none", "bounded", "minimum-norm"] = "bounded"
) -> Iterator[str]:
    """Registers an attack while the context lasts; yields its name."""
    attack = Attack(
        name=PLANTED,
        version=1,
        kind=kind,
        norms=("linf", "l2"),
        params=NoParams,
        run=run,
        summary="planted by the selftest",
        url="",
    )
    ATTACKS.add(PLANTED, attack)
    try:
        yield PLANTED
    finally:
        ATTACKS.remove(PLANTED)


def returns(x_adv: Tensor) -> AttackFunction:
    """Returns an attack that proposes images made beforehand, all in one batch."""

    def run(
        oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int
    ) -> Tensor:
        return x_adv.clone()

    return run


class Recorded:
    """A registered attack that also keeps what it returns, batch by batch.

    Args:
        name: Of the attack.
        params: Its parameters.
    """

    def __init__(self, name: str, **params: object) -> None:
        self.attack = get_attack(name)
        self.params = parse_params(self.attack, params)
        self.batches: list[Tensor] = []

    def __call__(
        self, oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int
    ) -> Tensor:
        """Runs the attack."""
        x_adv = self.attack.run(oracle, x, y, budget, self.params, seed)
        self.batches.append(x_adv.detach().clone())
        return x_adv

    @property
    def x_adv(self) -> Tensor:
        """All images (n, c, h, w) that were returned, in order."""
        return torch.cat(self.batches)


def crashes(
    oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int
) -> Tensor:
    """Runs out of memory."""
    raise RuntimeError("out of memory (planted)")


def one_nan(
    oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int
) -> Tensor:
    """Returns the images with one pixel of the first of them NaN."""
    x_adv = x.clone()
    x_adv[0, 0, 0, 0] = torch.nan
    return x_adv


def twice_as_far(
    oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int
) -> Tensor:
    """Steps twice eps along the gradient, and stays in the box."""
    return (x + 2 * budget.eps[0] * _ascent(oracle, x, y)).clamp(0, 1)


def unclipped(
    oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int
) -> Tensor:
    """Steps eps along the gradient, and forgets the box."""
    return x + budget.eps[0] * _ascent(oracle, x, y)


def _ascent(oracle: Oracle, x: Tensor, y: Tensor) -> Tensor:
    from bench.oracle import cross_entropy

    grad = oracle.query(x, y, cross_entropy).grad
    assert grad is not None
    return grad.sign()
