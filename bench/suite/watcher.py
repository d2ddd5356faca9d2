"""What a run reports while it goes on, and how its cells and analyses ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from bench.core.analysis import AnalysisInfo
from bench.core.paths import Folder
from bench.core.result import CellInfo, Row
from bench.suite.plan import Plan

Status = Literal["finished", "incomplete", "stopped"]
"""How a run ended; ``incomplete``: some cells or analyses failed."""


@dataclass(frozen=True)
class Summary:
    """How the cells of a run ended, or its analyses.

    Attributes:
        ran: How many ran now, convergence sweeps aside.
        kept: How many were stored already.
        incomplete: ``(label, reason)`` of each that failed; a cell's label is ``MODEL / ATTACK``.
        open: How many are left because the run was stopped.
        swept: Cells of convergence sweeps that ran now.
        sentinels: Sentinels that ran now.
        refused: Cells that the plan refuses.
        seconds: Wall-clock time.
    """

    ran: int = 0
    kept: int = 0
    incomplete: tuple[tuple[str, str], ...] = ()
    open: int = 0
    swept: int = 0
    sentinels: int = 0
    refused: int = 0
    seconds: float = 0.0


class Watcher:
    """Follows a run. Subclasses override what they need; the methods here do nothing.

    ``begin`` comes first and ``end`` last, also when the run is stopped or fails.
    """

    def begin(self, plan: Plan, costs: Mapping[str, float], n_analyses: int) -> None:
        """Is called before the first cell.

        Args:
            plan: All cells, stored ones included.
            costs: Estimated passes of each cell that is still to run, by id. Those that are not in
                the plan are checks of its attacks: convergence sweeps and sentinels.
            n_analyses: How many analyses are still to run.
        """

    def show(self, info: CellInfo, rows: list[Row]) -> None:
        """Is called for a cell that has ended or was stored already, and again with its alarms."""

    def progress(self, cell_id: str, cost: float) -> None:
        """Is called when a part of a cell has ended; ``cost`` is its estimated passes."""

    def refresh(self) -> None:
        """Is called a few times a second while cells run."""

    def cells_ended(
        self, summary: Summary, alarms: Mapping[str, tuple[str, ...]], folder: Folder
    ) -> None:
        """Is called when all cells have ended and been shown.

        Args:
            summary: How they ended.
            alarms: Reasons to doubt a number, by cell id.
            folder: The run folder, whose store holds the cells.
        """

    def analysis_ended(self, label: str, info: AnalysisInfo) -> None:
        """Is called for each analysis that ran."""

    def stopping(self, exit_code: int) -> None:
        """Is called on the first SIGINT or SIGTERM; ``exit_code`` is 128 + the signal."""

    def end(self, reports: Sequence[Folder], status: Status) -> None:
        """Is called once, with the reports written; there are none of a stopped run."""


class Watchers(Watcher):
    """Passes every call on to several watchers, in their order."""

    def __init__(self, *watchers: Watcher) -> None:
        for name in (name for name in vars(Watcher) if not name.startswith("_")):
            setattr(self, name, partial(_call_each, [getattr(one, name) for one in watchers]))


def _call_each(calls: Iterable[Callable[..., None]], *arguments: object) -> None:
    for call in calls:
        call(*arguments)
