"""The analyses by name. Listing them imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.analysis.base import Analysis
from bench.attacks.params import spec_problems
from bench.core.attack import ParamsError
from bench.core.registry import Registry
from bench.suite import AnalysisKind

ANALYSES: Registry[Analysis] = Registry("analysis")
ANALYSES.add_lazy("examples", "bench.analysis.examples:EXAMPLES")
ANALYSES.add_lazy("gradient_similarity", "bench.analysis.gradient_similarity:GRADIENT_SIMILARITY")
ANALYSES.add_lazy("loss_surface", "bench.analysis.loss_surface:LOSS_SURFACE")
ANALYSES.add_lazy("path_difference", "bench.analysis.path_difference:PATH_DIFFERENCE")
ANALYSES.add_lazy("statistics_shift", "bench.analysis.statistics_shift:STATISTICS_SHIFT")


def get_analysis(name: str) -> Analysis:
    """Returns a registered analysis; raises ``UserError`` with the nearest name without one."""
    return ANALYSES.get(name)


def analysis_kind(name: str, params: Mapping[str, Any]) -> AnalysisKind:
    """Returns an analysis with its parameters filled in.

    Raises:
        ParamsError: For unknown or bad parameters.
        UserError: For an unknown analysis.
    """
    analysis = get_analysis(name)
    if problems := spec_problems(analysis.params, params, f"analysis '{name}'"):
        raise ParamsError(problems)
    filled = analysis.params.model_validate(dict(params))
    return AnalysisKind(
        version=analysis.version,
        params=filled.model_dump(mode="json"),
        attack_runs=analysis.attack_runs(filled),
        n_models=analysis.n_models,
        wants=analysis.wants,
        passes_per_image=analysis.passes(filled),
        scores=analysis.scores,
    )
