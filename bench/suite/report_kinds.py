"""What a suite has to know of each kind of report; ``bench.report.kinds`` builds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from bench.core.registry import known_name

PLUGINS = "rbench.reports"
"""Group of entry points by which other packages add kinds of report."""

Need = Literal["", "both statistics", "transfer", "eps", "n_iter", "batch_size", "power"]


@dataclass(frozen=True)
class ReportKind:
    """A kind of report.

    Attributes:
        heading: Heading in ``report.html``; where empty, that is the report's title.
        panels: Whether its figure may be divided into the entry's ``panels``.
        pairs: Whether the entry must list ``pairs`` of attacks.
        analysis: Whether it shows the suite's analyses of its own name, and nothing else.
        needs: What a suite must hold for it: a checkpoint under both kinds of statistics, models
            under protocol transfer, or two values at least of a quantity.
    """

    heading: str = ""
    panels: bool = False
    pairs: bool = False
    analysis: bool = False
    needs: Need = ""


REPORT_KINDS: Mapping[str, ReportKind] = {
    "agreement": ReportKind("Two attacks on the same images", pairs=True),
    "batch_size_curve": ReportKind(
        "Accuracy against the size of the batch", panels=True, needs="batch_size"
    ),
    "eps_curve": ReportKind("Accuracy against eps", panels=True, needs="eps"),
    "examples": ReportKind("Example images", analysis=True),
    "gain_table": ReportKind("What batch statistics gain", needs="both statistics"),
    "gradient_similarity": ReportKind("How alike the gradients are", analysis=True),
    "iteration_curve": ReportKind(
        "Accuracy against the attack's steps", panels=True, needs="n_iter"
    ),
    "leaderboard": ReportKind("Leaderboard"),
    "loss_surface": ReportKind("The loss around an image", analysis=True),
    "path_difference": ReportKind("Attacks on one path, scored on another", analysis=True),
    "power_curve": ReportKind("Accuracy against RobustNorm's power", panels=True, needs="power"),
    "statistics_shift": ReportKind("How attacks shift the statistics", analysis=True),
    "stats_table": ReportKind("Population against batch statistics"),
    "training_curve": ReportKind("Training, epoch by epoch"),
    "transfer_heatmap": ReportKind("Transfer between models", panels=True, needs="transfer"),
}
"""rbench's own kinds."""

_PLUGIN = ReportKind()


def known_kind(kind: str) -> str:
    """Returns the name of a kind, of rbench or of a plugin; a pydantic validator."""
    return known_name("report", PLUGINS, REPORT_KINDS, kind)


def report_kind(kind: str) -> ReportKind:
    """Returns what is known of a kind; of a plugin's, nothing: its code is not imported here."""
    return REPORT_KINDS.get(kind, _PLUGIN)
