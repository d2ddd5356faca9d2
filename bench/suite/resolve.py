"""From the names in a suite to the objects that they stand for; each is looked up once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, NamedTuple

from bench.core.adaptive import Adaptive, GradientModel, LossFunction
from bench.core.analysis import AnalysisKind
from bench.core.attack import AttackInfo, ParamsError
from bench.core.cell import CellModel, DataSpec, Eot
from bench.core.checkpoint import ModelFacts
from bench.core.errors import MissingCheckpointError, UserError
from bench.core.model_spec import Size
from bench.core.threat import ThreatModel
from bench.published import PublishedTable, load_table
from bench.suite.entry import AnalysisEntry, ReportEntry
from bench.suite.spec import AttackEntry, ModelEntry, SuiteSpec
from bench.suite.yaml_source import KeyPath, Problem


class DatasetShape(NamedTuple):
    """The shape of a data set.

    ``size`` is height and width in pixels; ``part`` says that it may hold only some of the classes
    that its labels are from.
    """

    channels: int
    size: Size
    classes: int
    part: bool = False


class SliceFacts(NamedTuple):
    """What is known of a slice.

    Attributes:
        n_images: Number of its images.
        sha256: Of their pixels and labels.
        classes: Number of classes among them; ``None`` if that is not known.
    """

    n_images: int
    sha256: str
    classes: int | None = None


@dataclass(frozen=True)
class Lookup:
    """Where the names of a suite are looked up; no model is loaded for it.

    Each function raises ``UserError`` for a name that it does not know, with the nearest one that
    it does (``did_you_mean``).

    Attributes:
        attack: An attack by name, parameters and norm of the threat model. Raises ``ParamsError``
            for unknown or bad parameters, ``UserError`` for a norm that it cannot serve.
        analysis: An analysis by name and parameters. Raises ``ParamsError`` as ``attack`` does.
        dataset: A data set by name.
        images: A slice. Raises ``UserError`` when it cannot be had.
        checkpoint: A checkpoint by name, or the model of a URI. Raises ``MissingCheckpointError``
            if it is not here, ``UserError`` if it is damaged.
        loss: A loss by its name, ``python:MODULE:FUNCTION``.
    """

    attack: Callable[[str, Mapping[str, Any], str], AttackInfo]
    analysis: Callable[[str, Mapping[str, Any]], AnalysisKind]
    dataset: Callable[[str], DatasetShape]
    images: Callable[[DataSpec], SliceFacts]
    checkpoint: Callable[[str], ModelFacts]
    loss: Callable[[str], LossFunction]


@dataclass
class Parts:
    """The sections of a suite that are sound in themselves; entries by position.

    ``union`` are the threat models behind the first. ``norm`` is the first one's, known even where
    its eps is wrong. ``place`` maps the path of an entry to its place in the file, which ``each``
    and lists of threat models may have moved. ``skip_missing`` accepts checkpoints that are not
    here.
    """

    data: DataSpec | None = None
    threat: ThreatModel | None = None
    union: tuple[ThreatModel, ...] = ()
    norm: str | None = None
    eot: Eot = "plain"
    models: dict[int, ModelEntry] = field(default_factory=dict)
    attacks: dict[int, AttackEntry] = field(default_factory=dict)
    analyses: dict[int, AnalysisEntry] = field(default_factory=dict)
    reports: dict[int, ReportEntry] = field(default_factory=dict)
    place: Callable[[KeyPath], KeyPath] = lambda path: path
    skip_missing: bool = False


@dataclass
class Found:
    """The objects behind the names of a suite that are known; of entries, by position.

    ``images`` looks up each slice once. ``n_images`` is the size of the suite's own. ``missing``
    are the names of the checkpoints that are not here. Each of ``models`` is the model that is
    scored, and the one that attacks are crafted on; ``adaptive`` is what attacks on it bring.
    ``tables`` are the published ones, by name.
    """

    images: Callable[[DataSpec], SliceFacts]
    dataset: DatasetShape | None = None
    n_images: int | None = None
    checkpoints: dict[str, ModelFacts] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    models: dict[int, tuple[CellModel, CellModel]] = field(default_factory=dict)
    adaptive: dict[int, Adaptive] = field(default_factory=dict)
    attacks: dict[int, AttackInfo] = field(default_factory=dict)
    analyses: dict[int, AnalysisKind] = field(default_factory=dict)
    tables: dict[str, PublishedTable] = field(default_factory=dict)


@dataclass(frozen=True)
class ResolvedSuite:
    """A checked suite with the objects that its names stand for.

    Attributes:
        spec: The suite.
        dataset: Shape of its data set.
        images: Looks up a slice, once.
        checkpoints: Those that the models need and that are here, by name.
        models: The model that is scored, and the one that attacks are crafted on, by position.
        adaptive: What attacks on a model bring, by its position.
        attacks: In the suite's order.
        analyses: In the suite's order.
        absent: The missing checkpoint of each model that is left out, by position.
    """

    spec: SuiteSpec
    dataset: DatasetShape
    images: Callable[[DataSpec], SliceFacts]
    checkpoints: Mapping[str, ModelFacts]
    models: Mapping[int, tuple[CellModel, CellModel]]
    adaptive: Mapping[int, Adaptive]
    attacks: tuple[AttackInfo, ...]
    analyses: tuple[AnalysisKind, ...]
    absent: Mapping[int, str]

    @classmethod
    def of(cls, spec: SuiteSpec, found: Found) -> ResolvedSuite:
        """Returns a suite in which no problem was found."""
        assert found.dataset is not None
        absent: dict[int, str] = {}
        for i, model in enumerate(spec.models):
            for name in reversed(model.model_names):
                if name in found.missing:
                    absent[i] = name
        return cls(
            spec=spec,
            dataset=found.dataset,
            images=found.images,
            checkpoints=found.checkpoints,
            models=found.models,
            adaptive=found.adaptive,
            attacks=tuple(found.attacks[i] for i in range(len(spec.attacks))),
            analyses=tuple(found.analyses[i] for i in range(len(spec.analyses))),
            absent=absent,
        )

    def exact(self) -> ResolvedSuite:
        """Returns it with every attack searching in float32."""
        return replace(self, spec=self.spec.model_copy(update={"search": "exact"}))


def look_up(parts: Parts, lookup: Lookup) -> tuple[Found, list[Problem]]:
    """Looks up every name once; returns the objects found, and a problem for each other name."""
    found = Found(cache(lookup.images))
    problems = [
        *_look_up_data(parts, lookup, found),
        *_look_up_models(parts, lookup, found),
        *_look_up_attacks(parts, lookup, found),
        *_look_up_analyses(parts, lookup, found),
        *look_up_tables(parts, found.tables),
    ]
    return found, problems


def _look_up_data(parts: Parts, lookup: Lookup, found: Found) -> Iterator[Problem]:
    if parts.data is None:
        return
    try:
        found.dataset = lookup.dataset(parts.data.name)
    except UserError as error:
        yield Problem(("data", "name"), str(error))
        return
    try:
        found.n_images = found.images(parts.data).n_images
    except UserError as error:
        yield Problem(("data",), str(error))


def _look_up_models(parts: Parts, lookup: Lookup, found: Found) -> Iterator[Problem]:
    failed: dict[str, UserError] = {}
    for i, entry in parts.models.items():
        path: KeyPath = ("models", i)
        places: dict[str, KeyPath] = {entry.checkpoint: (*path, "checkpoint")}
        places.setdefault(entry.source_checkpoint, (*path, "surrogate", "checkpoint"))
        if entry.gradient_model is not None:
            places.setdefault(entry.gradient_model, (*path, "gradient_model"))
        for name, place in places.items():
            if name not in found.checkpoints and name not in failed:
                try:
                    found.checkpoints[name] = lookup.checkpoint(name)
                except UserError as error:
                    failed[name] = error
            if name in failed:
                yield from _unavailable(place, name, failed[name], parts.skip_missing, found)
        yield from _put_in_force(i, entry, found)
        yield from _look_up_adaptive(i, entry, lookup, found)


def _look_up_adaptive(i: int, entry: ModelEntry, lookup: Lookup, found: Found) -> Iterator[Problem]:
    """Finds what attacks on a model bring."""
    loss: LossFunction | None = None
    if entry.loss is not None:
        try:
            loss = lookup.loss(entry.loss)
        except UserError as error:
            yield Problem(("models", i, "loss"), str(error))
    facts = found.checkpoints.get(entry.gradient_model or "")
    model = None
    if facts is not None and entry.gradient_model is not None:
        model = GradientModel(name=entry.gradient_model, sha256=facts.sha256)
    adaptive = Adaptive.of(model, loss)
    if adaptive is not None:
        found.adaptive[i] = adaptive


def _unavailable(
    place: KeyPath, name: str, error: UserError, skip_missing: bool, found: Found
) -> Iterator[Problem]:
    """Notes a missing checkpoint, and yields a problem unless it may be missing."""
    if not isinstance(error, MissingCheckpointError):
        yield Problem(place, str(error))
        return
    found.missing.add(name)
    if not skip_missing:
        yield Problem(place, f"{error}; --skip-missing leaves out what lacks its checkpoint")


def _put_in_force(i: int, entry: ModelEntry, found: Found) -> Iterator[Problem]:
    """Finds the model that is scored and the one that is attacked, under an entry's statistics."""
    path: KeyPath = ("models", i)
    facts = found.checkpoints.get(entry.checkpoint)
    others = found.checkpoints.get(entry.source_checkpoint)
    model = source = None
    try:
        model = facts.cell_model(entry.checkpoint, entry.stats) if facts else None
    except UserError as error:
        yield Problem((*path, "stats"), str(error))
    if entry.surrogate is None:
        source = model
    elif others is not None:
        try:
            source = others.cell_model(entry.source_checkpoint, entry.surrogate.stats)
        except UserError as error:
            yield Problem((*path, "surrogate", "stats"), str(error))
    if model is not None and source is not None:
        found.models[i] = model, source


