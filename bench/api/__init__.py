"""Evaluates any PyTorch classifier in a few lines.

Example:
    >>> from bench import evaluate
    >>> result = evaluate(model, x, y, threat="linf:8/255", attacks=["pgd", "autoattack"])
    >>> result  # in a notebook: a table with intervals
    >>> result.worst_case().value
    >>> result.table().to_csv("result.csv")
"""

from bench.api.evaluation import AttackLike, evaluate
from bench.api.result import AttackResult, EvaluationResult

__all__ = ["AttackLike", "AttackResult", "EvaluationResult", "evaluate"]
