"""A run's suite and the outcomes of its cells and analyses, read from the store."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from bench.core.adaptive import Adaptive
from bench.core.analysis import AnalysisInfo
from bench.core.attack import CORRUPTION
from bench.core.cell import CellSpec, Eot
from bench.core.checkpoint import CheckpointFacts
from bench.core.errors import UserError, first_problem
from bench.core.paths import Folder
from bench.core.result import CellInfo, Row
from bench.report.table import CellStatus
from bench.store.analysis_store import AnalysisStore
from bench.store.manifest import Manifest, ManifestAnalysis
from bench.store.run_store import RunStore
from bench.suite.entry import AnalysisEntry
from bench.suite.spec import AttackEntry, ModelEntry, SuiteSpec
from bench.untrusted.pictures import why_not_png

if TYPE_CHECKING:
    import pandas as pd

NOT_RUN = "not run yet; run the suite again to complete it"
ABSENT = "not run: too few of its models' checkpoints were at hand"
LEFT_OUT = "left out: not among the attacks that the suite gives this model"


def _no_values() -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame()


@dataclass(frozen=True)
class AnalysisOutcome:
    """The outcome of a planned analysis.

    Attributes:
        entry: The entry of the suite.
        models: Labels of its models, to which the values refer by position.
        status: ``ok``, ``incomplete``, ``missing``, or ``absent`` for lack of checkpoints.
        reason: Why it is not ``ok``, in one line.
        info: Its stored description; ``None`` where nothing is stored.
        values: Its values as a long table; empty unless it is ``ok``.
    """

    entry: AnalysisEntry
    models: tuple[str, ...]
    status: CellStatus
    reason: str = ""
    info: AnalysisInfo | None = None
    values: pd.DataFrame = field(default_factory=_no_values)


def records(values: pd.DataFrame) -> list[dict[str, Any]]:
    """Returns the rows of a table as mappings from column names to values."""
    return [{str(name): value for name, value in row.items()} for row in values.to_dict("records")]


def _stored_analysis(
    store: AnalysisStore, planned: ManifestAnalysis, entry: AnalysisEntry
) -> AnalysisOutcome:
    if not store.stored(planned.analysis_id):
        return AnalysisOutcome(entry, planned.models, "missing", NOT_RUN)
    info, values = store.read(planned.analysis_id)
    if not info.complete or not len(values):
        reason = info.error or "no value was found"
        return AnalysisOutcome(entry, planned.models, "incomplete", reason, info)
    fault = _fault(values)
    if fault:
        raise damaged(entry.label, fault)
    return AnalysisOutcome(entry, planned.models, "ok", "", info, values)


def damaged(what: str, why: str) -> UserError:
    """Returns the error for stored values that no analysis writes."""
    return UserError(
        f"analysis '{what}': values.parquet does not hold what this analysis writes ({why}); "
        "delete its folder in store/analyses and run the suite again"
    )


def _fault(values: pd.DataFrame) -> str:
    """Returns what is wrong with stored values; empty if nothing is."""
    for name, column in values.items():
        if column.dtype.kind == "f" and column.isin([math.inf, -math.inf]).any():
            return f"{name}: an infinite number"
        reasons = map(why_not_png, column) if str(name).endswith("_png") else ()
        if reason := next(filter(None, reasons), ""):
            return f"{name}: not a readable image: {reason}"
    return ""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a planned cell.

    Attributes:
        status: ``ok``, ``incomplete``, ``refused``, ``left_out``, ``absent`` or ``missing``.
        reason: Why it is not ``ok``, in one line.
        info: Its stored description; ``None`` where nothing is stored.
        rows: Its rows; accuracies may be derived from them only if it is ``ok``.
    """

    status: CellStatus
    reason: str = ""
    info: CellInfo | None = None
    rows: Sequence[Row] = ()