def _look_up_attacks(parts: Parts, lookup: Lookup, found: Found) -> Iterator[Problem]:
    if parts.norm is None:
        return
    for i, entry in parts.attacks.items():
        try:
            found.attacks[i] = lookup.attack(entry.attack, entry.params, entry.norm or parts.norm)
        except UserError as error:
            yield from _not_known(("attacks", i), "attack", error)


def _look_up_analyses(parts: Parts, lookup: Lookup, found: Found) -> Iterator[Problem]:
    for i, entry in parts.analyses.items():
        try:
            found.analyses[i] = lookup.analysis(entry.analysis, entry.params)
        except UserError as error:
            yield from _not_known(("analyses", i), "analysis", error)


def _not_known(path: KeyPath, key: str, error: UserError) -> Iterator[Problem]:
    """Yields a problem for a name, or for each of its wrong parameters."""
    if isinstance(error, ParamsError):
        for name, message in error.problems:
            yield Problem((*path, "params", name), message)
    else:
        yield Problem((*path, key), str(error))


def look_up_tables(parts: Parts, tables: dict[str, PublishedTable]) -> Iterator[Problem]:
    """Adds the published tables that reports name; yields a problem for each unknown name."""
    for i, report in parts.reports.items():
        if report.published and report.published not in tables:
            try:
                tables[report.published] = load_table(report.published)
            except UserError as error:
                yield Problem(("reports", i, "published"), str(error))
