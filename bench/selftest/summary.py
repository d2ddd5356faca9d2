"""The outcome of a selftest, and its Markdown."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tabulate import tabulate

from bench.core.host import installed, today
from bench.evaluation.model import machine
from bench.selftest.case import TRAPS, Verdict
from bench.selftest.checkpoints import Look
from bench.selftest.libraries import Comparison
from bench.untrusted.escape import markdown

CASE_COLUMNS = ("case", "planted", "expected", "got", "verdict")
LOOK_COLUMNS = ("checkpoint", "threat model", "found", "false alarms")
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
    """What a selftest found.

    Attributes:
        verdicts: Of the cases that were run.
        comparisons: What the libraries report.
        looks: At the checkpoints; ``None`` where they were not asked for.
    """

    verdicts: Sequence[Verdict]
    comparisons: Sequence[Comparison] = ()
    looks: Sequence[Look] | None = None

    @property
    def passed(self) -> bool:
        """Whether every case is caught and no checkpoint raised an alarm."""
        caught = all(verdict.outcome.caught for verdict in self.verdicts)
        return caught and not any(look.alarms for look in self.looks or ())

    def line(self) -> str:
        """Returns the whole outcome in one line."""
        sound = [v for v in self.verdicts if v.case.trap == max(TRAPS)]
        traps = [v for v in self.verdicts if v not in sound]
        parts = []
        if traps:
            caught = sum(v.outcome.caught for v in traps)
            parts.append(f"{caught} of {len(traps)} planted cases caught")
        looked = [look for look in self.looks or () if look.looked]
        if sound or looked:
            false = sum(not v.outcome.caught for v in sound) + sum(bool(k.alarms) for k in looked)
            on = [f"{len(sound)} sound models"] * bool(sound)
            on += [f"{len(looked)} checkpoints"] * bool(looked)
            parts.append(f"{false} false alarms on {' and '.join(on)}")
        if self.looks is not None and not looked:
            parts.append("no checkpoint was looked at" if self.looks else "no checkpoint was found")
        return ", ".join(parts)

    def case_rows(self) -> list[tuple[str, ...]]:
        """Returns the table of the cases, without its head."""
        return [
            (
                v.case.id,
                v.case.planted,
                v.outcome.expected,
                v.outcome.got,
                "caught" if v.outcome.caught else "MISSED",
            )
            for v in self.verdicts
        ]

    def look_rows(self) -> list[tuple[str, ...]]:
        """Returns the table of the checkpoints."""
        return [
            (look.name, look.threat, look.found, ", ".join(look.alarms) or "none" * look.looked)
            for look in self.looks or ()
        ]

    def comparison_rows(self) -> list[tuple[str, ...]]:
        """Returns the table that stands side by side with the libraries."""
        return [
            (c.id, c.planted, c.right, c.ours, c.pyautoattack, c.torchattacks)
            for c in self.comparisons
        ]

    def to_markdown(self) -> str:
        """Returns all tables as Markdown, with machine, versions and date at the head."""
        parts = ["# rbench selftest", self.line() + ".", _head(), "## Planted cases"]
        parts += [_table(CASE_COLUMNS, self.case_rows())]
        if self.looks:
            parts += ["## Sound checkpoints", _table(LOOK_COLUMNS, self.look_rows())]
        if self.comparisons:
            parts += ["## Side by side", SIDE_BY_SIDE]
            parts += [_table(COMPARISON_COLUMNS, self.comparison_rows())]
        return "\n\n".join(parts) + "\n"


SIDE_BY_SIDE = (
    "Robust accuracy on the same models and images. pyautoattack is its `run_standard_evaluation` "
    "(`rand` for stochastic models) with fewer queries and fewer steps of FAB; torchattacks is the "
    "accuracy on the images of its `PGD`, scored once."
)
"""How the libraries are called, for the head of their table."""


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    escaped = [[markdown(text) for text in row] for row in rows]
    return tabulate(escaped, columns, "pipe", disable_numparse=True)


def _head() -> str:
    versions = [f"python {platform.python_version()}"]
    versions += [f"{name} {version}" for name, version in installed(*_PACKAGES).items()]
    facts = (
        f"machine: {machine(torch.device('cpu'))}",
        f"versions: {', '.join(versions)}",
        f"date: {today()}",
    )
    return "\n".join(f"- {markdown(fact)}" for fact in facts)
