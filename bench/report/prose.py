"""The sentences around the tables: what was measured, on what, how, and when."""

from __future__ import annotations

import json
from collections.abc import Sequence

from bench.core.result import CellInfo
from bench.report.run_view import RunView
from bench.report.table import Section

STATS_TEXT = {
    "population": "population statistics",
    "batch": "batch statistics",
    "tracked-mean": "tracked mean, range of the batch",
}


def title(view: RunView) -> str:
    """Returns the suite's title, or its name."""
    return view.suite.title or view.suite.suite


def head(view: RunView) -> tuple[str, ...]:
    """Returns the paragraphs above the tables."""
    suite = view.suite
    n = view.common_n()
    count = "n is said beside each number." if n is None else f"n = {n} images for every number."
    what = (
        f"Robust accuracy in percent, with its 95 % interval in brackets. {count} "
        f"Data: {_data(view)}. Threat model: {suite.threat_model.describe()}. Seed {suite.seed}."
    )
    description = " ".join(suite.description.split())
    return tuple(text for text in (description, what, _provenance(view.infos())) if text)


def model_section(view: RunView) -> Section:
    """Returns how each model was evaluated."""
    items = []
    for i, model in enumerate(view.models):
        info = view.info_of_model(i)
        facts = [f"checkpoint {model.checkpoint}", model.protocol]
        items.append((model.label, "; ".join(facts + ([] if info is None else _facts(info)))))
    return Section("Models", tuple(items))


def attack_section(view: RunView) -> Section:
    """Returns each attack with its parameters."""
    items = []
    for j, attack in enumerate(view.attacks):
        info = view.info_of_attack(j)
        version = "" if info is None else f" (version {info.spec.attack_version})"
        params = attack.params if info is None else info.spec.attack_params
        shown = ", ".join(f"{name} {_value(value)}" for name, value in sorted(params.items()))
        items.append((attack.label, f"{attack.attack}{version}" + (f": {shown}" if shown else "")))
    return Section("Attacks", tuple(items))


def _facts(info: CellInfo) -> list[str]:
    spec, facts = info.spec, []
    if spec.stats is not None:
        facts.append(STATS_TEXT.get(spec.stats, spec.stats))
    if info.cluster == "batch" or spec.stats in ("batch", "tracked-mean"):
        facts.append(f"attacked and scored in fixed batches of {spec.batch_size}")
    if spec.n_draws > 1:
        facts.append(
            f"stochastic: mean score over {spec.n_draws} fresh draws (the smallest of several such "
            f"scores, as the worst case takes it, is slightly pessimistic)"
        )
    if info.cluster == "batch":
        facts.append("intervals clustered by batch")
    facts.append(f"sha256 {spec.sha256[:12]}")
    return facts


def _data(view: RunView) -> str:
    data = view.suite.data
    parts = [f"{data.name}, {data.split} split"]
    parts.append("all images" if data.limit is None else f"{data.limit} images")
    if data.offset:
        parts.append(f"from image {data.offset} on")
    if data.stratified:
        parts.append("stratified by class")
    parts.append("in the split's order" if data.seed is None else f"shuffled with seed {data.seed}")
    return ", ".join(parts)


def _provenance(infos: Sequence[CellInfo]) -> str:
    if not infos:
        return ""
    days = sorted({info.date[:10] for info in infos})
    machines = sorted({info.machine for info in infos})
    versions: dict[str, set[str]] = {}
    for info in infos:
        for name, version in info.versions.items():
            versions.setdefault(name, set()).add(version)
    shown = ", ".join(f"{name} {' / '.join(sorted(versions[name]))}" for name in sorted(versions))
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return f"Run {when} on {'; '.join(machines)}. Versions: {shown}."


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
