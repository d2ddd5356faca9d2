"""Looks at models that need more than rows: gradients, statistics, surfaces, paths, pictures."""

from bench.analysis.declared import ANALYSES, get_analysis

__all__ = ["ANALYSES", "get_analysis"]
