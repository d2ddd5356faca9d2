"""Sections for model cards on the Hugging Face Hub: results as metadata and as a table.

Source: https://huggingface.co/docs/hub/model-cards, ``model-index`` of the metadata.
"""

from __future__ import annotations

from typing import Any

import yaml

from bench.core.result import CellInfo
from bench.export.write import file_stems
from bench.metrics import Estimate, percent, robust_accuracy
from bench.report.run_view import Outcome, RunView
from bench.report.text import protocol_text
from bench.untrusted.escape import markdown, one_line

_HEAD = ("attack", "threat model", "protocol", "robust accuracy", "95 % interval", "n")


def export_cards(view: RunView) -> dict[str, bytes]:
    """Returns a Markdown file for each model with a complete cell, by file name.

    Each holds metadata between two ``---`` and a section below: the one is for the head of the
    model's ``README.md``, the other for its text.
    """
    files = {}
    stems = file_stems([model.label for model in view.models])
    for i, stem in enumerate(stems):
        done = [
            (attack.label, outcome)
            for attack, outcome in zip(view.attacks, view.outcomes_of(i), strict=True)
            if outcome.status == "ok"
        ]
        if done:
            files[f"{stem}.md"] = _card(view, i, done).encode()
    return files


def _card(view: RunView, model: int, done: list[tuple[str, Outcome]]) -> str:
    label = one_line(view.models[model].label)
    results = [result for name, outcome in done for result in _result(name, outcome)]
    metadata = {
        "tags": ["image-classification", "adversarial-robustness"],
        "model-index": [{"name": label, "results": results}],
    }
    head = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True, width=100)
    return f"---\n{head}---\n\n{_section(view, label, done)}"


def _result(name: str, outcome: Outcome) -> list[dict[str, Any]]:
    """Returns an entry of ``model-index``; the attack stands in the metric's name and ``args``."""
    info = outcome.info
    if info is None:
        return []
    found, spec = robust_accuracy(outcome.rows, info.cluster), info.spec
    kind = "Accuracy" if info.attack_kind == "none" else f"Robust accuracy, {one_line(name)}"
    args = {
        "attack": spec.attack,
        "threat_model": None if info.attack_kind == "none" else spec.threat_model.describe(),
        "protocol": protocol_text(spec),
        "n": found.n,
        "low": found.low,
        "high": found.high,
        "interval": found.method,
        "alarms": list(info.alarms),
        "cell_id": info.cell_id,
    }
    metric = {"type": "accuracy", "name": kind, "value": found.value}
    metric["args"] = {key: value for key, value in args.items() if value not in (None, [])}
    return [
        {
            "task": {"type": "image-classification", "name": "Image classification"},
            "dataset": {
                "type": spec.data.name,
                "name": spec.data.name,
                "split": spec.data.split,
            },
            "metrics": [metric],
        }
    ]


def _section(view: RunView, label: str, done: list[tuple[str, Outcome]]) -> str:
    first = done[0][1].info
    assert first is not None
    lines = [
        "## Adversarial robustness",
        "",
        f"{markdown(label)}, measured by rbench on {markdown(_data(first))}, suite "
        f"{markdown(view.suite.suite)}. Accuracy in percent; robust means right under the attack, "
        "judged by a verifier in float32. Attacks are upper bounds on robustness.",
        "",
        _line(_HEAD),
        _line(["---", "---", "---", "---:", "---:", "---:"]),
        *(_line(_row(name, outcome)) for name, outcome in done),
    ]
    alarms = [
        f"- {markdown(name)}: {markdown(alarm)}"
        for name, outcome in done
        for alarm in (outcome.info.alarms if outcome.info else ())
    ]
    if alarms:
        lines += ["", "! marks a number that there is reason to doubt:", "", *alarms]
    return "\n".join(lines) + "\n"


def _data(info: CellInfo) -> str:
    data = info.spec.data
    taken = "all" if data.limit is None else f"{data.limit:,}"
    return f"{data.name}, {data.split} split, {taken} images"


def _row(name: str, outcome: Outcome) -> list[str]:
    info = outcome.info
    assert info is not None
    found = robust_accuracy(outcome.rows, info.cluster)
    clean = info.attack_kind == "none"
    mark = " !" * bool(info.alarms)
    return [
        markdown(name),
        "none" if clean else markdown(info.spec.threat_model.describe()),
        "clean images" if clean else markdown(protocol_text(info.spec)),
        f"{percent(found.value)}{mark}",
        _interval(found),
        f"{found.n:,}",
    ]


def _interval(found: Estimate) -> str:
    return "none" if found.interval is None else " to ".join(map(percent, found.interval))


def _line(parts: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(parts)} |"
