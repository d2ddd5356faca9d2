"""What an attack sees of a model: losses, gradients and logits, counted."""

from bench.oracle.access import Access
from bench.oracle.engine import EXACT, Engine
from bench.oracle.evaluation import Evaluation, Memo, Trail
from bench.oracle.losses import LOSSES, Loss, cross_entropy, dlr, margin
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
