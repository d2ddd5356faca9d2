"""What the store of one run holds, laid out for reports."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from pydantic import ValidationError

from bench.core.analysis import AnalysisInfo
from bench.core.cell import CellSpec, Eot
from bench.core.errors import UserError, first_problem
from bench.core.paths import Folder
from bench.core.result import CellInfo, Row
from bench.report.table import CellStatus
from bench.store import AnalysisStore, CheckpointFacts, ManifestAnalysis, RunStore
from bench.suite import AnalysisEntry, AttackEntry, ModelEntry, SuiteSpec
from bench.untrusted.pictures import why_not_png

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


LEFT_OUT = "left out: not among the attacks that the suite gives this model"


@dataclass(frozen=True)
class Outcome:
    """What became of one planned cell.

    Attributes:
        status: ``ok``, ``incomplete``, ``refused``, ``left_out``, ``absent`` or ``missing``.
        reason: Why it is not ``ok``, in one line.
        info: What was stored; ``None`` where nothing was.
        rows: Its rows; no accuracy may be derived from them unless it is ``ok``.
    """

    status: CellStatus
    reason: str = ""
    info: CellInfo | None = None
    rows: Sequence[Row] = ()


class RunView:
    """A run's suite and the outcome of each of its cells.

    Args:
        run_folder: Holds ``store/``.

    Raises:
        UserError: When the store is missing, damaged, or of another schema version.
    """

    def __init__(self, run_folder: Folder) -> None:
        store = RunStore(run_folder)
        manifest = store.read_manifest()
        try:
            self.suite = SuiteSpec.model_validate(manifest.suite)
        except ValidationError as error:
            raise UserError(
                f"{run_folder / 'store' / 'run.json'}: suite.{first_problem(error, '')}; run the "
                f"suite again to write it, stored cells are kept"
            ) from None
        self._checkpoints, self._absent = manifest.checkpoints, manifest.absent
        self._looks = Looks(run_folder, manifest.analyses, self.suite.analyses)
        self._outcomes: dict[tuple[int, int], Outcome] = {}
        for cell in manifest.cells:
            place = (cell.model_index, cell.attack_index)
            if cell.refused:
                self._outcomes[place] = Outcome("refused", cell.refused)
            elif cell.cell_id is not None and store.stored(cell.cell_id):
                self._outcomes[place] = _stored(*store.read_cell(cell.cell_id))

    @property
    def models(self) -> tuple[ModelEntry, ...]:
        """The suite's models."""
        return self.suite.models

    @property
    def attacks(self) -> tuple[AttackEntry, ...]:
        """The suite's attacks."""
        return self.suite.attacks

    def facts(self, model: int) -> CheckpointFacts | None:
        """Returns what a model's checkpoint is; ``None`` in a store from before it was noted."""
        return self.checkpoint_facts(self.models[model].checkpoint)

    def checkpoint_facts(self, name: str) -> CheckpointFacts | None:
        """Returns what a checkpoint is, by its name; ``None`` likewise."""
        return self._checkpoints.get(name)

    def looks(self, analysis: str) -> list[Look]:
        """Returns what became of the suite's analyses of a name, in the suite's order."""
        return self._looks.of(analysis)

    def outcome(self, model: int, attack: int) -> Outcome:
        """Returns the outcome of a model under an attack, both by position in the suite."""
        if not self.models[model].meets(self.attacks[attack]):
            return Outcome("left_out", LEFT_OUT)
        lacking = self._absent.get(self.models[model].label)
        if lacking is not None:
            return Outcome("absent", f"not run: checkpoint {lacking} was not at hand")
        return self._outcomes.get((model, attack), Outcome("missing", NOT_RUN))

    def outcomes_of(self, model: int) -> list[Outcome]:
        """Returns a model's outcomes in the order of the attacks."""
        return [self.outcome(model, j) for j in range(len(self.attacks))]

    def outcomes(self) -> list[tuple[str, str, Outcome]]:
        """Returns every planned cell, model by model: the labels of model and attack, outcome."""
        return [
            (model.label, attack.label, self.outcome(i, j))
            for i, model in enumerate(self.models)
            for j, attack in enumerate(self.attacks)
        ]

    def infos(self) -> list[CellInfo]:
        """Returns the info of every stored cell, model by model."""
        return [outcome.info for _, _, outcome in self.outcomes() if outcome.info is not None]

    def info_of_model(self, model: int) -> CellInfo | None:
        """Returns the info of a model's first stored cell."""
        return next((o.info for o in self.outcomes_of(model) if o.info is not None), None)

    def stats(self, model: int) -> str | None:
        """Returns a model's statistics in force, as stored, or as asked for where nothing is."""
        info = self.info_of_model(model)
        return self.models[model].stats if info is None else info.spec.stats

    def eot_iters(self, model: int) -> list[int]:
        """Returns over how many draws the attacks on a model averaged, each number once."""
        specs = self._attacked(model)
        return sorted({spec.eot_iter for spec in specs if spec.eot != "mean_field"})

    def eots(self, model: int) -> list[Eot]:
        """Returns how the attacks on a model averaged over draws, each way once."""
        return sorted({spec.eot for spec in self._attacked(model)})

    def _attacked(self, model: int) -> list[CellSpec]:
        infos = [o.info for o in self.outcomes_of(model) if o.info is not None]
        return [info.spec for info in infos if info.attack_kind != "none"]

    def n_draws(self, model: int) -> int:
        """Returns how many draws score each image of a model; 1 if it is deterministic."""
        info = self.info_of_model(model)
        return 1 if info is None else info.spec.n_draws

    def info_of_attack(self, attack: int) -> CellInfo | None:
        """Returns the info of an attack's first stored cell."""
        outcomes = (self.outcome(i, attack) for i in range(len(self.models)))
        return next((o.info for o in outcomes if o.info is not None), None)

    def precisions(self, attack: int) -> set[str]:
        """Returns the precisions in which an attack searched."""
        outcomes = (self.outcome(i, attack) for i in range(len(self.models)))
        return {o.info.precision for o in outcomes if o.info is not None}

    def attack_kind(self, attack: int) -> str:
        """Returns an attack's kind; ``bounded`` while no cell tells."""
        info = self.info_of_attack(attack)
        return "bounded" if info is None else info.attack_kind

    def common_n(self) -> int | None:
        """Returns the number of images behind every number, or ``None`` where it differs."""
        sizes = {len(outcome.rows) for _, _, outcome in self.outcomes() if outcome.status == "ok"}
        return sizes.pop() if len(sizes) == 1 else None


def _stored(info: CellInfo, rows: list[Row]) -> Outcome:
    if info.complete and rows:
        return Outcome("ok", "", info, rows)
    return Outcome("incomplete", info.error or "no image was scored", info, rows)
