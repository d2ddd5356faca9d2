"""Whether a suite has anything to show in the reports that it asks for."""

from __future__ import annotations

from collections.abc import Iterator

from bench.core.norm_spec import NormSpec
from bench.suite.catalog import Catalog
from bench.suite.spec import ModelEntry, SuiteSpec
from bench.suite.yaml_source import Problem


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
