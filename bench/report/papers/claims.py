"""Whether a claim holds, decided from stored rows by a rule; ``claim_list`` has the claims.

A claim is a list of contrasts: what must be more robust than what, on the same images. It holds if
every paired difference is shown to be above 0 (its 95 % interval excludes 0, and so does McNemar's
test where it applies), does not hold if one is shown to be below 0, and is open otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bench.core.errors import UserError
from bench.core.result import CellInfo, Cluster, Row, alarms_of, cluster_of
from bench.metrics import Difference, paired_difference, worst_case_rows
from bench.report.run_view import RunView

NO_RUN = "no stored run of suite"
"""How the reason begins where the rows of a claim's run are not here."""

Verdict = Literal["holds", "does not hold", "open"]


@dataclass(frozen=True)
class Side:
    """One side of a contrast: a score for each image.

    Attributes:
        groups: Groups of model labels. Within a group the smallest score over its models and the
            attacks counts, as if the adversary knew the best for each image; then comes the mean
            over the groups.
        attacks: Attack labels.
        declines: Whether an image that is wrong when clean counts as broken, also where the cell's
            protocol scores x_adv as it is.
    """

    groups: tuple[tuple[str, ...], ...]
    attacks: tuple[str, ...]
    declines: bool = False


@dataclass(frozen=True)
class Contrast:
    """What a claim says is more robust, and than what; ``name`` says it in a few words."""

    name: str
    better: Side
    worse: Side


@dataclass(frozen=True)
class Trial:
    """A claim under one protocol.

    Attributes:
        suite: Whose stored rows decide.
        under: Protocol and attacks, in words.
        contrasts: All must be shown.
    """

    suite: str
    under: str
    contrasts: tuple[Contrast, ...]


@dataclass(frozen=True)
class Claim:
    """One sentence of a paper and how it is tried.

    Attributes:
        text: The sentence.
        source: Paper and place.
        paper: Under the paper's protocol.
        strongest: Under the strongest attack here.
    """

    text: str
    source: str
    paper: Trial
    strongest: Trial


@dataclass(frozen=True)
class ClaimOutcome:
    """What became of a trial.

    Attributes:
        verdict: Whether the claim holds under it.
        differences: By the contrast's name; fewer than contrasts where rows are missing.
        missing: What is missing, in words; then the verdict is ``open``.
        alarms: Reasons to doubt the numbers.
    """

    verdict: Verdict
    differences: Mapping[str, Difference]
    missing: str = ""
    alarms: tuple[str, ...] = ()


def decide(trial: Trial, runs: Mapping[str, RunView]) -> ClaimOutcome:
    """Decides a trial from stored runs, by the names of their suites."""
    view = runs.get(trial.suite)
    if view is None:
        return ClaimOutcome("open", {}, f"{NO_RUN} {trial.suite}")
    differences: dict[str, Difference] = {}
    infos: list[CellInfo] = []
    missing = ""
    for contrast in trial.contrasts:
        try:
            better, worse = _score(view, contrast.better), _score(view, contrast.worse)
            differences[contrast.name] = _difference(better, worse)
        except UserError as error:
            missing = missing or str(error)
        else:
            infos += better.infos + worse.infos
    verdict = "open" if missing else _verdict(list(differences.values()))
    return ClaimOutcome(verdict, differences, missing, alarms_of(infos))


def _verdict(differences: Sequence[Difference]) -> Verdict:
    verdicts = {difference.verdict for difference in differences}
    if "lower" in verdicts:
        return "does not hold"
    return "holds" if verdicts == {"higher"} else "open"


@dataclass(frozen=True)
class _Scored:
    """Rows of a side, and the cells that they rest on."""

    rows: list[Row]
    infos: list[CellInfo]


def _difference(better: _Scored, worse: _Scored) -> Difference:
    rows = better.rows
    cluster = cluster_of(better.infos + worse.infos)
    if cluster != cluster_of(better.infos):
        batches = {row.index: row.batch for row in worse.rows}
        rows = [replace(row, batch=batches.get(row.index, row.batch)) for row in rows]
    return paired_difference(rows, worse.rows, cluster)


def _score(view: RunView, side: Side) -> _Scored:
    """Returns the score of each image; raises ``UserError`` where a cell is missing."""
    found: list[list[Row]] = []
    infos: list[CellInfo] = []
    for group in side.groups:
        cells = [_cell(view, model, attack) for model in group for attack in side.attacks]
        whole = all(info.whole_batches for _, info in cells)
        cluster: Cluster = "batch" if whole else "sample"
        rows = [_declined(rows) if side.declines else rows for rows, _ in cells]
        found.append(worst_case_rows(rows, cluster, whole_batches=whole))
        infos += [info for _, info in cells]
    return _Scored(_mean(found), infos)


def _declined(rows: Sequence[Row]) -> list[Row]:
    """Returns rows as if the adversary had played the clean image where that is wrong already."""
    return [
        row if row.robust is None else replace(row, robust=min(row.robust, row.clean_correct))
        for row in rows
    ]


def _cell(view: RunView, model: str, attack: str) -> tuple[Sequence[Row], CellInfo]:
    suite = view.suite.suite
    models = [i for i, entry in enumerate(view.models) if entry.label == model]
    attacks = [j for j, entry in enumerate(view.attacks) if entry.label == attack]
    for kind, label, places in (("model", model, models), ("attack", attack, attacks)):
        if not places:
            raise UserError(f"run {suite} has no {kind} '{label}'")
    outcome = view.outcome(models[0], attacks[0])
    if outcome.status != "ok" or outcome.info is None:
        raise UserError(f"'{model}' under {attack} in run {suite}: {outcome.reason}")
    return outcome.rows, outcome.info


def _mean(groups: Sequence[Sequence[Row]]) -> list[Row]:
    """Returns the rows of the first group with the mean score of all; images must be the same."""
    scores: dict[int, list[float]] = {row.index: [] for row in groups[0]}
    for rows in groups:
        for row in rows:
            if row.index in scores and row.robust is not None:
                scores[row.index].append(row.robust)
    if any(len(found) != len(groups) for found in scores.values()):
        raise UserError("the models of a side were scored on different images")
    return [
        replace(row, robust=sum(scores[row.index]) / len(scores[row.index])) for row in groups[0]
    ]
