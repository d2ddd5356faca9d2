"""What an attack sees of a model: losses, gradients and logits, counted."""

from bench.oracle.fast import EXACT, Engine
from bench.oracle.losses import LOSSES, Loss, cross_entropy, dlr, margin
from bench.oracle.oracle import Access, Evaluation, Oracle
from bench.oracle.passes import Passes
from bench.oracle.view import OracleModule, frozen

__all__ = [
    "EXACT",
    "LOSSES",
    "Access",
    "Engine",
    "Evaluation",
    "Loss",
    "Oracle",
    "OracleModule",
    "Passes",
    "cross_entropy",
    "dlr",
    "frozen",
    "margin",
]
