"""What an attack sees of a model: losses, gradients and logits, counted."""

from bench.oracle.engine import EXACT, Access, Engine
from bench.oracle.evaluation import (
    LOSSES,
    Evaluation,
    Loss,
    Memo,
    Trail,
    cross_entropy,
    dlr,
    margin,
)
from bench.oracle.oracle import Confirm, Oracle
from bench.oracle.passes import Passes
from bench.oracle.view import OracleModule, frozen

__all__ = [
    "EXACT",
    "LOSSES",
    "Access",
    "Confirm",
    "Engine",
    "Evaluation",
    "Loss",
    "Memo",
    "Oracle",
    "OracleModule",
    "Passes",
    "Trail",
    "cross_entropy",
    "dlr",
    "frozen",
    "margin",
]
