"""Decides the claims of the two papers from stored rows.

A claim is a list of contrasts: what must be more robust than what, on the same images. It holds if
every paired difference is shown to be above 0 (by its 95 % interval and, where it applies, by
McNemar's test), does not hold if one is shown to be below 0, and is open otherwise. The claims are
data, in ``bench/published/claims``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any, Literal

import yaml

from bench.core.errors import UserError
from bench.core.result import CellInfo, Cluster, Row, alarms_of, cluster_of
from bench.metrics import Difference, paired_difference, worst_case_rows
from bench.report.run_view import RunView

NO_RUN = "no stored run of suite"
"""How ``ClaimOutcome.missing`` begins where a claim's run is not stored."""

Verdict = Literal["holds", "does not hold", "open"]


@dataclass(frozen=True)
class Side:
    """One side of a contrast, which gives each image a score.

    Attributes:
        groups: Groups of model labels. An image's score is the mean over the groups of its smallest
            score over the models of the group and the attacks.
        attacks: Attack labels.
        clean_errors_count: Whether an image that is wrong when clean counts as broken even where
            the cell's protocol scores x_adv as it is.
    """

    groups: tuple[tuple[str, ...], ...]
    attacks: tuple[str, ...]
    clean_errors_count: bool = False


@dataclass(frozen=True)
class Contrast:
    """Two sides, of which the first must be shown to be more robust."""

    name: str
    better: Side
    worse: Side


@dataclass(frozen=True)
class Trial:
    """A claim under one protocol.

    Attributes:
        suite: The suite whose stored rows decide.
        under: Protocol and attacks, in words.
        contrasts: All must be shown for the claim to hold.
    """

    suite: str
    under: str
    contrasts: tuple[Contrast, ...]


@dataclass(frozen=True)
class Claim:
    """A claim of a paper, tried under the paper's protocol and under the strongest attack here."""

    text: str
    source: str
    paper: Trial
    strongest: Trial


PAPERS = ("robustnorm", "rna")
"""Papers with claims, in the order of the index."""


@cache
def claims() -> tuple[Claim, ...]:
    """Returns the claims of all papers."""
    folder = resources.files("bench.published").joinpath("claims")
    texts = [folder.joinpath(f"{paper}.yaml").read_text("utf-8") for paper in PAPERS]
    return tuple(
        Claim(raw["text"], raw["source"], _trial(raw["paper"]), _trial(raw["strongest"]))
        for text in texts
        for raw in yaml.safe_load(text)
    )


def _trial(raw: Mapping[str, Any]) -> Trial:
    return Trial(raw["suite"], raw["under"], tuple(map(_contrast, raw["contrasts"])))


def _contrast(raw: Mapping[str, Any]) -> Contrast:
    attacks = tuple(raw["attacks"])
    better = Side(_groups(raw["better"]), attacks, raw.get("clean_errors_count", False))
    return Contrast(raw["name"], better, Side(_groups(raw["worse"]), attacks))


def _groups(models: str | Sequence[str | Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """Returns the groups of a label, of a list of labels, or of a list of groups."""
    listed = [models] if isinstance(models, str) else models
    return tuple((one,) if isinstance(one, str) else tuple(one) for one in listed)


@dataclass(frozen=True)
class ClaimOutcome:
    """The outcome of a trial.

    Attributes:
        verdict: Whether the claim holds.
        differences: The paired difference of each contrast whose rows are stored, by its name.
        missing: Which rows are missing, in words; the verdict is then ``open``.
        alarms: Reasons to doubt the numbers.
    """

    verdict: Verdict
    differences: Mapping[str, Difference]
    missing: str = ""
    alarms: tuple[str, ...] = ()


def decide(trial: Trial, runs: Mapping[str, RunView]) -> ClaimOutcome:
    """Decides a trial from stored runs, given by the names of their suites."""
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
    """The rows of a side, and the cells they come from."""

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
        rows = [_with_clean_errors(r) if side.clean_errors_count else r for r, _ in cells]
        found.append(worst_case_rows(rows, cluster, whole_batches=whole))
        infos += [info for _, info in cells]
    return _Scored(_mean(found), infos)


def _with_clean_errors(rows: Sequence[Row]) -> list[Row]:
    """Returns rows in which images that are wrong when clean count as broken."""
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
    """Returns the rows of the first group with the mean scores of all groups on the same images."""
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
