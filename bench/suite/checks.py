"""Faults of a suite that only show once its names are resolved: shapes, eps, labels, tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from bench.core.attack import CORRUPTION
from bench.core.cell import target_fault
from bench.core.checkpoint import ModelFacts
from bench.core.errors import did_you_mean, our_words
from bench.core.model_spec import Size, height_width, size_text
from bench.core.threat import ThreatModel
from bench.published import PublishedTable
from bench.published.rows import Keys, has_all, why_none, with_choices
from bench.suite.analyses import check_analyses, check_limit
from bench.suite.entry import Entry, Selector
from bench.suite.protocols import check_adaptive, check_draws, check_protocol
from bench.suite.report_kinds import Need, report_kind
from bench.suite.resolve import DatasetShape, Found, Lookup, Parts, look_up
from bench.suite.spec import AttackEntry, ModelEntry, SuiteSpec, repeated_labels
from bench.suite.yaml_source import KeyPath, Problem, key_path


def find_problems(
    parts: Parts, analyses: Collection[object], lookup: Lookup
) -> tuple[Found, list[Problem]]:
    """Resolves the names of a suite; returns the objects, and every problem of the suite.

    Args:
        parts: The sound sections of the suite.
        analyses: The names of its analyses, those of faulty entries too.
        lookup: Where its names are looked up.
    """
    found, problems = look_up(parts, lookup)
    problems += _check_labels("models", parts.models, parts.place)
    problems += _check_labels("attacks", parts.attacks, parts.place)
    if found.n_images is not None and found.n_images < 1:
        problems.append(Problem(("data",), "the slice holds no image; lower offset"))
    for i, entry in parts.models.items():
        problems += _check_model(("models", i), entry, parts, found)
    problems += _check_all_eps(parts, found)
    if parts.norm is not None:
        for i, attack in parts.attacks.items():
            problems += check_limit(("attacks", i), attack, found)
    problems += _check_targets(parts, found)
    problems += check_draws(parts.models, parts.attacks, parts.eot)
    problems += check_analyses(parts, found)
    problems += check_words(parts, analyses, found.tables)
    return found, problems


def _check_targets(parts: Parts, found: Found) -> Iterator[Problem]:
    """Yields attacks that cannot be aimed, and targets that are no classes or no list of one each.

    That no target is an image's own label is seen when the images are there.
    """
    for i, entry in parts.attacks.items():
        wanted, path = entry.y_target, ("attacks", i, "y_target")
        if wanted is None:
            continue
        info = found.attacks.get(i)
        why = "" if info is None else target_fault(info)
        if why:
            yield Problem(path, why)
        given = wanted if isinstance(wanted, tuple) else (wanted,)
        classes = None if found.dataset is None else found.dataset.classes
        beyond = [t for t in given if isinstance(t, int) and classes and t >= classes]
        if beyond and found.dataset is not None and not found.dataset.part:
            yield Problem(
                path, f"expected classes from 0 to {(classes or 1) - 1}, found {beyond[0]}"
            )
        n = entry.limit or found.n_images
        if isinstance(wanted, tuple) and n is not None and len(wanted) != n:
            yield Problem(path, f"expected {n} classes, one for each image, found {len(wanted)}")


def check_words(
    parts: Parts, analyses: Collection[object], tables: Mapping[str, PublishedTable]
) -> Iterator[Problem]:
    """Yields the problems of what may change without a new run: names, reports, published rows.

    Args:
        parts: The sound sections of the suite.
        analyses: The names of its analyses.
        tables: The published tables that its reports name.
    """
    yield from _check_names(parts)
    yield from _check_shown(parts, analyses)
    yield from _check_published(parts, tables)


def check_reports(suite: SuiteSpec, found: Found) -> Iterator[Problem]:
    """Yields the reports of a suite that would be empty, or a curve of a single point.

    Args:
        suite: Sound in everything else.
        found: The objects behind its names; while a checkpoint is missing, nothing is reported.
    """
    if found.missing:
        return
    for i, report in enumerate(suite.reports):
        lacking = _lacking(report_kind(report.kind).needs, suite, found)
        if lacking:
            yield Problem(("reports", i, "kind"), f"{report.kind} needs {lacking}")


def _lacking(need: Need, suite: SuiteSpec, found: Found) -> str:
    """Returns what a report misses in a suite, in words; empty if nothing."""
    if not need:
        return ""
    if need == "corruption":
        corrupted = any(attack.attack == CORRUPTION for attack in suite.attacks)
        example = "{attack: corruption, params: {name: fog, severity: 3}}"
        return "" if corrupted else f"attacks that are corruptions, found none; add {example}"
    if need == "transfer":
        there = any(model.protocol == "transfer" for model in suite.models)
        return "" if there else "models under protocol transfer, found none"
    if need == "both statistics":
        stats = [found.models[i][0].stats for i in range(len(suite.models))]
        return (
            ""
            if _has_both_statistics(suite, stats)
            else ("a checkpoint under stats population and under stats batch, found none")
        )
    of, values, example = _AXES[need]
    count = len(set(values(suite, found)))
    if count > 1:
        return ""
    return f"{of} of two values of {need} at least, found {count}; add for example {example}"


def _has_both_statistics(suite: SuiteSpec, stats: Sequence[str | None]) -> bool:
    under = {
        ((model.checkpoint, model.protocol, model.gradient_model, model.loss), own)
        for model, own in zip(suite.models, stats, strict=True)
        if model.surrogate is None
    }
    return any((alike, "batch") in under for alike, own in under if own == "population")


def _powers(suite: SuiteSpec, found: Found) -> Iterator[float]:
    norms = (found.checkpoints[model.checkpoint].spec.norm for model in suite.models)
    return (norm.power for norm in norms if norm.name == "rn")


def _steps(suite: SuiteSpec, found: Found) -> Iterable[Any]:
    return filter(None, (found.attacks[i].params.get("n_iter") for i in range(len(suite.attacks))))


_AXES: Mapping[Need, tuple[str, Callable[[SuiteSpec, Found], Iterable[Any]], str]] = {
    "eps": (
        "attacks",
        lambda suite, _: (a.threat_model(suite.threat_model).eps for a in suite.attacks),
        "each: {eps: [...]}",
    ),
    "n_iter": ("attacks", _steps, "each: {params.n_iter: [...]}"),
    "batch_size": (
        "models",
        lambda suite, _: (model.batch_size or suite.batch_size for model in suite.models),
        "each: {batch_size: [...]}",
    ),
    "power": ("RobustNorm checkpoints", _powers, "each: {checkpoint: [...]}"),
}
"""For each quantity of a curve: what must vary, its values in a suite, how a suite varies them."""


def _check_shown(parts: Parts, analyses: Collection[object]) -> Iterator[Problem]:
    """Finds reports that show analyses of which the suite has none."""
    for i, report in parts.reports.items():
        if report_kind(report.kind).analysis and report.kind not in analyses:
            yield Problem(
                ("reports", i, "kind"),
                f"the suite has no analysis '{report.kind}' to show; add under analyses: "
                f"- {{analysis: {report.kind}}}",
            )


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


def _check_model(path: KeyPath, entry: ModelEntry, parts: Parts, found: Found) -> Iterator[Problem]:
    """Finds checkpoints that do not fit data or threat model, and manners that do not fit them."""
    places: dict[str, KeyPath] = {entry.checkpoint: (*path, "checkpoint")}
    places.setdefault(entry.source_checkpoint, (*path, "surrogate", "checkpoint"))
    for name, place in places.items():
        facts = found.checkpoints.get(name)
        if facts is not None:
            if parts.data is not None and found.dataset is not None:
                yield from _check_shape(place, facts, parts.data.name, found.dataset)
            yield from _check_std(place, facts, parts.threat)
    i = int(path[1])
    yield from check_protocol(path, entry, found.models.get(i), found.adaptive.get(i))
    yield from check_adaptive(path, entry, found.checkpoints, parts.attacks, found.attacks)


def _check_shape(
    path: KeyPath, facts: ModelFacts, name: str, found: DatasetShape
) -> Iterator[Problem]:
    spec = facts.spec
    fits = found.classes <= spec.classes if found.part else found.classes == spec.classes
    if (spec.channels, spec.size) != (found.channels, found.size) or not fits:
        trained = f" (trained on {facts.dataset})" if facts.dataset else ""
        yield Problem(
            path,
            f"expects {_words(spec.channels, spec.size, spec.classes)}{trained}, but data '{name}' "
            f"has {_words(*found[:3])}; choose another checkpoint or data set",
        )


def _words(channels: int, size: Size, classes: int) -> str:
    shown = size if isinstance(size, int) else size_text(size)
    return f"{channels} channel(s), size {shown}, {classes} classes"


def _check_std(path: KeyPath, facts: ModelFacts, threat: ThreatModel | None) -> Iterator[Problem]:
    """Finds an eps in normalized units for a model whose std is not known."""
    if threat is not None and threat.eps_space == "normalized" and not facts.std_known:
        yield Problem(
            path,
            "normalizes its input itself, so that an eps in normalized units means nothing; give "
            "eps in pixels",
        )


def _check_all_eps(parts: Parts, found: Found) -> Iterator[Problem]:
    """Finds radii, of the suite and of single attacks, that norm, space or images cannot have."""
    if parts.threat is None:
        return
    try:
        parts.threat.for_all()
    except ValueError as error:
        yield Problem(("threat_model", "eps"), str(error))
    models = parts.models.values()
    known = [m.checkpoint for m in models if m.checkpoint in found.checkpoints]
    stds = [found.checkpoints[name].std for name in known]
    yield from _check_eps(("threat_model", "eps"), parts.threat, found.dataset, stds)
    for k, ball in enumerate(parts.union):
        yield from _check_eps(("union", k, "eps"), ball, found.dataset, stds)
    for i, attack in parts.attacks.items():
        path: KeyPath = ("attacks", i, "eps")
        try:
            own = attack.threat_model(parts.threat)
        except ValidationError as error:
            yield Problem(path, our_words(error.errors()[0]))
        else:
            if attack.eps is not None and "threat_model" not in attack.varied:
                yield from _check_eps(path, own, found.dataset, stds)


def _check_eps(
    path: KeyPath,
    threat: ThreatModel,
    dataset: DatasetShape | None,
    stds: Iterable[tuple[float, ...]],
) -> Iterator[Problem]:
    """Finds balls that hold every image; ``ThreatModel`` has judged linf in pixels already."""
    widths = [width for std in stds for width in threat.pixel_eps(std)]
    if not widths or dataset is None:
        return
    largest = threat.facts.diameter(dataset.channels * math.prod(height_width(dataset.size)))
    if min(widths) > largest:
        in_pixels = f" ({min(widths):g} in pixels)" if threat.facts.per_pixel else ""
        found = f"{threat.eps:g}{in_pixels}"
        meant = f"; did you mean {threat.eps:g}/255?" if threat.eps <= 255 else ""
        yield Problem(
            path,
            f"expected at most {largest:g} ({threat.norm}, pixels in [0, 1]), found {found}{meant}",
        )


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
    tables: dict[str, Sequence[Keys]] = {}
    columns: dict[str, None] = {}
    for i, report in parts.reports.items():
        if report.published not in known:
            continue
        table = known[report.published]
        rows = [keys for keys in table.keys if has_all(keys, report.where)]
        tables[report.published] = rows
        columns.update(dict.fromkeys(table.columns))
        if not rows:
            path: KeyPath = ("reports", i, "where")
            yield _no_row(path, table.keys, report.where, f"of {report.published}")
    if not tables:
        return
    for i, attack in parts.attacks.items():
        if attack.published and attack.published not in columns:
            hint = did_you_mean(attack.published, columns)
            message = f"no published table of this suite has a column '{attack.published}'{hint}"
            yield Problem(("attacks", i, "published"), message)
    for i, model in parts.models.items():
        if model.published:
            path = ("models", i, "published")
            yield from _check_row(path, model.published, tables)


def _check_row(
    path: KeyPath, wanted: Selector, tables: Mapping[str, Sequence[Keys]]
) -> Iterator[Problem]:
    found = {name: [r for r in rows if has_all(r, wanted)] for name, rows in tables.items()}
    every = [row for rows in tables.values() for row in rows]
    if every and not any(found.values()):
        yield _no_row(path, every, wanted, f"of {', '.join(tables)} as narrowed by where")
    for name, rows in found.items():
        if len(rows) > 1:
            why = f"selects {len(rows)} rows of {name}"
            yield Problem(path, with_choices(why, rows, tables[name]))


def _no_row(path: KeyPath, rows: Sequence[Keys], wanted: Selector, of: str) -> Problem:
    """Blames the first key or value that no row has, and lists the rows to choose from."""
    key, why = why_none(rows, wanted, of)
    return Problem(path if key is None else (*path, key), with_choices(why, rows))