class RunView:
    """A run's suite with the outcome of each of its cells and analyses.

    Args:
        run_folder: The folder of the run, which holds ``store/``.
        manifest: Read in place of the stored one, such as that of an edited suite.

    Attributes:
        folder: The folder of the run.
        suite: Its suite.

    Raises:
        UserError: When the store is missing, damaged, or of another schema version.
    """

    def __init__(self, run_folder: Folder, manifest: Manifest | None = None) -> None:
        self.folder = run_folder
        store = RunStore(run_folder)
        manifest = manifest or store.read_manifest()
        try:
            self.suite = SuiteSpec.model_validate(manifest.suite)
        except ValidationError as error:
            raise UserError(
                f"{run_folder / 'store' / 'run.json'}: suite.{first_problem(error, '')}; run the "
                f"suite again to write it, stored cells are kept"
            ) from None
        self._checkpoints, self._absent = manifest.checkpoints, manifest.absent
        self._analyses = AnalysisStore(run_folder)
        self._planned_analyses = {one.index: one for one in manifest.analyses}
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
        """Returns the facts of a model's checkpoint; ``None`` in stores too old to hold them."""
        return self.checkpoint_facts(self.models[model].checkpoint)

    def checkpoint_facts(self, name: str) -> CheckpointFacts | None:
        """Returns the facts of a checkpoint by its name; ``None`` likewise."""
        return self._checkpoints.get(name)

    def analyses(self, analysis: str) -> list[AnalysisOutcome]:
        """Returns the outcomes of the analyses of a name, in the suite's order.

        Raises:
            UserError: When a stored one is damaged or of another schema version.
        """
        planned = self._planned_analyses  # without those that lack checkpoints
        return [
            _stored_analysis(self._analyses, planned[i], entry)
            if i in planned
            else AnalysisOutcome(entry, entry.models, "absent", ABSENT)
            for i, entry in enumerate(self.suite.analyses)
            if entry.analysis == analysis
        ]

    def all_analyses(self) -> list[AnalysisOutcome]:
        """Returns the outcomes of all analyses, grouped by name."""
        names = dict.fromkeys(entry.analysis for entry in self.suite.analyses)
        return [outcome for name in names for outcome in self.analyses(name)]

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
        """Returns every planned cell, model by model: labels of model and attack, outcome."""
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
        """Returns a model's statistics in force: stored ones, or else those of the suite."""
        info = self.info_of_model(model)
        return self.models[model].stats if info is None else info.spec.stats

    def eot_iters(self, model: int) -> list[int]:
        """Returns the distinct numbers of draws over which attacks on a model averaged."""
        specs = self._attacked(model)
        return sorted({spec.eot_iter for spec in specs if spec.eot != "mean_field"})

    def eots(self, model: int) -> list[Eot]:
        """Returns the distinct ways in which attacks on a model averaged over draws."""
        return sorted({spec.eot for spec in self._attacked(model)})

    def adaptives(self, model: int) -> list[Adaptive]:
        """Returns what adaptive attacks on a model brought, each once."""
        found = (spec.adaptive for spec in self._attacked(model) if spec.adaptive is not None)
        return list(dict.fromkeys(found))

    def _attacked(self, model: int) -> list[CellSpec]:
        infos = [o.info for o in self.outcomes_of(model) if o.info is not None]
        return [info.spec for info in infos if info.attack_kind != "none"]

    def n_draws(self, model: int) -> int:
        """Returns the number of draws that score each image; 1 for a deterministic model."""
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

    def corruptions(self) -> list[int]:
        """Returns the positions of the attacks that are common corruptions."""
        return [j for j, attack in enumerate(self.attacks) if attack.attack == CORRUPTION]

    def adversaries(self) -> list[int]:
        """Returns the positions of all others, the clean images among them."""
        return [j for j, attack in enumerate(self.attacks) if attack.attack != CORRUPTION]

    def attack_kind(self, attack: int) -> str:
        """Returns an attack's kind; ``bounded`` until a cell of it is stored."""
        info = self.info_of_attack(attack)
        return "bounded" if info is None else info.attack_kind

    def common_n(self) -> int | None:
        """Returns the number of images of all complete cells; ``None`` where they differ."""
        sizes = {len(outcome.rows) for _, _, outcome in self.outcomes() if outcome.status == "ok"}
        return sizes.pop() if len(sizes) == 1 else None


def _stored(info: CellInfo, rows: list[Row]) -> Outcome:
    if info.complete and rows:
        return Outcome("ok", "", info, rows)
    return Outcome("incomplete", info.error or "no image was scored", info, rows)
