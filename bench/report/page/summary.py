"""The summary of a run in plain words, for readers who do not read tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.core.attack import NO_ADVERSARY
from bench.core.paths import suite_called
from bench.metrics import percent
from bench.report.run_view import AnalysisOutcome, RunView
from bench.report.table import Ranked, star_note
from bench.report.text import protocol_text

PROTOCOLS = {
    "white_box": "The attacker knows the model and follows its gradients, as it is deployed. Where "
    "a model draws at random, the attacker averages over draws of its own, and other draws "
    "decide.",
    "fixed_path": "The way of the RNA paper: while a batch is attacked the model keeps one of its "
    "random paths, and other paths decide whether the attack worked. That is weaker than an "
    "attacker who averages over paths.",
    "transfer": "The attacker does not see the model: the images are made on another model, the "
    "surrogate, and tried on this one.",
    "stats_transfer": "The images are made on the same weights under other statistics of their "
    "normalization than those that are in force when it is decided whether the attack worked.",
}
GAPS = {
    "incomplete": "broke off, so there is no number",
    "missing": "not run yet",
    "refused": "not run, as the number would not be valid",
    "absent": "not run, for lack of a checkpoint",
}
"""Why a cell that the suite asks for has no number."""


LONG = 400
"""Letters of a description that are shown at once."""


STATE = {"missing": "not run yet", "incomplete": "incomplete"}
PLURALS = {"analysis": "analyses"}


@dataclass(frozen=True)
class CellLine:
    """A line of the list of all cells and analyses."""

    model: str
    attack: str
    state: str
    n: str
    protocol: str
    seconds: str
    precision: str
    machine: str
    versions: str
    date: str
    cell_id: str


def headline(view: RunView) -> tuple[str, ...]:
    """Returns two sentences: what was attacked and how, and what the numbers mean."""
    attacked = [
        view.attacks[j] for j in view.adversaries() if view.attack_kind(j) not in NO_ADVERSARY
    ]
    data, n = view.suite.data, view.common_n()
    images = f"{n:,} images" if n else "images"
    where = f"{images} of {data.name} ({data.split} split)"
    checkpoints = len({model.checkpoint for model in view.models})
    models = _count(len(view.models), "model")
    if checkpoints != len(view.models):
        models = f"{_count(checkpoints, 'checkpoint')} in {_count(len(view.models), 'setting')}"
    threats = [attack.threat_model(view.suite.threat_model).describe() for attack in attacked]
    sizes = list(dict.fromkeys(threats)) or [view.suite.threat_model.describe()]
    within = " or ".join(sizes) if len(sizes) < 4 else f"{sizes[0]} to {sizes[-1]}"
    what = (
        f"{models} met {_count(len(attacked), 'attack')} on {where}. An attacker may change each "
        f"image within {within}."
    )
    if n_corruptions := len(view.corruptions()):
        what += f" {_count(n_corruptions, 'common corruption')} beside them, of no attacker."
    if n_analyses := len(view.suite.analyses):
        look = "analyses look" if n_analyses > 1 else "analysis looks"
        what += f" {n_analyses} {look} at what they do."
    meaning = (
        "Numbers are robust accuracies in percent: the share of images still classified correctly "
        "under attack. Brackets: 95 % confidence interval for the sampling of test images."
    )
    return (what, meaning)


def lead(description: str) -> tuple[str, str]:
    """Returns what is shown of a suite's description at once, and the rest of a long one."""
    first, stop, rest = description.partition(". ")
    if len(description) <= LONG or not rest or len(first) > LONG:
        return description, ""
    return first + stop.strip(), rest


def _count(n: int, word: str) -> str:
    return f"{n} {word if n == 1 else PLURALS.get(word, word + 's')}"


def finding(ranking: Sequence[Ranked]) -> str:
    """Returns which models of a leaderboard are the best; empty if none can be compared.

    Names are quoted, as they may hold commas.
    """
    best = sorted((m for m in ranking if m.best), key=lambda model: -model.accuracy.value)
    if not best:
        return ""
    protocol = best[0].protocol
    n = sum(m.comparable and m.protocol == protocol for m in ranking)
    shown = [f"“{m.label}” ({percent(m.accuracy.value)} %)" for m in best]
    alarms = " and without an alarm" * any(m.alarms for m in ranking)
    among = f"Of the {n} models with a worst case over all attacks under {protocol}{alarms}"
    if len(shown) == 1:
        return f"{among}, the best is {shown[0]}."
    listed = ", ".join(shown[:6]) + (f" and {len(shown) - 6} more" if len(shown) > 6 else "")
    return f"{among}, the best ones, without a significant difference, are {listed}."


def unfinished(view: RunView) -> bool:
    """Returns whether cells have not been run yet, so that the final checks are still to come."""
    return any(outcome.status == "missing" for _, _, outcome in view.outcomes())


