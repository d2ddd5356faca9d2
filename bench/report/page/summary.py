"""What a run found, in plain words, for those who do not read tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.report.kinds.leaderboard import WORST_CASE
from bench.report.run_view import Look, RunView
from bench.report.table import Cell, Report
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
STATUS = {
    "incomplete": "broke off, so there is no number",
    "missing": "not run yet",
    "refused": "not run, as the number would not be valid",
    "absent": "not run, for lack of a checkpoint",
    "left_out": "not asked for",
}


@dataclass(frozen=True)
class CellLine:
    """A cell in the list of all cells."""

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


def _looks(view: RunView) -> list[Look]:
    names = dict.fromkeys(entry.analysis for entry in view.suite.analyses)
    return [look for name in names for look in view.looks(name)]


def headline(view: RunView) -> tuple[str, ...]:
    """Returns what was attacked, how, and what a number means."""
    attacked = [a for j, a in enumerate(view.attacks) if view.attack_kind(j) != "none"]
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
    if looks := len(view.suite.analyses):
        what += f" {looks} {'analyses look' if looks > 1 else 'analysis looks'} at what they do."
    meaning = (
        "A number is the share of images that a model still gets right when the attacker has done "
        "its best: its robust accuracy, in percent. The brackets hold its 95 % interval: with so "
        "many images, the number could as well have come out anywhere in it."
    )
    return (what, meaning)


def _count(n: int, word: str) -> str:
    return f"{n} {word}" + "s" * (n != 1)


def finding(reports: Sequence[tuple[str, Report]]) -> str:
    """Returns which models the first leaderboard puts first, or an empty string without ranks.

    Only models under one protocol are compared: that of white boxes, or else the first one's. One
    whose number has no interval is left out, and one under an alarm is named as such.
    """
    cells = next((_worst_cases(report) for name, report in reports if name == "leaderboard"), [])
    kinds = [_protocol(cell) for _, cell in cells]
    kind = "white_box" if "white_box" in kinds else next(iter(kinds), "")
    alike = [
        found
        for found, own in zip(cells, kinds, strict=True)
        if own == kind and found[1].low is not None
    ]
    if len(alike) < 2:
        return ""
    first = min(_rank(cell) for _, cell in alike)
    leaders = [found for found in alike if _rank(found[1]) == first]
    leaders.sort(key=lambda found: -(found[1].value or 0.0))
    shown = [
        f"{label} ({100 * (cell.value or 0.0):.1f} %{', under an alarm' * bool(cell.alarms)})"
        for label, cell in leaders
    ]
    among = f"Of the {len(alike)} models with a worst case over all attacks under {kind}"
    if len(shown) == 1:
        return f"{among}, {shown[0]} stands first."
    listed = ", ".join(shown[:6]) + (f" and {len(shown) - 6} more" if len(shown) > 6 else "")
    return f"{among}, these share the first place, as the images do not tell them apart: {listed}."


def _worst_cases(report: Report) -> list[tuple[str, Cell]]:
    """Returns the models that have a complete worst case and a rank, with its cell."""
    table = report.tables[0]
    labels = [column.label for column in table.columns]
    if WORST_CASE not in labels:
        return []
    cells = [(row.labels[0], row.cells[labels.index(WORST_CASE)]) for row in table.rows]
    return [(label, c) for label, c in cells if c.status == "ok" and "rank" in c.extra]


def _rank(cell: Cell) -> int:
    return int(cell.extra["rank"] or 0)


def _protocol(cell: Cell) -> str:
    return cell.protocol.split(",")[0].split(" ")[0]


def unfinished(view: RunView) -> bool:
    """Says whether cells have not been run yet, so that the checks at a run's end were not made."""
    return any(outcome.status == "missing" for _, _, outcome in view.outcomes())


def alarm_words(view: RunView) -> list[tuple[str, tuple[str, ...]]]:
    """Returns each alarm with the cells that are under it."""
    cells: dict[str, list[str]] = {}
    for model, attack, outcome in view.outcomes():
        for alarm in outcome.info.alarms if outcome.info is not None else ():
            cells.setdefault(alarm, []).append(f"{model} / {attack}")
    return [(alarm, tuple(dict.fromkeys(places))) for alarm, places in cells.items()]


def gap_words(view: RunView) -> list[tuple[str, str, tuple[str, ...]]]:
    """Returns why cells have no number: what became of them, the reason, and which they are."""
    cells: dict[tuple[str, str], list[str]] = {}
    for model, attack, outcome in view.outcomes():
        if outcome.status in STATUS:
            reason = "" if outcome.status in ("missing", "left_out") else outcome.reason
            key = (STATUS[outcome.status], reason)
            cells.setdefault(key, []).append(f"{model} / {attack}")
    for look in _looks(view):
        if look.status != "ok":
            reason = look.reason if look.status == "incomplete" else ""
            key = (STATUS[look.status], reason)
            cells.setdefault(key, []).append(f"analysis {look.entry.label}")
    order = list(STATUS.values())
    found = [(what, reason, tuple(places)) for (what, reason), places in cells.items()]
    return sorted(found, key=lambda gap: order.index(gap[0]))


def protocol_words(view: RunView) -> list[tuple[str, str]]:
    """Returns the protocols of the run's cells and what they mean."""
    stored = [info.spec.protocol for info in view.infos() if info.attack_kind != "none"]
    used = dict.fromkeys(stored or [model.protocol for model in view.models])
    return [(protocol, PROTOCOLS[protocol]) for protocol in used]


def cell_lines(view: RunView) -> list[CellLine]:
    """Returns a line for each cell: where, when and with what it was run."""
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
    return [*lines, *map(_look_line, _looks(view))]


def _look_line(look: Look) -> CellLine:
    info = look.info
    models, state = ", ".join(look.models), "complete" if look.status == "ok" else look.status
    if info is None:
        return CellLine(models, f"analysis {look.entry.label}", state, *[""] * 8)
    return CellLine(
        model=models,
        attack=f"analysis {look.entry.label}",
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
