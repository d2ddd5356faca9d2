"""What is wrong with a suite in the light of the catalog: names, parameters, shapes, tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from bench.core.attack import ParamsError
from bench.core.cell import DataSpec, Eot
from bench.core.errors import MissingCheckpointError, UserError, did_you_mean, our_words
from bench.core.model_uri import is_uri
from bench.core.norm_spec import NormSpec
from bench.core.threat import ThreatModel
from bench.suite.analyses import check_analyses, check_limit
from bench.suite.catalog import Catalog, CheckpointInfo, DatasetInfo, PublishedTable
from bench.suite.entry import AnalysisEntry, Entry, ReportEntry, Selector
from bench.suite.protocols import check_draws, check_protocol
from bench.suite.spec import AttackEntry, ModelEntry, SuiteSpec, repeated_labels
from bench.suite.yaml_source import KeyPath, Problem, key_path


def check_reports(suite: SuiteSpec, catalog: Catalog) -> Iterator[Problem]:
    """Yields the reports of a suite that would be empty, or a curve of a single point.

    Args:
        suite: Sound in everything else.
        catalog: Knows its attacks and checkpoints.
    """
    for i, report in enumerate(suite.reports):
        lacking = _lacking(report.kind, suite, catalog)
        if lacking:
            yield Problem(("reports", i, "kind"), f"{report.kind} needs {lacking}")


def _lacking(kind: str, suite: SuiteSpec, catalog: Catalog) -> str:
    """Returns what a kind of report misses in a suite, in words; empty for nothing."""
    norms = [_norm(model, catalog) for model in suite.models]
    if kind == "transfer_heatmap" and not any(m.protocol == "transfer" for m in suite.models):
        return "models under protocol transfer, found none"
    if kind == "gain_table" and not _has_pair(suite, norms):
        return "a checkpoint under stats population and under stats batch, found none"
    if kind == "eps_curve":
        eps = {attack.eps or suite.threat_model.eps for attack in suite.attacks}
        return _two("eps", len(eps), "attacks", "each: {eps: [...]}")
    if kind == "iteration_curve":
        norm = suite.threat_model.norm
        infos = [catalog.attack_spec(a.attack, a.params, norm) for a in suite.attacks]
        steps = {info.params["n_iter"] for info in infos if info.params.get("n_iter")}
        return _two("n_iter", len(steps), "attacks", "each: {params.n_iter: [...]}")
    if kind == "batch_size_curve":
        sizes = {model.batch_size or suite.batch_size for model in suite.models}
        return _two("batch_size", len(sizes), "models", "each: {batch_size: [...]}")
    if kind == "power_curve":
        powers = {norm.power for norm in norms if norm.name == "rn"}
        return _two("power", len(powers), "RobustNorm checkpoints", "each: {checkpoint: [...]}")
    return ""


def _two(what: str, found: int, of: str, example: str) -> str:
    if found > 1:
        return ""
    return f"{of} of two values of {what} at least, found {found}; add for example {example}"


def _norm(model: ModelEntry, catalog: Catalog) -> NormSpec:
    return model.norm_in_force(catalog.checkpoint(model.checkpoint).norm)


def _has_pair(suite: SuiteSpec, norms: list[NormSpec]) -> bool:
    found = {
        (model.checkpoint, model.protocol, norm.inference_stats)
        for model, norm in zip(suite.models, norms, strict=True)
        if model.surrogate is None
    }
    return any((name, how, "batch") in found for name, how, stats in found if stats == "population")


def absent_models(suite: SuiteSpec, catalog: Catalog) -> dict[int, str]:
    """Returns the positions of the models that lack a checkpoint, their own or their surrogate's.

    Returns:
        The name of the checkpoint, by the model's position.

    Raises:
        UserError: When a checkpoint is damaged.
    """
    absent = {}
    for i, model in enumerate(suite.models):
        for name in (model.source_checkpoint, model.checkpoint):
            try:
                catalog.checkpoint(name)
            except MissingCheckpointError:
                absent[i] = name
    return absent


def refuse_all_absent(suite: SuiteSpec, absent: dict[int, str]) -> None:
    """Raises ``UserError`` when no model of a suite can be run."""
    if len(absent) == len(suite.models):
        names = list(dict.fromkeys(absent.values()))
        own = next((name for name in names if not is_uri(name)), None)
        raise UserError(
            f"{suite.suite}: none of its checkpoints is here, so that there is nothing to run: "
            f"{', '.join(names)}" + (f"; `rbench train {own}` makes one of them" if own else "")
        )


Rows = Sequence[Mapping[str, str | int | float]]


@dataclass
class Parts:
    """The sections of a suite that are sound in themselves; the rest of it may not be.

    Entries are keyed by their position in the file. ``norm`` is the threat model's, known even
    where its eps is wrong, or ``None``. ``eot`` is ``mean_field`` if that is the suite's. ``place``
    says where in the file the entry of a position stands, which ``each`` may have moved.
    ``skip_missing`` makes it no problem that a checkpoint is not here.
    """

    data: DataSpec | None = None
    threat: ThreatModel | None = None
    norm: str | None = None
    eot: Eot = "plain"
    models: dict[int, ModelEntry] = field(default_factory=dict)
    attacks: dict[int, AttackEntry] = field(default_factory=dict)
    analyses: dict[int, AnalysisEntry] = field(default_factory=dict)
    reports: dict[int, ReportEntry] = field(default_factory=dict)
    place: Callable[[KeyPath], KeyPath] = lambda path: path
    skip_missing: bool = False


def check_parts(parts: Parts, catalog: Catalog) -> Iterator[Problem]:
    """Yields every problem that the catalog reveals."""
    yield from _check_labels("models", parts.models, parts.place)
    yield from _check_labels("attacks", parts.attacks, parts.place)
    dataset: DatasetInfo | None = None
    if parts.data is not None:
        try:
            dataset = catalog.dataset(parts.data.name)
        except UserError as error:
            yield Problem(("data", "name"), str(error))
    if parts.data is not None and dataset is not None:
        yield from _check_slice(parts.data, catalog)
    cards: list[CheckpointInfo] = []
    yield from _check_models(parts, dataset, catalog, cards)
    if parts.threat is not None:
        yield from _check_eps(("threat_model", "eps"), parts.threat, dataset, cards)
        yield from _check_own_eps(parts.threat, parts.attacks, dataset, cards)
    if parts.norm is not None:
        for i, attack in parts.attacks.items():
            yield from _check_attack(("attacks", i), attack, parts.norm, catalog)
            yield from check_limit(("attacks", i), attack, parts.data, catalog)
    yield from check_draws(parts.models, parts.attacks, parts.eot)
    yield from _check_names(parts)
    yield from check_analyses(
        parts.analyses, parts.models, parts.attacks, parts.data, parts.norm, catalog
    )
    yield from _check_published(parts, catalog.published_tables())


def _check_labels(
    section: str,
    entries: Mapping[int, ModelEntry] | Mapping[int, AttackEntry],
    place: Callable[[KeyPath], KeyPath],
) -> Iterator[Problem]:
    positions = list(entries)
    for later, first in repeated_labels(list(entries.values())):
        i, taken = positions[later], key_path(place((section, positions[first])))
        yield Problem(
            (section, i, "label"),
            f"'{entries[i].label}' is the label of {taken} too; give this one a label of its own",
        )


def _check_slice(data: DataSpec, catalog: Catalog) -> Iterator[Problem]:
    try:
        n = catalog.data_size(data)
    except UserError as error:
        yield Problem(("data",), str(error))
    else:
        if n < 1:
            yield Problem(("data",), "the slice holds no image; lower offset")


def _check_models(
    parts: Parts, dataset: DatasetInfo | None, catalog: Catalog, cards: list[CheckpointInfo]
) -> Iterator[Problem]:
    """Checks models and surrogates; adds the models' cards, whose std says what an eps means."""
    for i, entry in parts.models.items():
        path: KeyPath = ("models", i)
        places: dict[str, KeyPath] = {entry.checkpoint: (*path, "checkpoint")}
        places.setdefault(entry.source_checkpoint, (*path, "surrogate", "checkpoint"))
        found: dict[str, CheckpointInfo] = {}
        for name, place in places.items():
            try:
                found[name] = catalog.checkpoint(name)
            except MissingCheckpointError as error:
                if not parts.skip_missing:
                    advice = "; --skip-missing leaves out what lacks its checkpoint"
                    yield Problem(place, f"{error}{advice}")
            except UserError as error:
                yield Problem(place, str(error))
            else:
                if parts.data is not None and dataset is not None:
                    yield from _check_shape(place, found[name], parts.data.name, dataset)
                yield from _check_std(place, found[name], parts.threat)
        card, source = found.get(entry.checkpoint), found.get(entry.source_checkpoint)
        cards += [] if card is None else [card]
        yield from check_protocol(path, entry, card, source)


