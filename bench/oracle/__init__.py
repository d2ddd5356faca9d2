"""What an attack sees of a model: losses, gradients and logits, counted."""

from bench.oracle.losses import LOSSES, Loss, cross_entropy, dlr, margin
from bench.oracle.oracle import Access, Evaluation, Oracle, OracleModule, Passes, frozen

__all__ = [
    "LOSSES",
    "Access",
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
