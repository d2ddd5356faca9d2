"""What the store of one run holds of its analyses, laid out for reports."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from bench.core.analysis import AnalysisInfo
from bench.core.errors import UserError
from bench.core.places import Folder
from bench.report.picture import why_not_png
from bench.report.table import CellStatus
from bench.store import AnalysisStore, ManifestAnalysis
from bench.suite import AnalysisEntry

NOT_RUN = "not run yet; run the suite again to complete it"
ABSENT = "not run: too few of its models' checkpoints were at hand"


@dataclass(frozen=True)
class Look:
    """What became of one planned analysis.

    Attributes:
        entry: The suite's.
        models: Labels of its models; values name them by position.
        status: ``ok``, ``incomplete``, ``missing``, or ``absent`` for want of checkpoints.
        reason: Why it is not ``ok``, in one line.
        info: What was stored; ``None`` where nothing was.
        values: Its long table; empty unless it is ``ok``.
    """

    entry: AnalysisEntry
    models: tuple[str, ...]
    status: CellStatus
    reason: str = ""
    info: AnalysisInfo | None = None
    values: pd.DataFrame = field(default_factory=pd.DataFrame)


def records(values: pd.DataFrame) -> list[dict[str, Any]]:
    """Returns the rows of a table of values as mappings from columns to values."""
    return [{str(name): value for name, value in row.items()} for row in values.to_dict("records")]


class Looks:
    """The analyses of a run; values are read when they are asked for.

    Args:
        run_folder: Holds ``store/``.
        planned: As the manifest lists them; it leaves out those that lack checkpoints.
        entries: The suite's.
    """

    def __init__(
        self,
        run_folder: Folder,
        planned: Sequence[ManifestAnalysis],
        entries: Sequence[AnalysisEntry],
    ) -> None:
        self._store = AnalysisStore(run_folder)
        self._planned, self._entries = planned, entries

    def of(self, analysis: str) -> list[Look]:
        """Returns the analyses of a name, in the suite's order.

        Raises:
            UserError: When a stored one is damaged or of another schema version.
        """
        planned = {one.index: one for one in self._planned}
        return [
            self._look(planned[i], entry)
            if i in planned
            else Look(entry, entry.models, "absent", ABSENT)
            for i, entry in enumerate(self._entries)
            if entry.analysis == analysis
        ]

    def _look(self, planned: ManifestAnalysis, entry: AnalysisEntry) -> Look:
        if not self._store.stored(planned.analysis_id):
            return Look(entry, planned.models, "missing", NOT_RUN)
        info, values = self._store.read(planned.analysis_id)
        if not info.complete or not len(values):
            reason = info.error or "no value was found"
            return Look(entry, planned.models, "incomplete", reason, info)
        fault = _fault(values)
        if fault:
            raise damaged(entry.label, fault)
        return Look(entry, planned.models, "ok", "", info, values)


def damaged(what: str, why: str) -> UserError:
    """Returns what is said of stored values that are not what an analysis writes."""
    return UserError(
        f"analysis '{what}': values.parquet does not hold what this analysis writes ({why}); "
        "delete its folder in store/analyses and run the suite again"
    )


def _fault(values: pd.DataFrame) -> str:
    """Returns what no analysis writes; empty if there is nothing of the kind."""
    for name, column in values.items():
        if column.dtype.kind == "f" and column.isin([math.inf, -math.inf]).any():
            return f"{name}: an infinite number"
        reasons = map(why_not_png, column) if str(name).endswith("_png") else ()
        if reason := next(filter(None, reasons), ""):
            return f"{name}: not a readable image: {reason}"
    return ""
