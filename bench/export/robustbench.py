"""RobustBench's ``model_info`` files, of what really is RobustBench's evaluation.

Source: https://github.com/RobustBench/robustbench (MIT licence), ``robustbench.utils.ModelInfo``
and ``update_json``: percentages are texts, and what nobody has filled in is null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.core.ball import Norm
from bench.core.errors import UserError
from bench.core.norm_spec import uses_batch
from bench.core.result import CellInfo
from bench.core.threat import ThreatModel
from bench.export.write import file_stems
from bench.metrics import Estimate, clean_accuracy, robust_accuracy
from bench.published.robustbench import N_IMAGES
from bench.report.run_view import Outcome, RunView

THREATS: dict[str, dict[Norm, float]] = {
    "cifar10": {"linf": 8 / 255, "l2": 0.5},
    "cifar100": {"linf": 8 / 255},
    "imagenet": {"linf": 4 / 255},
}
"""The radii of its leaderboards."""

_STANDARD = {
    "autoattack": {"version": "standard", "n_iter": 100, "n_queries": 5000, "n_target_classes": 9},
    "pyautoattack": {"version": "standard", "n_iter": 100, "n_queries": 5000},
}
"""The attacks that are AutoAttack, with what makes them its standard version."""
_ONCE = ("n_restarts", "eot_iter")
"""Parameters that are 1 in the standard version, and left open if they are not given."""


@dataclass(frozen=True)
class Exported:
    """What became of a run's models.

    Attributes:
        files: Contents by path, for example ``cifar10/Linf/bn-at.json``.
        refused: Why a model has no file, by label.
    """

    files: dict[str, bytes]
    refused: dict[str, str]


def export_robustbench(view: RunView) -> Exported:
    """Returns a file for each model that was attacked by AutoAttack as RobustBench does.

    Raises:
        UserError: When that is none of them, with the reasons.
    """
    files: dict[str, bytes] = {}
    refused: dict[str, str] = {}
    stems = file_stems([model.label for model in view.models])
    for i, (model, stem) in enumerate(zip(view.models, stems, strict=True)):
        found = _standard_cell(view, i)
        if isinstance(found, str):
            refused[model.label] = found
            continue
        info = found.info
        assert info is not None
        folder = f"{info.spec.data.name}/{info.spec.threat_model.facts.capital}"
        content = json.dumps(_entry(view, i, found, info), indent=2, ensure_ascii=False)
        files[f"{folder}/{stem}.json"] = (content + "\n").encode()
    if not files:
        reasons = "; ".join(f"{label}: {why}" for label, why in refused.items())
        raise UserError(f"nothing of this run is an entry for RobustBench: {reasons}")
    return Exported(files, refused)


def _standard_cell(view: RunView, model: int) -> Outcome | str:
    """Returns a model's cell under AutoAttack, or what is missing from it."""
    why = "no cell of autoattack or pyautoattack"
    for j in range(len(view.attacks)):
        outcome = view.outcome(model, j)
        if view.attacks[j].attack not in _STANDARD:
            continue
        if outcome.status != "ok" or outcome.info is None:
            why = f"AutoAttack is {outcome.status}: {outcome.reason or 'no number'}"
            continue
        lacking = list(_lacking(outcome.info))
        if not lacking:
            return outcome
        why = f"{view.attacks[j].label}: " + ", ".join(lacking)
    return why


def _lacking(info: CellInfo) -> Iterator[str]:
    """Yields everything in which a cell is not RobustBench's evaluation."""
    spec, threat = info.spec, info.spec.threat_model
    standard: dict[str, Any] = {**_STANDARD[spec.attack], **dict.fromkeys(_ONCE, 1)}
    for name, expected in standard.items():
        found = spec.attack_params.get(name)
        if found != expected and not (found is None and name in _ONCE):
            yield f"expected {name} {expected}, found {found}"
    radii = THREATS.get(spec.data.name)
    if radii is None or spec.data.split != "test":
        yield f"expected the test split of {', '.join(THREATS)}, found {spec.data.name}"
    elif threat.eps_space != "pixel" or not math.isclose(radii.get(threat.norm, 0), threat.eps):
        known = [ThreatModel(norm=norm, eps=eps).describe() for norm, eps in radii.items()]
        yield f"expected {' or '.join(known)} in pixels, found {threat.describe()}"
    if spec.protocol != "white_box":
        yield f"expected protocol white_box, found {spec.protocol}"
    if spec.adaptive is not None:
        yield f"expected the attack alone, found {' and '.join(spec.adaptive.words())}"
    if spec.n_draws > 1:
        yield "expected a deterministic model, found a stochastic one"
    if info.cluster == "batch" or uses_batch(spec.stats):
        yield "expected independent images, found a model that depends on the batch"


def _entry(view: RunView, model: int, outcome: Outcome, info: CellInfo) -> dict[str, Any]:
    """Returns the fields of ``ModelInfo`` in RobustBench's order, its two optional ones last."""
    facts, spec = view.facts(model), info.spec
    robust = robust_accuracy(outcome.rows, info.cluster)
    clean = clean_accuracy(outcome.rows, info.cluster)
    return {
        "link": None,
        "name": view.models[model].label,
        "authors": None,
        "additional_data": None,
        "number_forward_passes": 1,
        "dataset": spec.data.name,
        "venue": None,
        "architecture": facts.arch if facts else None,
        "eps": spec.threat_model.eps_text,
        "clean_acc": _percent(clean.value),
        "reported": None,
        "autoattack_acc": _percent(robust.value),
        "footnote": _footnote(info, clean, robust),
        "unreliable": bool(info.alarms),
    }


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def _footnote(info: CellInfo, clean: Estimate, robust: Estimate) -> str:
    """Says what the two numbers rest on: images, intervals, program, alarms."""
    spec = info.spec
    whole = N_IMAGES[spec.data.name]
    some = "" if robust.n >= whole else f" of {whole:,}, so not comparable with the leaderboard"
    versions = ", ".join(
        f"{name} {info.versions[name]}"
        for name in ("rbench", "torch", "pyautoattack")
        if name in info.versions
    )
    parts = [
        f"Measured by rbench: {spec.attack} (version {spec.attack_version}) on {robust.n:,} test "
        f"images{some}",
        f"clean {_interval(clean)}, AutoAttack {_interval(robust)}",
        f"norm statistics: {spec.stats}" if spec.stats else "",
        versions,
        *(f"alarm: {alarm}" for alarm in info.alarms),
    ]
    return ". ".join(filter(None, parts)) + "."


def _interval(estimate: Estimate) -> str:
    interval = estimate.brackets(_percent)
    return f"{_percent(estimate.value)}%" + f" with 95% interval {interval}" * bool(interval)
