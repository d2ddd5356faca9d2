"""What an analysis is: from models and images to one long table of values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from bench.core.spec import Spec

if TYPE_CHECKING:  # names of analyses are listed without importing torch
    import pandas as pd

    from bench.analysis.scene import Scene

AnalysisFunction: TypeAlias = "Callable[[Scene], pd.DataFrame]"
"""``run(scene) -> values``: the columns that the analysis documents, in their order, of int64,
float64, str or bytes. Models are named by their position among the scene's subjects."""


class AnalysisError(Exception):
    """An analysis cannot be finished; the message says why in one line."""


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
        columns: What each column of its values is, with its unit, in their order.
        summary: One line for listings.
        url: The paper and figure that it is taken from.
        passes: Rough forward plus backward passes per image, model and draw, the attack's aside.
        attack_runs: How often the attack is run; 0 for an analysis that attacks nothing.
        scores: Forward passes per image and scoring draw.
        n_models: The fewest models that it takes.
        wants: Which models fit, see ``bench.suite.AnalysisKind``.
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
