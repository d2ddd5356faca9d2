"""Summarizes records: one row per contender and attack."""

from __future__ import annotations

import importlib.metadata
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from tools.speed.contenders import Contender, Outcome
from tools.speed.race import Race, race_id
from tools.speed.records import Record, Records
from tools.speed.settings import Setting
from tools.speed.timing import Timing, ratio

COLUMNS = (
    "checkpoint",
    "attack",
    "contender",
    "version",
    "images",
    "rounds",
    "seconds",
    "ratio",
    "ratio_low",
    "ratio_high",
    "forwards",
    "backwards",
    "robust_accuracy",
    "agreement",
    "model_share",
    "peak_mb",
    "note",
    "kind",
    "machine",
)
"""``seconds``: median over the rounds, from images to verified verdicts. ``ratio``: that of the
contender over rbench's, median over the rounds, with the lowest and highest. ``forwards`` and
``backwards``: passes per image of the attack. ``robust_accuracy``, ``agreement`` (share of images
with rbench's verdict) and ``model_share`` (of the attack's time, in the model's passes): in [0, 1].
``peak_mb``: MiB beyond model and images. Unknown numbers are empty; ``note`` says why. ``kind``:
kind of processor, see ``tools.speed.host.kind_of``; ``machine``: with versions and date."""

NUMBERS = ("images", "rounds", *COLUMNS[6:16])
"""Numeric columns; values may be missing."""

_DIGITS = {
    "seconds": 4,
    "ratio": 4,
    "ratio_low": 4,
    "ratio_high": 4,
    "forwards": 3,
    "backwards": 3,
    "robust_accuracy": 5,
    "agreement": 5,
    "model_share": 4,
    "peak_mb": 1,
}


@dataclass(frozen=True)
class Entry:
    """A contender in an attack.

    Attributes:
        checkpoint: The model's name.
        attack: Title of the attack.
        contender: Its name.
        version: Version of its package; empty if it is not installed.
        runs: Measurements by round.
        peak_mb: Peak memory, if measured.
        note: Why there is no number, or what is not equal.
    """

    checkpoint: str
    attack: str
    contender: str
    version: str
    runs: Mapping[int, Record]
    peak_mb: float | None = None
    note: str = ""


def collect(race: Race, records: Records) -> list[Entry]:
    """Returns an entry for each contender that has an attack, also missing and failed ones."""
    return [
        _entry(race, records, setting, contender)
        for setting in race.settings
        for contender in race.contenders
        if contender.offers(setting)
    ]


def _entry(race: Race, records: Records, setting: Setting, contender: Contender) -> Entry:
    reason = contender.missing()
    if reason:
        return Entry(race.arena.name, setting.title, contender.name, "", {}, note=reason)
    identity = race_id(race.arena, setting, contender)
    runs = {k: v for k, v in records.runs(identity).items() if k < race.n_rounds(setting)}
    error = records.error(identity)
    return Entry(
        race.arena.name,
        setting.title,
        contender.name,
        importlib.metadata.version(contender.distribution),
        runs,
        records.peak_mb(identity),
        f"failed: {error}" if error else contender.note(setting),
    )


def standings(
    entries: Sequence[Entry], baseline: str, kind: str = "", machine: str = ""
) -> pd.DataFrame:
    """Returns one row per entry, with ``COLUMNS``.

    Args:
        entries: Entries of one or more checkpoints and attacks.
        baseline: Name of the contender that ratios and agreement refer to.
        kind: Kind of processor.
        machine: The machine, versions and date.
    """
    bases = {(e.checkpoint, e.attack): e for e in entries if e.contender == baseline}
    where = {"kind": kind, "machine": machine}
    rows = [_row(entry, bases.get((entry.checkpoint, entry.attack))) | where for entry in entries]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"images": "Int64"}).round(_DIGITS)


def _row(entry: Entry, base: Entry | None) -> dict[str, object]:
    row: dict[str, object] = {
        "checkpoint": entry.checkpoint,
        "attack": entry.attack,
        "contender": entry.contender,
        "version": entry.version,
        "rounds": len(entry.runs),
        "peak_mb": entry.peak_mb,
        "note": entry.note,
    }
    outcomes = [record.outcome for record in entry.runs.values() if record.outcome is not None]
    if outcomes:
        row |= _measured(outcomes)
    shared = [] if base is None else sorted(set(entry.runs) & set(base.runs))
    if base is not None and shared:
        row |= _compared(entry, base, shared)
    return row


def _measured(outcomes: Sequence[Outcome]) -> dict[str, object]:
    first = outcomes[0]  # equal seeds give equal passes and verdicts in every round
    shares = [one.model_seconds / one.search_seconds for one in outcomes]
    return {
        "images": len(first.robust),
        "seconds": Timing(tuple(one.seconds for one in outcomes)).median,
        "forwards": first.forwards,
        "backwards": first.backwards,
        "robust_accuracy": statistics.fmean(first.robust),
        "model_share": statistics.median(shares),
    }


def _compared(entry: Entry, base: Entry, shared: Sequence[int]) -> dict[str, object]:
    theirs, ours = ([e.runs[k] for k in shared] for e in (entry, base))
    middle, low, high = ratio(_timing(theirs), _timing(ours))
    verdicts = zip(_verdicts(theirs[0]), _verdicts(ours[0]), strict=True)
    found: dict[str, object] = {
        "ratio": middle,
        "ratio_low": low,
        "ratio_high": high,
        "agreement": statistics.fmean(a == b for a, b in verdicts),
    }
    if any(a.session != b.session for a, b in zip(theirs, ours, strict=True)):
        apart = "measured apart from rbench, in a race that was taken up again"
        found["note"] = f"{entry.note}; {apart}" if entry.note else apart
    return found


def _timing(records: Sequence[Record]) -> Timing:
    return Timing(tuple(r.outcome.seconds for r in records if r.outcome is not None))


def _verdicts(record: Record) -> list[bool]:
    """Returns whether the model was robust on each image, on most of the draws."""
    assert record.outcome is not None
    return [robust >= 0.5 for robust in record.outcome.robust]