def unfinished_words(view: RunView) -> str:
    """Returns how many cells and analyses have no number yet, and what to do; empty if none."""
    states = [o.status for _, _, o in view.outcomes() if o.status not in ("left_out", "refused")]
    analyses = [one.status for one in view.all_analyses()]
    found = [
        f"{of.count(status)} of {_count(len(of), word)} {'is' if of.count(status) == 1 else 'are'} "
        f"{STATE[status]}"
        for of, word in ((states, "cell"), (analyses, "analysis"))
        for status in STATE
        if status in of
    ]
    if not found:
        return ""
    name = view.suite.suite
    out = "" if view.folder == Path("reports") / name else f" --out {view.folder}"
    return f"{', '.join(found)}: to complete them, rbench run {suite_called(name) or 'FILE'}{out}"


def alarm_words(view: RunView) -> list[tuple[str, tuple[str, ...]]]:
    """Returns each alarm with the cells under it."""
    cells: dict[str, list[str]] = {}
    for model, attack, outcome in view.outcomes():
        for alarm in outcome.info.alarms if outcome.info is not None else ():
            cells.setdefault(alarm, []).append(f"{model} / {attack}")
    return [(alarm, tuple(dict.fromkeys(places))) for alarm, places in cells.items()]


def gap_words(view: RunView) -> list[tuple[str, str, tuple[str, ...]]]:
    """Returns the cells and analyses without a number, by their outcome and the reason."""
    cells: dict[tuple[str, str], list[str]] = {}
    for model, attack, outcome in view.outcomes():
        if outcome.status in GAPS:
            reason = "" if outcome.status == "missing" else outcome.reason
            key = (GAPS[outcome.status], reason)
            cells.setdefault(key, []).append(f"{model} / {attack}")
    for analysis in view.all_analyses():
        if analysis.status != "ok":
            reason = analysis.reason if analysis.status == "incomplete" else ""
            key = (GAPS[analysis.status], reason)
            cells.setdefault(key, []).append(f"analysis {analysis.entry.label}")
    order = list(GAPS.values())
    found = [(what, reason, tuple(places)) for (what, reason), places in cells.items()]
    return sorted(found, key=lambda gap: order.index(gap[0]))


def not_asked(view: RunView) -> list[str]:
    """Returns the combinations of a model and an attack that the suite does not ask for."""
    return [f"{model} / {attack}" for model, attack, o in view.outcomes() if o.status == "left_out"]


def chart_caption(ranking: Sequence[Ranked]) -> str:
    """Returns what the chart of a leaderboard shows, and the meaning of the signs in it."""
    said = ["Accuracy in percent: the worst case over all attacks (solid bar)"]
    if any(model.accuracy.interval for model in ranking):
        said[0] += " with its 95 % interval (line)"
    if any(model.clean for model in ranking):
        said[0] += ", in front of the accuracy without an attack (pale bar)"
    if note := star_note(ranking):
        said.append(f"★ {note}")
    if any(model.partial for model in ranking):
        said.append("≤ and stripes: attacks are missing, so this is only an upper bound")
    if any(model.alarms for model in ranking):
        said.append("!: under an alarm, doubt the number")
    return ". ".join(said) + "."


def protocol_words(view: RunView) -> list[tuple[str, str]]:
    """Returns the protocols of the run's cells, each with its explanation."""
    stored = [info.spec.protocol for info in view.infos() if info.attack_kind != "none"]
    used = dict.fromkeys(stored or [model.protocol for model in view.models])
    return [(protocol, PROTOCOLS[protocol]) for protocol in used]


def cell_lines(view: RunView) -> list[CellLine]:
    """Returns a line for each cell and analysis: where, when and with what it was run."""
    lines = []
    for model, attack, outcome in view.outcomes():
        info = outcome.info
        if outcome.status == "left_out":
            continue
        state = "complete" if outcome.status == "ok" else outcome.status
        if info is None:
            lines.append(CellLine(model, attack, state, *[""] * 8))
            continue
        line = CellLine(
            model=model,
            attack=attack,
            state=state,
            n=f"{len(outcome.rows)}",
            protocol=protocol_text(info.spec),
            seconds=f"{info.seconds:.1f}",
            precision=info.precision,
            machine=info.machine,
            versions=_versions(info.versions),
            date=info.date,
            cell_id=info.cell_id,
        )
        lines.append(line)
    return [*lines, *map(_analysis_line, view.all_analyses())]


def _analysis_line(outcome: AnalysisOutcome) -> CellLine:
    info, models = outcome.info, ", ".join(outcome.models)
    state = "complete" if outcome.status == "ok" else outcome.status
    if info is None:
        return CellLine(models, f"analysis {outcome.entry.label}", state, *[""] * 8)
    return CellLine(
        model=models,
        attack=f"analysis {outcome.entry.label}",
        state=state,
        n="",
        protocol=", ".join(dict.fromkeys(subject.protocol for subject in info.spec.subjects)),
        seconds=f"{info.seconds:.1f}",
        precision="float32",
        machine=info.machine,
        versions=_versions(info.versions),
        date=info.date,
        cell_id=info.analysis_id,
    )


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {versions[name]}" for name in sorted(versions))
