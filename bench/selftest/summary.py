"""The result of a selftest, and its Markdown."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass

from tabulate import tabulate

from bench.core.host import installed, processor, today, usable_cores
from bench.selftest.case import TRAPS, CaseResult
from bench.selftest.checkpoints import CheckpointResult
from bench.selftest.libraries import Comparison
from bench.untrusted.escape import markdown

CASE_COLUMNS = ("case", "planted", "expected", "got", "verdict")
CHECKPOINT_COLUMNS = ("checkpoint", "threat model", "found", "false alarms")
COMPARISON_COLUMNS = (
    "case",
    "planted",
    "right answer",
    "rbench",
    "pyautoattack",
    "torchattacks PGD",
)

_PACKAGES = ("rbench", "torch", "pyautoattack", "torchattacks")


@dataclass(frozen=True)
class Summary:
    """The result of a selftest.

    Attributes:
        results: Results of the cases.
        comparisons: Comparisons with libraries.
        checkpoints: Results of the checkpoints; ``None`` if they were not requested.
    """

    results: Sequence[CaseResult]
    comparisons: Sequence[Comparison] = ()
    checkpoints: Sequence[CheckpointResult] | None = None

    @property
    def passed(self) -> bool:
        """Whether every case is caught and no checkpoint raised an alarm."""
        caught = all(result.outcome.caught for result in self.results)
        return caught and not any(one.alarms for one in self.checkpoints or ())

    def line(self) -> str:
        """Returns the result on one line."""
        sound = [v for v in self.results if v.case.trap == max(TRAPS)]
        traps = [v for v in self.results if v not in sound]
        parts = []
        if traps:
            caught = sum(v.outcome.caught for v in traps)
            parts.append(f"{caught} of {len(traps)} planted cases caught")
        evaluated = [one for one in self.checkpoints or () if one.evaluated]
        if sound or evaluated:
            false = sum(not v.outcome.caught for v in sound)
            false += sum(bool(one.alarms) for one in evaluated)
            on = [f"{len(sound)} sound models"] * bool(sound)
            on += [f"{len(evaluated)} checkpoints"] * bool(evaluated)
            parts.append(f"{false} false alarms on {' and '.join(on)}")
        if self.checkpoints is not None and not evaluated:
            parts.append(f"no checkpoint was {'evaluated' if self.checkpoints else 'found'}")
        return ", ".join(parts)

    def case_rows(self) -> list[tuple[str, ...]]:
        """Returns the rows of the table of cases."""
        return [
            (
                v.case.id,
                v.case.planted,
                v.outcome.expected,
                v.outcome.got,
                "caught" if v.outcome.caught else "MISSED",
            )
            for v in self.results
        ]

    def checkpoint_rows(self) -> list[tuple[str, ...]]:
        """Returns the rows of the table of checkpoints."""
        return [
            (one.name, one.threat, one.found, ", ".join(one.alarms) or "none" * one.evaluated)
            for one in self.checkpoints or ()
        ]

    def comparison_rows(self) -> list[tuple[str, ...]]:
        """Returns the rows of the comparison with libraries."""
        return [
            (c.id, c.planted, c.right, c.ours, c.pyautoattack, c.torchattacks)
            for c in self.comparisons
        ]

    def to_markdown(self) -> str:
        """Returns all tables as Markdown, after machine, versions and date."""
        parts = ["# rbench selftest", self.line() + ".", _head(), "## Planted cases"]
        parts += [_table(CASE_COLUMNS, self.case_rows())]
        if self.checkpoints:
            parts += ["## Sound checkpoints", _table(CHECKPOINT_COLUMNS, self.checkpoint_rows())]
        if self.comparisons:
            parts += ["## Side by side", SIDE_BY_SIDE]
            parts += [_table(COMPARISON_COLUMNS, self.comparison_rows())]
        return "\n\n".join(parts) + "\n"


SIDE_BY_SIDE = (
    "Robust accuracy on the same models and images. pyautoattack is its `run_standard_evaluation` "
    "(`rand` for stochastic models) with fewer queries and fewer steps of FAB; torchattacks is the "
    "accuracy on the images of its `PGD`, scored once."
)
"""How the libraries are called; printed above their table."""


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    escaped = [[markdown(text) for text in row] for row in rows]
    return tabulate(escaped, columns, "pipe", disable_numparse=True)


def _head() -> str:
    versions = [f"python {platform.python_version()}"]
    versions += [f"{name} {version}" for name, version in installed(*_PACKAGES).items()]
    facts = (
        f"machine: {processor()}, {usable_cores()} cores",
        f"versions: {', '.join(versions)}",
        f"date: {today()}",
    )
    return "\n".join(f"- {markdown(fact)}" for fact in facts)
