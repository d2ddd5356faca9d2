"""The analyses: names, parameters, columns. None imports torch before it is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from pydantic import field_validator

from bench.attacks.params import Count, Positive, spec_problems
from bench.core.analysis import AnalysisKind
from bench.core.attack import ParamsError
from bench.core.registry import Deferred, Registry
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


class ExamplesParams(Spec):
    """Which images.

    Attributes:
        images: How many.
        stratified: Whether to take no second image of a class while another has none.
    """

    images: Count = 4
    stratified: bool = False


class GradientSimilarityParams(Spec):
    """No parameters."""


class LossSurfaceParams(Spec):
    """The grid.

    Attributes:
        points: Grid points along each direction, odd, so that the image itself is one.
        extent: How far the grid reaches to each side, in units of eps.
    """

    points: Count = 21
    extent: Positive = 1.0

    @field_validator("points")
    @classmethod
    def _odd(cls, points: int) -> int:
        if points < 3 or points % 2 == 0:
            raise ValueError(f"expected an odd number of at least 3, found {points}")
        return points

    def positions(self) -> list[float]:
        """Returns the grid along one direction, in units of eps."""
        half = self.points // 2
        return [self.extent * (i - half) / half for i in range(self.points)]


class PathDifferenceParams(Spec):
    """How many paths are compared.

    Attributes:
        pairs: Pairs of paths for each number of layers.
        step: Every ``step``-th number of layers is looked at, and all layers.
    """

    pairs: Count = 10
    step: Count = 1


class StatisticsShiftParams(Spec):
    """No parameters."""


_TYPICAL_LAYERS = 20


def _ladder_passes(params: Spec) -> float:
    ladder = cast(PathDifferenceParams, params)
    return ladder.pairs * (_TYPICAL_LAYERS / ladder.step + 1)


EXAMPLES = Analysis(
    name="examples",
    version=1,
    params=ExamplesParams,
    run=Deferred("bench.analysis.examples:run"),
    columns={
        "model": "position among the subjects",
        "place": "number of the image among those chosen",
        "index": "its position in the data set's split",
        "label": "its class",
        "label_name": "the name of the class; its number where it has none",
        "clean_pred": "class predicted for the clean image: the one of the largest probability, "
        "which is the softmax of the logits, mean over draws",
        "clean_name": "the name of that class",
        "clean_confidence": "its probability",
        "adv_pred": "the same of the attacked image",
        "adv_name": "the name of that class",
        "adv_confidence": "its probability",
        "linf": "largest absolute pixel difference",
        "l2": "Euclidean norm of the difference",
        "magnification": "by how much the difference is enlarged: so that the largest one that the "
        "ball allows (linf), or that is shown (l2), is black or white",
        "clean_png": "the clean image, 8 bits",
        "adv_png": "the attacked image, 8 bits",
        "difference_png": "0.5 + magnification * (attacked - clean), 8 bits",
    },
    summary="clean, attacked and magnified difference images with both predictions",
    url="",
    passes=lambda params: 0.0,
    attack_runs=lambda params: 1.0,
    scores=3.0,
)

GRADIENT_SIMILARITY = Analysis(
    name="gradient_similarity",
    version=1,
    params=GradientSimilarityParams,
    run=Deferred("bench.analysis.gradient_similarity:run"),
    columns={
        "first": "position of a model among the subjects",
        "second": "position of another, later one",
        "index": "the image's position in the data set's split",
        "cosine": "cosine of the angle between the input gradients of the cross-entropy, in "
        "[-1, 1]; nan where one of them is 0 everywhere",
    },
    summary="cosine similarity of the input gradients of every pair of models",
    url="Dong et al., NeurIPS 2022 (figure 3)",
    passes=lambda params: 2.0,
    n_models=2,
)

LOSS_SURFACE = Analysis(
    name="loss_surface",
    version=1,
    params=LossSurfaceParams,
    run=Deferred("bench.analysis.loss_surface:run"),
    columns={
        "model": "position among the subjects",
        "along_gradient": "distance from the image along the sign of the gradient (l2: the "
        "gradient), in units of eps",
        "along_random": "distance along the random direction, in units of eps",
        "loss": "cross-entropy of the true class, mean over images and draws",
        "sd": "its standard deviation over the images; 0 for a single one",
        "n": "images",
    },
    summary="loss on a grid spanned by the gradient's sign and a random direction",
    url="Dong et al., NeurIPS 2022 (figure 2)",
    passes=lambda params: cast(LossSurfaceParams, params).points ** 2 + 2.0,
)

PATH_DIFFERENCE = Analysis(
    name="path_difference",
    version=1,
    params=PathDifferenceParams,
    run=Deferred("bench.analysis.path_difference:run"),
    columns={
        "model": "position among the subjects",
        "difference": "number of layers in which the two paths differ",
        "pair": "number of the pair; pairs of one number share the attacked path",
        "accuracy": "share of images that are right on the scored path, in [0, 1]",
        "n": "images",
        "attacked": "branch of each layer of the path that the attack saw, a digit each",
        "scored": "the same of the path that is scored",
    },
    summary="accuracy of one path of RNA under attack on another, by how much they differ",
    url="Dong et al., NeurIPS 2022 (figure 5c)",
    passes=_ladder_passes,
    attack_runs=lambda params: float(cast(PathDifferenceParams, params).pairs),
    wants="paths",
)

STATISTICS_SHIFT = Analysis(
    name="statistics_shift",
    version=1,
    params=StatisticsShiftParams,
    run=Deferred("bench.analysis.statistics_shift:run"),
    columns={
        "model": "position among the subjects",
        "batch": "number of the batch",
        "n": "images in the batch",
        "layer": "position of the normalization layer, in the order of the forward pass",
        "name": "its name in the network",
        "channel": "its channel; its group where channels share statistics (bgn)",
        "statistic": "mean, var or, in a layer that divides by a range (rn), range",
        "images": "clean or attacked",
        "population": "the tracked statistic, in units of the layer's input (var: squared)",
        "difference": "the batch's statistic minus the tracked one, in the same unit",
        "relative": "difference divided by what the layer divides by on population statistics: the "
        "standard deviation for a mean, the variance for a var, the range for means and ranges of "
        "rn",
    },
    summary="batch against population statistics, layer by layer, clean and attacked",
    url="https://arxiv.org/abs/2006.11007 (figure 2)",
    passes=lambda params: 2.0,
    attack_runs=lambda params: 1.0,
    wants="tracked",
)

ANALYSES: Registry[Analysis] = Registry("analysis")
"""All of them, by name."""
for _analysis in (EXAMPLES, GRADIENT_SIMILARITY, LOSS_SURFACE, PATH_DIFFERENCE, STATISTICS_SHIFT):
    ANALYSES.add(_analysis.name, _analysis)


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
        raise ParamsError(problems, f"analysis '{name}'")
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
