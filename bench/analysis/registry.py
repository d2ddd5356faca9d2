"""The analyses by name. Listing them imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from bench.attacks.params import spec_problems
from bench.core.analysis import AnalysisKind
from bench.core.attack import ParamsError
from bench.core.registry import Registry
from bench.core.spec import Spec

if TYPE_CHECKING:  # names of analyses are listed without importing torch
    import pandas as pd

    from bench.analysis.scene import Scene

AnalysisFunction: TypeAlias = "Callable[[Scene], pd.DataFrame]"
"""``run(scene) -> values``: the columns that the analysis documents, in their order, of int64,
float64, str or bytes. Models are named by their position among the scene's subjects."""


def _never(params: Spec) -> float:
    return 0.0


@dataclass(frozen=True)
class Analysis:
    """An entry of the analysis registry.

    Attributes:
        name: Name in suites.
        version: Raised whenever the code's behaviour changes; part of an analysis' identity.
        params: Its typed parameters.
        run: The function.
        columns: Meaning and unit of each column of its values, in their order.
        summary: One line for listings.
        url: The paper and figure that it is taken from.
        passes: Rough forward plus backward passes per image, model and draw, the attack's aside.
        attack_runs: How often the attack is run; 0 for an analysis that attacks nothing.
        scores: Forward passes per image and scoring draw.
        n_models: The fewest models that it takes.
        wants: Which models fit, see ``AnalysisKind``.
    """

    name: str
    version: int
    params: type[Spec]
    run: AnalysisFunction
    columns: Mapping[str, str]
    summary: str
    url: str
    passes: Callable[[Spec], float]
    attack_runs: Callable[[Spec], float] = _never
    scores: float = 0.0
    n_models: int = 1
    wants: Literal["any", "tracked", "paths"] = "any"


ANALYSES: Registry[Analysis] = Registry("analysis")
for _name in (
    "examples",
    "gradient_similarity",
    "loss_surface",
    "path_difference",
    "statistics_shift",
):
    ANALYSES.add_lazy(_name, f"bench.analysis.{_name}:{_name.upper()}")


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
