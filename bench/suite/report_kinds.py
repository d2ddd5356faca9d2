"""What a suite has to know of each kind of report; ``bench.report.kinds`` builds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from bench.core.registry import known_name

PLUGINS = "rbench.reports"
"""Group of entry points by which other packages add kinds of report."""

Need = Literal[
    "", "corruption", "both statistics", "transfer", "eps", "n_iter", "batch_size", "power"
]


@dataclass(frozen=True)
class ReportKind:
    """A kind of report.

    Attributes:
        heading: Heading in ``report.html``; where empty, that is the report's title.
        summary: What it shows, in one line.
        panels: Whether its figure may be divided into the entry's ``panels``.
        pairs: Whether the entry must list ``pairs`` of attacks.
        analysis: Whether it shows the suite's analyses of its own name, and nothing else.
        needs: What a suite must hold for it: a checkpoint under both kinds of statistics, models
            under protocol transfer, or two values at least of a quantity.
    """

    heading: str = ""
    summary: str = ""
    panels: bool = False
    pairs: bool = False
    analysis: bool = False
    needs: Need = ""

    def wants(self, name: str) -> str:
        """Returns what a suite must hold for a report of this kind, in a few words."""
        if self.analysis:
            return f"analyses: - {name}"
        return "pairs of attacks" if self.pairs else _NEEDS[self.needs]


_NEEDS: Mapping[Need, str] = {
    "": "",
    "corruption": "attacks: - {attack: corruption, params: {name: fog, severity: 3}}",
    "both statistics": "a checkpoint under stats population and under stats batch",
    "transfer": "models under protocol transfer",
    "eps": "attacks at two values of eps or more",
    "n_iter": "attacks of two values of n_iter or more",
    "batch_size": "models in two batch sizes or more",
    "power": "RobustNorm checkpoints of two powers or more",
}


REPORT_KINDS: Mapping[str, ReportKind] = {
    "agreement": ReportKind(
        "Two attacks on the same images",
        "two attacks on the same images: how often they agree, and the difference",
        pairs=True,
    ),
    "batch_size_curve": ReportKind(
        "Accuracy against the size of the batch",
        "accuracy against the size of the batch",
        panels=True,
        needs="batch_size",
    ),
    "corruptions": ReportKind(
        "Accuracy under common corruptions",
        "accuracy under common corruptions, each over its severities, and their mean",
        needs="corruption",
    ),
    "eps_curve": ReportKind(
        "Accuracy against eps", "accuracy against eps", panels=True, needs="eps"
    ),
    "examples": ReportKind(
        "Example images",
        "clean and attacked images and their difference, with predictions",
        analysis=True,
    ),
    "gain_table": ReportKind(
        "What batch statistics gain",
        "relative gain of batch over population statistics",
        needs="both statistics",
    ),
    "gradient_similarity": ReportKind(
        "How alike the gradients are",
        "cosine similarity of input gradients, for every pair of models",
        analysis=True,
    ),
    "iteration_curve": ReportKind(
        "Accuracy against the attack's steps",
        "accuracy against the attack's steps",
        panels=True,
        needs="n_iter",
    ),
    "leaderboard": ReportKind(
        "Leaderboard", "robust accuracy of models under attacks, worst case and rank"
    ),
    "loss_surface": ReportKind(
        "The loss around an image",
        "the loss around images, as a surface for each model",
        analysis=True,
    ),
    "path_difference": ReportKind(
        "Attacks on one path, scored on another",
        "accuracy of an RNA path on images crafted on another, by their distance",
        analysis=True,
    ),
    "power_curve": ReportKind(
        "Accuracy against RobustNorm's power",
        "accuracy against RobustNorm's power",
        panels=True,
        needs="power",
    ),
    "statistics_shift": ReportKind(
        "How attacks shift the statistics",
        "distance of batch statistics from the tracked ones, layer by layer",
        analysis=True,
    ),
    "stats_table": ReportKind(
        "Population against batch statistics",
        "accuracy under population and under batch statistics, side by side",
    ),
    "training_curve": ReportKind(
        "Training, epoch by epoch", "loss and accuracy of each training epoch of the models"
    ),
    "transfer_heatmap": ReportKind(
        "Transfer between models",
        "attacks crafted on one model and scored on another",
        panels=True,
        needs="transfer",
    ),
}
"""rbench's own kinds."""

_PLUGIN = ReportKind()


def known_kind(kind: str) -> str:
    """Returns the name of a kind, of rbench or of a plugin; a pydantic validator."""
    return known_name("report", PLUGINS, REPORT_KINDS, kind)


def report_kind(kind: str) -> ReportKind:
    """Returns what is known of a kind; of a plugin's, nothing: its code is not imported here."""
    return REPORT_KINDS.get(kind, _PLUGIN)
