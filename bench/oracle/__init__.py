"""What an attack sees of a model: losses, gradients and logits, counted."""

from bench.oracle.fast import fast_dtype, fast_layout
from bench.oracle.losses import LOSSES, Loss, cross_entropy, dlr, margin
from bench.oracle.oracle import Access, Evaluation, Oracle
from bench.oracle.passes import Passes
from bench.oracle.view import OracleModule, frozen

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
    "fast_dtype",
    "fast_layout",
    "frozen",
    "margin",
]
