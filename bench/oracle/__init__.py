"""What an attack sees of a model: losses, gradients and logits, with every pass counted."""

from bench.oracle.adaptive import AidedPass, Aids, CustomLoss
from bench.oracle.answers import (
    LOSSES,
    AscentState,
    Evaluation,
    Loss,
    Memo,
    cross_entropy,
    dlr,
    margin,
)
from bench.oracle.engine import EXACT, Engine, QueryRules, frozen, input_kept
from bench.oracle.oracle import Confirm, Oracle, OracleModule
from bench.oracle.passes import Passes

__all__ = [
    "EXACT",
    "LOSSES",
    "AidedPass",
    "Aids",
    "AscentState",
    "Confirm",
    "CustomLoss",
    "Engine",
    "Evaluation",
    "Loss",
    "Memo",
    "Oracle",
    "OracleModule",
    "Passes",
    "QueryRules",
    "cross_entropy",
    "dlr",
    "frozen",
    "input_kept",
    "margin",
]
