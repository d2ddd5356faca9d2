"""Measurements in a file, one per line, so that a killed race can resume."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import ValidationError

from bench.core.spec import Spec
from tools.speed.contenders import Outcome


class Record(Spec):
    """One measurement: a run, a peak of memory, or a failure.

    Attributes:
        race: Hash of arena, setting and contender, see ``tools.speed.race``.
        checkpoint: Name of the checkpoint.
        setting: Name of the attack.
        contender: Name of the contender.
        session: Start time of the measuring process.
        round: Round of a run, from 0.
        outcome: Outcome of a run.
        peak_mb: Peak memory beyond model and images.
        error: Reason of a failure.
    """

    race: str
    checkpoint: str
    setting: str
    contender: str
    session: str
    round: int = 0
    outcome: Outcome | None = None
    peak_mb: float | None = None
    error: str = ""


class Records:
    """A file of records, appended one by one.

    A line that cannot be read, such as the last one of a killed run, is ignored.

    Args:
        path: The file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._records: list[Record] = []
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        self._cut = bool(text) and not text.endswith("\n")
        for line in text.splitlines():
            try:
                self._records.append(Record.model_validate_json(line))
            except ValidationError:
                continue

    def add(self, record: Record) -> None:
        """Appends a record and flushes it to disk."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as handle:
            handle.write("\n" * self._cut + record.model_dump_json(exclude_defaults=True) + "\n")
            handle.flush()
            os.fsync(handle.fileno())
        self._cut = False
        self._records.append(record)

    def runs(self, race: str) -> dict[int, Record]:
        """Returns the runs of a race by round; of two in a round, the later one."""
        return {r.round: r for r in self._records if r.race == race and r.outcome is not None}

    def peak_mb(self, race: str) -> float | None:
        """Returns the peak memory in a race, if measured."""
        found = [r.peak_mb for r in self._records if r.race == race and r.peak_mb is not None]
        return found[-1] if found else None

    def error(self, race: str) -> str:
        """Returns why the last measurement of a race failed; empty if it did not."""
        found = [r for r in self._records if r.race == race and r.peak_mb is None]
        return found[-1].error if found else ""
