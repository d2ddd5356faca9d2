"""What an attack sees of a model: logits and gradients, counted."""

from bench.oracle.oracle import Oracle, OracleModule, Passes, frozen

__all__ = ["Oracle", "OracleModule", "Passes", "frozen"]
