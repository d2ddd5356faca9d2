"""Cosine similarity of input gradients: a histogram for every pair of models."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from bench.core.analysis import AnalysisSpec
from bench.metrics import real_mean, real_median
from bench.report.figure import Figure, Histograms
from bench.report.kinds.analysis_report import AnalysisReport, shares_statistics
from bench.report.run_view import AnalysisOutcome, RunView
from bench.report.table import Cell, Report, TableRow
from bench.suite.entry import ReportEntry

FEWEST_BINS, MOST_BINS = 10, 30
MOST_SERIES = 6
"""Histograms in one panel; more pairs than that get a panel for each first model."""

Pair = tuple[str, NDArray[np.float64], int]
"""The label, the cosines, and the number of images that have no cosine."""
Edges = tuple[float, ...]

WHAT = (
    "Cosine of the angle between the input gradients of the cross-entropy of two models, image "
    "by image: 1 where both losses grow in the same direction, 0 where the directions have "
    "nothing in common. Alike gradients let adversarial images transfer."
)
READING = (
    (
        "intervals",
        "of a mean Student's, of a median that of order statistics; images are taken as "
        "independent, the models as given",
    ),
    (
        "models",
        "are separately trained networks as their cards say; weights differ along with norms, "
        "so a low similarity is not the norm's doing alone",
    ),
    (
        "images without direction",
        "have a gradient of exactly 0 on one of the models, as where a softmax saturates; they "
        "are left out of mean, median and histogram",
    ),
)


def build(view: RunView, entry: ReportEntry) -> Report:
    """Builds histograms of all pairs, and a table of their means and medians.

    Raises:
        UserError: When the suite has no such analysis, or a stored one is damaged.
    """
    page = AnalysisReport(view, "gradient_similarity")
    rows: list[TableRow] = []
    bins: list[TableRow] = []
    figures = []
    for outcome, spec in page.done:
        pairs = _pairs(outcome)
        edges = _edges(list(pairs.values()))
        panels = tuple(_panel(title, group, edges) for title, group in _panels(pairs))
        figures.append(Figure(page.figure_name(outcome), _caption(outcome, spec), panels))
        bins += [_bin_row(page, outcome, pair, edges) for pair in pairs.values()]
        rows += [_row(page, outcome, spec, pair) for pair in pairs.values()]
    columns = ("mean", "median", "images without direction")
    caption = "Cosine similarity of input gradients, 95 % intervals in brackets"
    names = ("models",)
    edges_caption = "Histogram: share of images in each bin"
    tables = [page.table(caption, names, columns, rows)]
    if bins:
        tables.append(page.full_table(edges_caption, names, "bin", bins))
    return page.report("gradient similarity", WHAT, figures, tables, READING)


def _pairs(outcome: AnalysisOutcome) -> dict[tuple[str, str], Pair]:
    """Returns the pairs of models by their labels, in the order of the models."""
    values = outcome.values
    pairs: dict[tuple[str, str], Pair] = {}
    for i, j in combinations(range(len(outcome.models)), 2):
        chosen = values[(values["first"] == i) & (values["second"] == j)]["cosine"].to_numpy(float)
        known = chosen[~np.isnan(chosen)]
        one, other = outcome.models[i], outcome.models[j]
        pairs[one, other] = (f"{one} vs {other}", known, len(chosen) - len(known))
    return pairs


def _panels(pairs: dict[tuple[str, str], Pair]) -> list[tuple[str, list[Pair]]]:
    """Returns the pairs of each panel, with its title."""
    if len(pairs) <= MOST_SERIES:
        return [("", list(pairs.values()))]
    firsts = dict.fromkeys(one for one, _ in pairs)
    return [(f"{f} and others", [p for (one, _), p in pairs.items() if one == f]) for f in firsts]


def _edges(pairs: list[Pair]) -> Edges:
    """Returns the edges of equal bins over all values, rounded outwards to tenths."""
    values = np.concatenate([known for _, known, _ in pairs])
    low = math.floor(10 * float(values.min())) / 10 if len(values) else -1.0
    high = math.ceil(10 * float(values.max())) / 10 if len(values) else 1.0
    high = max(high, low + 0.1)
    wanted = math.ceil(math.sqrt(max(len(known) for _, known, _ in pairs)))
    n = min(max(wanted, FEWEST_BINS), MOST_BINS)
    return tuple(low + (high - low) * i / n for i in range(n + 1))


def _shares(known: NDArray[np.float64], edges: Edges) -> list[float]:
    counts, _ = np.histogram(known, bins=np.asarray(edges))
    return [float(count) / max(len(known), 1) for count in counts]


def _panel(title: str, group: list[Pair], edges: Edges) -> Histograms:
    return Histograms(
        title=title,
        x_label="cosine similarity of input gradients",
        y_label="share of images in percent",
        edges=edges,
        series=tuple(
            (label, tuple(100 * share for share in _shares(known, edges)))
            for label, known, _ in group
        ),
    )


def _row(
    page: AnalysisReport, outcome: AnalysisOutcome, spec: AnalysisSpec, pair: Pair
) -> TableRow:
    label, known, n_without = pair
    without = Cell((str(n_without),), value=float(n_without), n=len(known) + n_without)
    if not len(known):
        absent = Cell(("—",), (page.footnotes.mark("no image has a gradient on both models"),))
        return TableRow(page.labels(outcome, label), (absent, absent, without))
    shared = any(shares_statistics(subject) for subject in spec.subjects)
    cells = (
        page.number(real_mean(known.tolist()), shared=shared),
        page.number(real_median(known.tolist()), shared=shared),
        without,
    )
    return TableRow(page.labels(outcome, label), cells)


def _bin_row(page: AnalysisReport, outcome: AnalysisOutcome, pair: Pair, edges: Edges) -> TableRow:
    label, known, _ = pair
    cells = tuple(
        Cell(
            (f"{share:.3g}",),
            value=share,
            n=len(known),
            extra={"bin_low": edges[i], "bin_high": edges[i + 1]},
        )
        for i, share in enumerate(_shares(known, edges))
    )
    return TableRow(page.labels(outcome, label), cells)


def _caption(outcome: AnalysisOutcome, spec: AnalysisSpec) -> str:
    n = int((outcome.values["first"].eq(0) & outcome.values["second"].eq(1)).sum())
    stochastic = [subject for subject in spec.subjects if subject.n_draws > 1]
    draws = {subject.eot_iter for subject in stochastic if subject.eot != "mean_field"}
    over = (
        f" Gradients of stochastic models are means over {_joined(draws)} draw(s)." if draws else ""
    )
    return (
        "Cosine similarity of the input gradients of the cross-entropy for each pair of models, on "
        f"the same n = {n} clean images of {spec.data.name}.{over}"
    )


def _joined(numbers: set[int]) -> str:
    return " or ".join(map(str, sorted(numbers)))
