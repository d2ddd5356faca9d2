"""Attacks: each proposes x_adv through the oracle, and nothing else."""

from bench.attacks.base import Attack, AttackFunction, Budget
from bench.attacks.params import NoParams, param_problems, parse_params
from bench.attacks.registry import ATTACKS, get_attack
from bench.core.attack import Traits

__all__ = [
    "ATTACKS",
    "Attack",
    "AttackFunction",
    "Budget",
    "NoParams",
    "Traits",
    "get_attack",
    "param_problems",
    "parse_params",
]
