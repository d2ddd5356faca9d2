"""From a resolved suite to its cells: labels, ids, refusals and estimated cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from bench.core.attack import AttackInfo, AttackKind
from bench.core.cell import CellModel, CellSpec, RefusedCellError, make_cell
from bench.core.checkpoint import ModelFacts
from bench.core.errors import UserError
from bench.core.model_uri import is_uri
from bench.store.manifest import Manifest, ManifestAnalysis, ManifestCell
from bench.suite.analyses import PlannedAnalysis, plan_analyses
from bench.suite.protocols import manner_of
from bench.suite.resolve import ResolvedSuite
from bench.suite.spec import SuiteSpec


@dataclass(frozen=True)
class PlannedCell:
    """A model under an attack.

    Attributes:
        model_index: Position of the model in the suite.
        attack_index: Position of the attack in the suite.
        model_label: Row of the tables.
        attack_label: Column of the tables.
        spec: The cell.
        attack_kind: ``none``, ``bounded`` or ``minimum-norm``.
        n_images: Images in its slice.
        batch_dependent: Whether images of a batch share statistics, in crafting or in scoring.
        refused: Why it must not be run; empty if it may.
        passes: Estimated forward plus backward passes over single images, scoring included;
            0 if refused, ``None`` where the attack cannot say.
    """

    model_index: int
    attack_index: int
    model_label: str
    attack_label: str
    spec: CellSpec
    attack_kind: AttackKind
    n_images: int
    batch_dependent: bool
    refused: str
    passes: float | None

    @property
    def cell_id(self) -> str:
        """The id of ``spec``."""
        return self.spec.cell_id

    @property
    def n_batches(self) -> int:
        """Batches of its slice."""
        return -(-self.n_images // self.spec.batch_size)


@dataclass(frozen=True)
class Plan:
    """All cells of a suite, model by model, in the order of the file.

    Attributes:
        suite: The suite.
        n_images: Images in its slice.
        cells: One for each model and attack that it meets, refused ones included.
        checkpoints: All that the models need, by name.
        analyses: Its analyses, in the order of the file.
        absent: The checkpoint that each model lacks which is left out, by the model's label.
        notes: What else to know before it is run, in a line each.
    """

    suite: SuiteSpec
    n_images: int
    cells: tuple[PlannedCell, ...]
    checkpoints: Mapping[str, ModelFacts] = field(default_factory=dict)
    analyses: tuple[PlannedAnalysis, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def to_run(self) -> tuple[PlannedCell, ...]:
        """The cells that may run, each id once."""
        unique = {cell.cell_id: cell for cell in reversed(self.cells) if not cell.refused}
        return tuple(cell for cell in self.cells if unique.get(cell.cell_id) is cell)

    def manifest(self) -> Manifest:
        """Returns the record of this plan in a store, from which reports are written."""
        cells = tuple(
            ManifestCell(
                model_index=cell.model_index,
                attack_index=cell.attack_index,
                model_label=cell.model_label,
                attack_label=cell.attack_label,
                cell_id=cell.cell_id,
                refused=cell.refused,
            )
            for cell in self.cells
        )
        drawn = any(report.kind == "training_curve" for report in self.suite.reports)
        facts = {name: one.stored(history=drawn) for name, one in self.checkpoints.items()}
        suite = self.suite.model_dump(mode="json")
        analyses = tuple(
            ManifestAnalysis(
                index=one.index, label=one.label, models=one.models, analysis_id=one.analysis_id
            )
            for one in self.analyses
        )
        return Manifest(
            suite=suite,
            cells=cells,
            checkpoints=facts,
            analyses=analyses,
            absent=dict(self.absent),
        )


def make_plan(suite: ResolvedSuite) -> Plan:
    """Resolves every default of a suite and lays out its cells.

    Models whose checkpoint is not here are left out.

    Raises:
        UserError: When no checkpoint of it is here at all.
    """
    _refuse_all_absent(suite)
    spec = suite.spec
    here = [i for i in range(len(spec.models)) if i not in suite.absent]
    cells = [
        _planned(suite, i, j)
        for i in here
        for j, column in enumerate(spec.attacks)
        if spec.models[i].meets(column)
    ]
    named = [name for entry in (spec.models[i] for i in here) for name in entry.model_names]
    return Plan(
        suite=spec,
        n_images=suite.images(spec.data).n_images,
        cells=tuple(cells),
        checkpoints={name: suite.checkpoints[name] for name in dict.fromkeys(named)},
        analyses=plan_analyses(suite),
        absent={spec.models[i].label: name for i, name in suite.absent.items()},
        notes=tuple(_notes(suite)),
    )


def _notes(suite: ResolvedSuite) -> Iterator[str]:
    """Yields a note where the slice is of a few classes, from one end of data sorted by class."""
    data, found, classes = suite.spec.data, suite.images(suite.spec.data), suite.dataset.classes
    chosen = data.index is not None or data.seed is not None or data.stratified
    few = found.classes is not None and 2 * found.classes <= classes
    if few and not chosen and found.n_images >= 2 * classes:
        yield (
            f"the {found.n_images} images are of {found.classes} of the {classes} classes: the "
            "split is sorted by class, and the slice is taken from one end of it; add seed: 0 or "
            "stratified: true to data"
        )


def _refuse_all_absent(suite: ResolvedSuite) -> None:
    """Raises ``UserError`` when no model of a suite can be run."""
    if len(suite.absent) == len(suite.spec.models):
        names = list(dict.fromkeys(suite.absent.values()))
        own = next((name for name in names if not is_uri(name)), None)
        raise UserError(
            f"{suite.spec.suite}: none of its checkpoints is here, so that there is nothing to "
            f"run: {', '.join(names)}" + (f"; `rbench train {own}` makes one of them" * bool(own))
        )


def _planned(suite: ResolvedSuite, i: int, j: int) -> PlannedCell:
    """Returns the cell of a model and an attack, both by position."""
    spec, attack = suite.spec, suite.attacks[j]
    entry, column = spec.models[i], spec.attacks[j]
    model, source = suite.models[i]
    data = column.slice_of(spec.data)
    images = suite.images(data)
    threat_model = column.threat_model(spec.threat_model)
    aids = suite.adaptive.get(i)
    manner = manner_of(spec, entry, column, (model, source), images.n_images, adaptive=aids)
    refused = ""
    try:
        cell = make_cell(model, attack, data, images.sha256, threat_model, manner, source)
    except RefusedCellError as refusal:
        assert refusal.cell is not None
        cell, refused = refusal.cell, str(refusal)
    return PlannedCell(
        model_index=i,
        attack_index=j,
        model_label=entry.label,
        attack_label=column.label,
        spec=cell,
        attack_kind=attack.kind,
        n_images=images.n_images,
        batch_dependent=model.batch_dependent or source.batch_dependent,
        refused=refused,
        passes=0 if refused else _passes(attack, images.n_images, model, source, cell),
    )


def _passes(
    attack: AttackInfo, n_images: int, model: CellModel, source: CellModel, spec: CellSpec
) -> float | None:
    """Estimates passes: the attack's times its draws; a single adversary pays for its whole batch.

    Scoring adds one pass per draw for the clean image, and one for the adversarial one.
    """
    if attack.passes_per_image is None:
        return None
    batch = min(spec.batch_size, n_images) if spec.adversary == "single" else 1
    crafting = batch if source.batch_dependent else 1
    scoring = batch if model.batch_dependent else 1
    attacked = 0 if attack.kind == "none" else scoring * spec.n_draws
    searches = spec.threat_model.eps > 0
    once = attack.passes_per_image * spec.eot_iter
    once += attack.again.spent(spec.eot_iter) * source.stochastic
    spent = once * crafting * searches
    if spec.adaptive is not None and spec.adaptive.gradient_model is not None:
        spent *= 1.5  # beside each forward pass for a gradient, the stand-in's own
    return n_images * (spent + spec.n_draws + attacked)
