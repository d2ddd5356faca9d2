"""The analyses of a suite: what is wrong with them, and from entries to planned ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from bench.core.analysis import AnalysisAttack, AnalysisSpec, Subject
from bench.core.attack import ParamsError
from bench.core.cell import DataSpec, averaging
from bench.core.errors import UserError, did_you_mean
from bench.core.norm_spec import BATCH_STATISTICS, NormSpec
from bench.suite.catalog import AnalysisKind, Catalog
from bench.suite.entry import ANALYSIS_KINDS, AnalysisEntry, PlannedAnalysis, ReportEntry
from bench.suite.spec import AttackEntry, ModelEntry, SuiteSpec, repeated_labels
from bench.suite.yaml_source import KeyPath, Problem

Entries = Mapping[int, AnalysisEntry]
Models = Mapping[int, ModelEntry]
Attacks = Mapping[int, AttackEntry]


def check_analyses(
    entries: Entries,
    models: Models,
    attacks: Attacks,
    data: DataSpec | None,
    norm: str | None,
    catalog: Catalog,
) -> Iterator[Problem]:
    """Yields what is wrong with the analyses of a suite.

    Args:
        entries: Those that are sound in themselves, by their position in the file.
        models: The suite's models, likewise.
        attacks: The suite's attacks, likewise.
        data: The suite's slice, where it is sound.
        norm: Of the threat model, where it is known.
        catalog: Knows the analyses.
    """
    positions = list(entries)
    for later, first in repeated_labels(list(entries.values())):
        yield Problem(
            ("analyses", positions[later], "label"),
            f"'{entries[positions[later]].label}' is the label of analyses[{positions[first]}] "
            "too; give this one a label of its own",
        )
    for i, entry in entries.items():
        path: KeyPath = ("analyses", i)
        try:
            kind = catalog.analysis_kind(entry.analysis, entry.params)
        except ParamsError as error:
            for name, message in error.problems:
                yield Problem((*path, "params", name), message)
            continue
        except UserError as error:
            yield Problem((*path, "analysis"), str(error))
            continue
        yield from check_limit(path, entry, data, catalog)
        yield from _check_attack(path, entry, kind, attacks)
        chosen: list[tuple[KeyPath, ModelEntry]] = []
        unnamed = list(_choose(path, entry, models, chosen))
        yield from unnamed
        if not unnamed and len(chosen) < kind.n_models:
            yield Problem(
                (*path, "models"),
                f"{entry.analysis} takes at least {kind.n_models} models, found {len(chosen)}",
            )
        attack = next((a for a in attacks.values() if a.label == entry.attack), None)
        for at, model in chosen:
            yield from _check_model(at, entry, kind, model, attack, norm, catalog)


def check_analysis_reports(reports: Mapping[int, ReportEntry], value: object) -> Iterator[Problem]:
    """Yields the reports that show analyses of which the suite has none.

    Args:
        reports: By their position in the file.
        value: The file's analyses as they stand there, so that a faulty one is not missed too.
    """
    entries = value if isinstance(value, list) else []
    names = [entry.get("analysis") if isinstance(entry, dict) else entry for entry in entries]
    for i, report in reports.items():
        if report.kind in ANALYSIS_KINDS and report.kind not in names:
            yield Problem(
                ("reports", i, "kind"),
                f"the suite has no analysis '{report.kind}' to show; add under analyses: "
                f"- {{analysis: {report.kind}}}",
            )


def check_limit(
    path: KeyPath, entry: AnalysisEntry | AttackEntry, data: DataSpec | None, catalog: Catalog
) -> Iterator[Problem]:
    """Yields what is wrong with an entry's number of images."""
    if entry.limit is None or data is None:
        return
    try:
        n = catalog.data_size(data)
    except UserError:
        return  # said of the data itself
    if entry.limit > n:
        message = f"the suite's slice has {n} images, found {entry.limit}"
        yield Problem((*path, "limit"), f"expected at most {n}: {message}")


def _check_attack(
    path: KeyPath, entry: AnalysisEntry, kind: AnalysisKind, attacks: Attacks
) -> Iterator[Problem]:
    labels = [attack.label for attack in attacks.values()]
    if kind.attacked and not entry.attack:
        hint = f"; labels: {', '.join(labels)}" if labels else ""
        message = f"{entry.analysis} looks at attacked images; add attack: LABEL{hint}"
        yield Problem(path, message)
    elif entry.attack and not kind.attacked:
        yield Problem((*path, "attack"), f"{entry.analysis} attacks nothing; remove attack")
    elif entry.attack and entry.attack not in labels:
        hint = did_you_mean(entry.attack, labels)
        message = f"no attack of this suite has the label '{entry.attack}'{hint}"
        yield Problem((*path, "attack"), message)


def _choose(
    path: KeyPath,
    entry: AnalysisEntry,
    models: Models,
    chosen: list[tuple[KeyPath, ModelEntry]],
) -> Iterator[Problem]:
    """Finds an entry's models; adds each with the place where it is named."""
    if not entry.models:
        chosen += [(path, model) for model in models.values()]
    for j, name in enumerate(entry.models):
        at: KeyPath = (*path, "models", j)
        named = [model for model in models.values() if model.named(name)]
        if not named:
            hint = did_you_mean(name, [model.label for model in models.values()])
            yield Problem(at, f"no model of this suite has the label '{name}'{hint}")
        for model in named:
            if any(model is other for _, other in chosen):
                yield Problem(at, f"'{model.label}' is listed twice; remove one")
            else:
                chosen.append((at, model))


