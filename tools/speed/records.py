"""What was measured, line by line, so that a killed race goes on where it was."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import ValidationError

from bench.core.spec import Spec
from tools.speed.contenders import Outcome


class Record(Spec):
    """One measurement: a run, a peak of memory, or a failure.

    Attributes:
        race: What was raced, by whom, on what: see ``tools.speed.race``.
        checkpoint: Its name.
        setting: Name of the attack.
        contender: Its name.
        session: When the process that measured it began.
        round: Of a run, from 0.
        outcome: Of a run.
        peak_mb: Of a peak of memory: what the attack added to a process with model and images.
        error: Of a failure: why.
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
    """A file of records, to which each is added as it comes.

    A line that cannot be read, such as the last one of a killed run, counts as not measured.

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
        """Writes a record down, and waits until the disk has it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as handle:
            handle.write("\n" * self._cut + record.model_dump_json(exclude_defaults=True) + "\n")
            handle.flush()
            os.fsync(handle.fileno())
        self._cut = False
        self._records.append(record)

    def runs(self, race: str) -> dict[int, Record]:
        """Returns the runs of a race by their round; of two of a round, the later one."""
        return {r.round: r for r in self._records if r.race == race and r.outcome is not None}

    def peak_mb(self, race: str) -> float | None:
        """Returns the peak of memory in a race, if it was measured."""
        found = [r.peak_mb for r in self._records if r.race == race and r.peak_mb is not None]
        return found[-1] if found else None

    def error(self, race: str) -> str:
        """Returns why the last measurement of a race failed; empty if it did not."""
        found = [r for r in self._records if r.race == race and r.peak_mb is None]
        return found[-1].error if found else ""