def _check_shape(
    path: KeyPath, card: CheckpointInfo, name: str, dataset: DatasetInfo
) -> Iterator[Problem]:
    expected = (card.channels, card.size, card.classes)
    found = (dataset.channels, dataset.size, dataset.classes)
    if expected != found:
        words = "{} channel(s), size {}, {} classes"
        trained = f" (trained on {card.dataset})" if card.dataset else ""
        yield Problem(
            path,
            f"expects {words.format(*expected)}{trained}, but data "
            f"'{name}' has {words.format(*found)}; choose another checkpoint or data set",
        )


def _check_std(
    path: KeyPath, card: CheckpointInfo, threat: ThreatModel | None
) -> Iterator[Problem]:
    """Finds an eps in units of a normalized input that is not known."""
    if threat is not None and threat.eps_space == "normalized" and not card.std_known:
        yield Problem(
            path,
            "normalizes its input itself, so that an eps in normalized units means nothing; give "
            "eps in pixels",
        )


def _check_own_eps(
    threat: ThreatModel,
    attacks: Mapping[int, AttackEntry],
    dataset: DatasetInfo | None,
    cards: Sequence[CheckpointInfo],
) -> Iterator[Problem]:
    """Finds an attack's eps that the suite's norm and space cannot have."""
    for i, attack in attacks.items():
        path: KeyPath = ("attacks", i, "eps")
        try:
            own = attack.threat_model(threat)
        except ValidationError as error:
            yield Problem(path, our_words(error.errors()[0]))
        else:
            if attack.eps is not None:
                yield from _check_eps(path, own, dataset, cards)


