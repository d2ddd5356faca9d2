"""From a suite to its cells: what each is called, whether it may run, what it will cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.core.attack import AttackInfo, AttackKind
from bench.core.cell import CellSpec, Protocol, Surrogate, averaging
from bench.core.norm_spec import NormSpec
from bench.store import CheckpointFacts, Manifest, ManifestAnalysis, ManifestCell
from bench.suite.analyses import plan_analyses
from bench.suite.catalog import Catalog, CheckpointInfo
from bench.suite.checks import absent_models, refuse_all_absent
from bench.suite.entry import PlannedAnalysis
from bench.suite.spec import ModelEntry, SuiteSpec, norm_in_force


@dataclass(frozen=True)
class PlannedCell:
    """A model under an attack.

    Attributes:
        model_index: Position of the model in the suite.
        attack_index: Position of the attack in the suite.
        model_label: Row of the tables.
        attack_label: Column of the tables.
        spec: What is run; holds the id.
        attack_kind: ``none``, ``bounded`` or ``minimum-norm``.
        n_images: Images in its slice.
        batch_dependent: Whether images of a batch share statistics, in crafting or in scoring.
        refused: Why this must not be run; empty if it may.
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
        checkpoints: What the models' cards say, by name.
        analyses: Its analyses, in the order of the file.
        absent: The models that are left out, by label, and the checkpoint that each lacks.
    """

    suite: SuiteSpec
    n_images: int
    cells: tuple[PlannedCell, ...]
    checkpoints: Mapping[str, CheckpointInfo] = field(default_factory=dict)
    analyses: tuple[PlannedAnalysis, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)

    @property
    def to_run(self) -> tuple[PlannedCell, ...]:
        """The cells that may run, each id once."""
        unique = {cell.cell_id: cell for cell in reversed(self.cells) if not cell.refused}
        return tuple(cell for cell in self.cells if unique.get(cell.cell_id) is cell)

    def manifest(self) -> Manifest:
        """Returns what a store keeps of this plan, so that its tables can be written again."""
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
        facts = {name: _facts(card, history=drawn) for name, card in self.checkpoints.items()}
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


@dataclass(frozen=True)
class _Model:
    """A model entry with what its cards say: of itself, and of what it is attacked through."""

    entry: ModelEntry
    card: CheckpointInfo
    norm: NormSpec
    source_norm: NormSpec
    surrogate: Surrogate | None
    protocol: Protocol

    @property
    def batch_dependent(self) -> bool:
        return self.norm.batch_dependent or self.source_norm.batch_dependent


def make_plan(suite: SuiteSpec, catalog: Catalog) -> Plan:
    """Resolves every default of a suite that ``load_suite`` has checked, and lays out its cells.

    Models whose checkpoint is not here, if ``load_suite`` has let them pass, are left out.

    Raises:
        UserError: When the catalog no longer knows what the suite names, or has no checkpoint of
            it at all.
    """
    absent = absent_models(suite, catalog)
    refuse_all_absent(suite, absent)
    slices = [one.slice_of(suite.data) for one in suite.attacks]
    norm = suite.threat_model.norm
    attacks = [catalog.attack_spec(one.attack, one.params, norm) for one in suite.attacks]
    cells = []
    for i, entry in enumerate(suite.models):
        if i in absent:
            continue
        model = _resolve(entry, catalog)
        for j, attack in enumerate(attacks):
            if not entry.meets(suite.attacks[j]):
                continue
            n_images = catalog.data_size(slices[j])
            spec = _cell_spec(suite, catalog.data_hash(slices[j]), model, j, attack)
            refused = _refusal(model.source_norm, attack)
            cell = PlannedCell(
                model_index=i,
                attack_index=j,
                model_label=entry.label,
                attack_label=suite.attacks[j].label,
                spec=spec,
                attack_kind=attack.kind,
                n_images=n_images,
                batch_dependent=model.batch_dependent,
                refused=refused,
                passes=0 if refused else _passes(attack, n_images, model, spec),
            )
            cells.append(cell)
    here = tuple(entry for i, entry in enumerate(suite.models) if i not in absent)
    named = [name for model in here for name in (model.checkpoint, model.source_checkpoint)]
    return Plan(
        suite=suite,
        n_images=catalog.data_size(suite.data),
        cells=tuple(cells),
        checkpoints={name: catalog.checkpoint(name) for name in dict.fromkeys(named)},
        analyses=plan_analyses(suite.model_copy(update={"models": here}), catalog),
        absent={suite.models[i].label: name for i, name in absent.items()},
    )


def _facts(card: CheckpointInfo, *, history: bool) -> CheckpointFacts:
    return CheckpointFacts(
        arch=card.arch,
        norm=card.norm.label(),
        norm_spec=card.norm.model_dump(mode="json"),
        dataset=card.dataset,
        training=card.training,
        std=card.std,
        seed=card.seed,
        recipe=card.recipe,
        sketch=card.sketch,
        history=card.history if history else (),
    )


def _resolve(entry: ModelEntry, catalog: Catalog) -> _Model:
    card = catalog.checkpoint(entry.checkpoint)
    in_force = entry.norm_in_force(card.norm)
    if entry.surrogate is None:
        return _Model(entry, card, in_force, in_force, None, entry.protocol)
    source = catalog.checkpoint(entry.source_checkpoint)
    norm = norm_in_force(source.norm, entry.surrogate.stats)
    surrogate = Surrogate(
        checkpoint=entry.source_checkpoint, sha256=source.sha256, stats=norm.inference_stats
    )
    protocol = entry.protocol
    if protocol == "transfer" and entry.source_checkpoint == entry.checkpoint:
        # A grid of surrogates and targets has this diagonal: the same weights attack themselves.
        if norm.inference_stats == in_force.inference_stats:
            return _Model(entry, card, in_force, in_force, None, "white_box")
        protocol = "stats_transfer"
    return _Model(entry, card, in_force, norm, surrogate, protocol)


def _cell_spec(
    suite: SuiteSpec, data_hash: str, model: _Model, attack_index: int, attack: AttackInfo
) -> CellSpec:
    entry, column = model.entry, suite.attacks[attack_index]
    averages = model.source_norm.stochastic and model.protocol != "fixed_path"
    eot, eot_iter = averaging(
        column.eot or entry.eot or suite.eot,
        column.eot_iter or entry.eot_iter or suite.eot_iter,
    )
    return CellSpec(
        checkpoint=entry.checkpoint,
        sha256=model.card.sha256,
        stats=model.norm.inference_stats,
        data=column.slice_of(suite.data),
        data_hash=data_hash,
        threat_model=column.threat_model(suite.threat_model),
        attack=column.attack,
        attack_version=attack.version,
        library=attack.library,
        attack_params=attack.params,
        protocol=model.protocol,
        surrogate=model.surrogate,
        adversary=entry.adversary if model.batch_dependent else "joint",
        eot_iter=eot_iter if averages else 1,
        eot=eot if averages else "plain",
        batch_size=entry.batch_size or suite.batch_size,
        n_draws=suite.n_draws if model.norm.stochastic else 1,
        search=suite.search if attack.may_be_fast else "exact",
        seed=suite.seed,
    )


def _refusal(source_norm: NormSpec, attack: AttackInfo) -> str:
    if source_norm.batch_dependent and not attack.keeps_batch:
        return "drops samples from the batch, which changes a batch-dependent model"
    return ""


def _passes(attack: AttackInfo, n_images: int, model: _Model, spec: CellSpec) -> float | None:
    """Multiplies the attack's passes by its draws; a lone adversary pays for its whole batch.

    Scoring adds one pass per draw for the clean image, and one for the adversarial one.
    """
    if attack.passes_per_image is None:
        return None
    batch = min(spec.batch_size, n_images) if spec.adversary == "single" else 1
    crafting = batch if model.source_norm.batch_dependent else 1
    scoring = batch if model.norm.batch_dependent else 1
    attacked = 0 if attack.kind == "none" else scoring * spec.n_draws
    spent = attack.passes_per_image * spec.eot_iter * crafting
    return n_images * (spent + spec.n_draws + attacked)
