"""Names of the lines that models and attacks are points of."""

from __future__ import annotations

from collections.abc import Collection

from bench.report.prose import STATS_TEXT
from bench.report.run_view import RunView


def attack_line(view: RunView, attack: int, without: Collection[str]) -> str:
    """Returns an attack's line over some varied fields.

    Attacks that are written one by one are points of a line if they are the same in the registry.
    """
    entry = view.attacks[attack]
    if entry.series or entry.varied:
        return entry.line(without)
    alike = [a for a in view.attacks if a.attack == entry.attack and not (a.series or a.varied)]
    return entry.label if len(alike) == 1 else entry.attack.rpartition(":")[2]


def stats_text(view: RunView, model: int) -> str:
    """Returns a model's statistics in force, as stored, or an empty string without any."""
    stats = view.stats(model)
    return STATS_TEXT.get(stats or "", stats or "")