def _check_eps(
    path: KeyPath,
    threat: ThreatModel,
    dataset: DatasetInfo | None,
    cards: Iterable[CheckpointInfo],
) -> Iterator[Problem]:
    """Finds balls that hold every image; ``ThreatModel`` has judged linf in pixels already."""
    widths = [width for card in cards for width in threat.pixel_eps(card.std)]
    if not widths or dataset is None:
        return
    largest = threat.facts.diameter(dataset.channels, dataset.size)
    if min(widths) > largest:
        in_pixels = f" ({min(widths):g} in pixels)" if threat.facts.per_pixel else ""
        found = f"{threat.eps:g}{in_pixels}"
        meant = f"; did you mean {threat.eps:g}/255?" if threat.eps <= 255 else ""
        yield Problem(
            path,
            f"expected at most {largest:g} ({threat.norm}, pixels in [0, 1]), found {found}{meant}",
        )


def _check_attack(
    path: KeyPath, entry: AttackEntry, norm: str, catalog: Catalog
) -> Iterator[Problem]:
    try:
        catalog.attack_spec(entry.attack, entry.params, norm)
    except ParamsError as error:
        for name, message in error.problems:
            yield Problem((*path, "params", name), message)
    except UserError as error:
        yield Problem((*path, "attack"), str(error))


