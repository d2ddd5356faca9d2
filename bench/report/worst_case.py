"""A model's worst case in a run: right under every attack that counts, image by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.core.result import CellInfo, Cluster, Row, alarms_of, cluster_of
from bench.core.threat import ThreatModel
from bench.metrics import Estimate, robust_accuracy, worst_case_rows
from bench.report.run_view import RunView
from bench.report.text import protocol_text


@dataclass(frozen=True)
class WorstCase:
    """The accuracy against the best of a model's complete attacks for each image.

    Attributes:
        rows: The row of the best attack for each image.
        cluster: What is independent of what.
        labels: The attacks, complete ones only.
        infos: Their cells.
        absent: Labels of attacks that count, and have no number; with any, it is an upper bound.
    """

    rows: Sequence[Row]
    cluster: Cluster
    labels: tuple[str, ...]
    infos: tuple[CellInfo, ...]
    absent: tuple[str, ...]

    @property
    def accuracy(self) -> Estimate:
        """The number."""
        return robust_accuracy(self.rows, self.cluster)

    @property
    def alarms(self) -> tuple[str, ...]:
        """The alarms of all of its attacks."""
        return alarms_of(self.infos)

    @property
    def protocol(self) -> str:
        """How the model was attacked."""
        return " / ".join(dict.fromkeys(protocol_text(info.spec) for info in self.infos))

    @property
    def bound(self) -> str:
        """Says that it is an upper bound, and why; empty where it is none."""
        return f"worst case without {', '.join(self.absent)}: an upper bound" * bool(self.absent)


def in_worst_case(view: RunView, ball: ThreatModel | None = None) -> list[int]:
    """Returns the positions of the attacks of the worst case.

    Args:
        view: The run.
        ball: The attacks inside this one of the suite's threat models; ``None`` for all of them,
            so that the worst case of several is that of their union.
    """
    suite = view.suite
    return [
        j
        for j, attack in enumerate(view.attacks)
        if view.attack_kind(j) != "none"
        and attack.in_worst_case(*suite.threat_models)
        and (ball is None or ball.holds(attack.threat_model(suite.threat_model)))
    ]


def worst_case(view: RunView, model: int, ball: ThreatModel | None = None) -> WorstCase | None:
    """Returns a model's worst case; ``None`` where none of its attacks is complete.

    Where the adversary perturbs whole batches, it is the best attack for each batch. Of a union of
    threat models it is the accuracy on images that are right in every one of them: Tramèr and
    Boneh 2019, https://arxiv.org/abs/1904.13000, section 2 (their ``max``); Maini et al. 2020,
    https://arxiv.org/abs/1909.04068.

    Args:
        view: The run.
        model: Position of the model.
        ball: As for ``in_worst_case``.
    """
    chosen = in_worst_case(view, ball)
    outcomes = [(view.attacks[j].label, view.outcome(model, j)) for j in chosen]
    done = [
        (label, o.rows, o.info) for label, o in outcomes if o.status == "ok" and o.info is not None
    ]
    if not done:
        return None
    infos = tuple(info for _, _, info in done)
    cluster, whole = cluster_of(infos), all(info.whole_batches for info in infos)
    rows = worst_case_rows([rows for _, rows, _ in done], cluster, whole_batches=whole)
    absent = tuple(label for label, outcome in outcomes if outcome.status != "ok")
    return WorstCase(rows, cluster, tuple(label for label, _, _ in done), infos, absent)
