"""Sections for model cards on the Hugging Face Hub: results as metadata and as a table.

Source: https://huggingface.co/docs/hub/model-cards, ``model-index`` of the metadata.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from bench.attacks.registry import unusual_params
from bench.core.attack import params_text
from bench.core.result import MINIMUM_NORM, CellInfo, minimum_norm_note, standing_beyond
from bench.core.threat import joined
from bench.export.write import file_stems
from bench.metrics import Estimate, percent, robust_accuracy
from bench.report.run_view import Outcome, RunView
from bench.report.text import attack_section, protocol_text
from bench.report.worst_case import WorstCase, worst_case
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
    worst = worst_case(view, model)
    if worst is not None:
        results.append(_worst(view, worst))
    metadata = {
        "tags": ["image-classification", "adversarial-robustness"],
        "model-index": [{"name": label, "results": results}],
    }
    head = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True, width=100)
    return f"---\n{head}---\n\n{_section(view, label, done, worst)}"


def _result(name: str, outcome: Outcome) -> list[dict[str, Any]]:
    """Returns an entry of ``model-index``; the attack stands in the metric's name and ``args``."""
    info = outcome.info
    if info is None:
        return []
    found, spec = robust_accuracy(outcome.rows, info.cluster), info.spec
    own: dict[str, Any] = {}
    said = "Accuracy"
    if info.attack_kind != "none":
        said = f"Robust accuracy, {one_line(_full_name(name, info))}"
        if info.attack_kind == "corruption":
            said = f"Accuracy under a common corruption, {one_line(_full_name(name, info))}"
        if spec.y_target is not None:
            said = f"Share of images not brought to the target, {one_line(_full_name(name, info))}"
        own = {"params": spec.attack_params, "threat_model": spec.threat_model.describe()}
    if info.attack_kind == "minimum-norm":
        beyond, standing = standing_beyond(outcome.rows)
        own |= {"kind": info.attack_kind, "standing": standing, "standing_beyond_eps": beyond}
    args = {
        "attack": spec.attack,
        **own,
        "protocol": protocol_text(spec),
        **_numbers(found, info.alarms),
        "cell_id": info.cell_id,
    }
    return [_entry(info, said, found, args)]


def _worst(view: RunView, found: WorstCase) -> dict[str, Any]:
    """Returns the entry of ``model-index`` of a worst case."""
    first, accuracy = found.infos[0], found.accuracy
    args = {
        "attacks": list(map(one_line, found.labels)),
        "threat_model": joined(view.suite.threat_models),
        "protocol": found.protocol,
        **_numbers(accuracy, found.alarms),
        "note": found.bound,
    }
    over = one_line(", ".join(map(_full_name, found.labels, found.infos)))
    return _entry(first, f"Robust accuracy, worst case over {over}", accuracy, args)


def _full_name(label: str, info: CellInfo) -> str:
    """Returns an attack's label with the parameters without which it would mislead."""
    said = ", ".join(params_text(unusual_params(info.spec)))
    return f"{label} ({said})" if said else label


def _numbers(found: Estimate, alarms: Sequence[str]) -> dict[str, Any]:
    return {
        "n": found.n,
        "low": found.low,
        "high": found.high,
        "interval": found.method,
        "alarms": list(alarms),
    }


def _entry(info: CellInfo, name: str, found: Estimate, args: Mapping[str, Any]) -> dict[str, Any]:
    data = info.spec.data
    said = {key: value for key, value in args.items() if value not in (None, [], {}, "")}
    return {
        "task": {"type": "image-classification", "name": "Image classification"},
        "dataset": {"type": data.name, "name": data.name, "split": data.split},
        "metrics": [{"type": "accuracy", "name": name, "value": found.value, "args": said}],
    }


def _section(
    view: RunView, label: str, done: list[tuple[str, Outcome]], worst: WorstCase | None
) -> str:
    first = done[0][1].info
    assert first is not None
    rows = [_row(name, outcome) for name, outcome in done]
    notes = [f"{name}: {alarm}" for name, o in done if o.info for alarm in o.info.alarms]
    named = {name for name, _ in done}
    attacks = [": ".join(item) for item in attack_section(view).items if item[0] in named]
    lines = [
        "## Adversarial robustness",
        "",
        f"{markdown(label)}, measured by rbench on {markdown(_data(first))}, suite "
        f"{markdown(view.suite.suite)}. Accuracy in percent; robust means right under the attack, "
        "judged by a verifier in float32. An accuracy under attack is an upper bound on "
        "robustness: a stronger attack may lower it.",
        "",
        _line(_HEAD),
        _line(["---", "---", "---", "---:", "---:", "---:"]),
        *map(_line, rows if worst is None else [*rows, _worst_row(view, worst)]),
        *_listed("Attacks, with their parameters:", attacks),
        *_listed(f"{MINIMUM_NORM} marks another kind of attack:", _minimum_norm(done)),
        *_listed("Worst case:", [] if worst is None else [_worst_words(worst)]),
        *_listed("! marks a number that there is reason to doubt:", notes),
    ]
    return "\n".join(lines) + "\n"


def _listed(heading: str, items: Iterable[str]) -> list[str]:
    """Returns the lines of a list below its heading; none without an item."""
    lines = [f"- {markdown(item)}" for item in items]
    return ["", heading, "", *lines] if lines else []


def _minimum_norm(done: list[tuple[str, Outcome]]) -> list[str]:
    return [
        f"{name}: {minimum_norm_note(*standing_beyond(outcome.rows))}"
        for name, outcome in done
        if outcome.info is not None and outcome.info.attack_kind == "minimum-norm"
    ]


def _worst_words(worst: WorstCase) -> str:
    over = f"right under each of {', '.join(worst.labels)}, image by image"
    return f"{over}; {worst.bound}" if worst.bound else over


def _worst_row(view: RunView, worst: WorstCase) -> list[str]:
    found = worst.accuracy
    return [
        "worst case",
        markdown(joined(view.suite.threat_models)),
        markdown(worst.protocol),
        f"{percent(found.value)}{' !' * bool(worst.alarms)}",
        _interval(found),
        f"{found.n:,}",
    ]


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
    kind = f" {MINIMUM_NORM}" * (info.attack_kind == "minimum-norm")
    return [
        markdown(name) if clean else markdown(_full_name(name, info)) + kind,
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