def _check_names(parts: Parts) -> Iterator[Problem]:
    """Finds names, in models and reports, of models and attacks that the suite does not have."""
    attacks, models = list(parts.attacks.values()), list(parts.models.values())
    for i, model in parts.models.items():
        yield from _check_named(("models", i, "attacks"), "attack", model.attacks, attacks)
    labels = [attack.label for attack in attacks]
    for i, report in parts.reports.items():
        for j, pair in enumerate(report.pairs):
            for k, label in enumerate(pair):
                if label not in labels:
                    yield _nothing_named(("reports", i, "pairs", j, k), "attack", label, labels)
        for j, panel in enumerate(report.panels):
            path: KeyPath = ("reports", i, "panels", j)
            yield from _check_named((*path, "models"), "model", panel.models, models)
            yield from _check_named((*path, "attacks"), "attack", panel.attacks, attacks)


def _check_named(
    path: KeyPath, what: str, names: Sequence[str], entries: Sequence[Entry]
) -> Iterator[Problem]:
    for j, name in enumerate(names):
        if not any(entry.named(name) for entry in entries):
            known = [known for entry in entries for known in (entry.label, entry.series) if known]
            yield _nothing_named((*path, j), what, name, known)


def _nothing_named(path: KeyPath, what: str, name: str, known: Sequence[str]) -> Problem:
    hint = did_you_mean(name, known)
    return Problem(path, f"no {what} of this suite has the label '{name}'{hint}")


def _check_published(parts: Parts, known: Mapping[str, PublishedTable]) -> Iterator[Problem]:
    tables: dict[str, tuple[PublishedTable, Rows]] = {}
    for i, report in parts.reports.items():
        if not report.published:
            continue
        table = known.get(report.published)
        if table is None:
            hint = did_you_mean(report.published, known)
            message = f"unknown published table '{report.published}'{hint}"
            yield Problem(("reports", i, "published"), message)
            continue
        rows = _select(table.rows, report.where)
        tables[report.published] = (table, rows)
        if not rows:
            path: KeyPath = ("reports", i, "where")
            yield _no_row(path, table.rows, report.where, f"of {report.published}")
    if not tables:
        return
    columns = sorted({column for table, _ in tables.values() for column in table.columns})
    for i, attack in parts.attacks.items():
        if attack.published and attack.published not in columns:
            hint = did_you_mean(attack.published, columns)
            message = f"no published table of this suite has a column '{attack.published}'{hint}"
            yield Problem(("attacks", i, "published"), message)
    for i, model in parts.models.items():
        if model.published:
            path = ("models", i, "published")
            yield from _check_row(path, model.published, {k: r for k, (_, r) in tables.items()})


def _check_row(path: KeyPath, wanted: Selector, tables: Mapping[str, Rows]) -> Iterator[Problem]:
    counts = {name: len(_select(rows, wanted)) for name, rows in tables.items()}
    if not any(counts.values()):
        rows = [row for rows in tables.values() for row in rows]
        if rows:
            yield _no_row(path, rows, wanted, f"of {', '.join(tables)} as narrowed by where")
    for name, n in counts.items():
        if n > 1:
            keys = sorted({key for row in tables[name] for key in row} - set(wanted))
            yield Problem(path, f"selects {n} rows of {name}; add one of: {', '.join(keys)}")


def _select(rows: Rows, wanted: Selector) -> Rows:
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def _no_row(path: KeyPath, rows: Rows, wanted: Selector, of: str) -> Problem:
    """Blames the first key or value that no row has, and names the nearest."""
    for key, value in wanted.items():
        keys = {key for row in rows for key in row}
        if key not in keys:
            return Problem((*path, key), f"no row {of} has the key{did_you_mean(key, keys)}")
        values = {row[key] for row in rows if key in row}
        if value not in values:
            hint = did_you_mean(str(value), map(str, values))
            return Problem((*path, key), f"no row {of} has '{value}'{hint}")
    return Problem(path, f"no row {of} has all of these values together")