def _check_model(
    at: KeyPath,
    entry: AnalysisEntry,
    kind: AnalysisKind,
    model: ModelEntry,
    attack: AttackEntry | None,
    norm: str | None,
    catalog: Catalog,
) -> Iterator[Problem]:
    if model.surrogate is not None:
        yield Problem(
            at,
            f"'{model.label}' is attacked through a surrogate ({model.protocol}), and an analysis "
            "looks at a model by itself; list one of protocol white_box or fixed_path",
        )
    try:
        in_force = model.norm_in_force(catalog.checkpoint(model.checkpoint).norm)
    except UserError:
        return  # said of the model itself
    if not _fits(in_force, kind.wants):
        yield Problem(
            at,
            f"{entry.analysis} looks at {_WANTED[kind.wants]}, and '{model.label}' has norm "
            f"{in_force.label()}; list other models",
        )
    if kind.wants != "any" and model.adversary == "single":
        yield Problem(
            at,
            f"{entry.analysis} looks at batches that are attacked whole, and '{model.label}' has "
            "adversary single; list one with adversary joint",
        )
    if attack is None or norm is None or not kind.attacked or not in_force.batch_dependent:
        return
    try:
        keeps = catalog.attack_spec(attack.attack, attack.params, norm).keeps_batch
    except UserError:
        return  # said of the attack itself
    if not keeps:
        yield Problem(
            at,
            f"attack '{attack.label}' drops samples from the batch, which changes the "
            f"batch-dependent '{model.label}'; choose another attack",
        )


_WANTED = {
    "tracked": "layers that track statistics (bn, bgn, rn)",
    "paths": "paths that are drawn layer by layer (rna with scope layer)",
}


def _fits(norm: NormSpec, wants: Literal["any", "tracked", "paths"]) -> bool:
    if wants == "tracked":
        return norm.name in BATCH_STATISTICS
    return wants == "any" or (norm.draws_paths and norm.scope == "layer")


def plan_analyses(suite: SuiteSpec, catalog: Catalog) -> tuple[PlannedAnalysis, ...]:
    """Resolves every default of a checked suite's analyses.

    An analysis for which too few models are left, as others lack their checkpoint, is left out.

    Raises:
        UserError: When the catalog no longer knows what the suite names.
    """
    planned = (_planned(i, suite, catalog) for i in range(len(suite.analyses)))
    return tuple(one for one in planned if one is not None)


def _planned(index: int, suite: SuiteSpec, catalog: Catalog) -> PlannedAnalysis | None:
    entry = suite.analyses[index]
    kind = catalog.analysis_kind(entry.analysis, entry.params)
    models = [m for name in entry.models for m in suite.models if m.named(name)]
    models = models if entry.models else list(suite.models)
    if len(models) < max(kind.n_models, 1):
        return None
    column = next((a for a in suite.attacks if a.label == entry.attack), None)
    attack, passes = _attack(suite, column, catalog)
    norms = [m.norm_in_force(catalog.checkpoint(m.checkpoint).norm) for m in models]
    data = suite.data
    if entry.limit is not None:
        data = data.first(entry.limit)
    spec = AnalysisSpec(
        analysis=entry.analysis,
        version=kind.version,
        params=kind.params,
        subjects=tuple(
            _subject(suite, model, norm, column, catalog)
            for model, norm in zip(models, norms, strict=True)
        ),
        data=data,
        data_hash=catalog.data_hash(data),
        threat_model=column.threat_model(suite.threat_model) if column else suite.threat_model,
        attack=attack,
        seed=suite.seed,
    )
    n_images = catalog.data_size(data)
    labels = tuple(model.label for model in models)
    estimate = _passes(kind, passes, spec.subjects, norms, n_images)
    return PlannedAnalysis(index, entry.label, labels, spec, n_images, estimate)


def _attack(
    suite: SuiteSpec, column: AttackEntry | None, catalog: Catalog
) -> tuple[AnalysisAttack | None, float | None]:
    """Returns the attack and its passes per image, 0 without one."""
    if column is None:
        return None, 0.0
    info = catalog.attack_spec(column.attack, column.params, suite.threat_model.norm)
    attack = AnalysisAttack(attack=column.attack, version=info.version, params=info.params)
    return attack, info.passes_per_image


def _subject(
    suite: SuiteSpec,
    entry: ModelEntry,
    norm: NormSpec,
    column: AttackEntry | None,
    catalog: Catalog,
) -> Subject:
    averages = norm.stochastic and entry.protocol != "fixed_path"
    own = column or AttackEntry(attack="none")
    eot, eot_iter = averaging(
        own.eot or entry.eot or suite.eot, own.eot_iter or entry.eot_iter or suite.eot_iter
    )
    return Subject(
        checkpoint=entry.checkpoint,
        sha256=catalog.checkpoint(entry.checkpoint).sha256,
        stats=norm.inference_stats,
        protocol="fixed_path" if entry.protocol == "fixed_path" else "white_box",
        adversary=entry.adversary if norm.batch_dependent else "joint",
        eot_iter=eot_iter if averages else 1,
        eot=eot if averages else "plain",
        batch_size=entry.batch_size or suite.batch_size,
        n_draws=suite.n_draws if norm.stochastic else 1,
    )


def _passes(
    kind: AnalysisKind,
    attack: float | None,
    subjects: Sequence[Subject],
    norms: Sequence[NormSpec],
    n_images: int,
) -> float | None:
    """Multiplies passes by draws; a lone adversary pays for its whole batch while crafting."""
    if attack is None:
        return None
    total = 0.0
    for subject, norm in zip(subjects, norms, strict=True):
        alone = subject.adversary == "single" and norm.batch_dependent
        crafting = min(subject.batch_size, n_images) if alone else 1
        attacking = attack * crafting * kind.attack_runs
        total += subject.eot_iter * (attacking + kind.passes_per_image)
        total += subject.n_draws * kind.scores
    return n_images * total
