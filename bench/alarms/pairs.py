"""Alarms from comparing cells of one model, image by image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from itertools import pairwise

from bench.alarms.shared import Alarm, CellResult, compare, points
from bench.core.cell import CellSpec
from bench.core.spec import canonical_json
from bench.metrics import Difference, robust_accuracy


def setting(spec: CellSpec) -> Hashable:
    """Returns the setting that two cells must share for their attacks to be compared."""
    data = spec.data.model_dump_json()
    threat = spec.threat_model.model_dump_json()
    return data, spec.data_hash, threat, spec.batch_size, spec.adversary, spec.y_target


def pair_alarms(cells: Sequence[CellResult]) -> Iterator[Alarm]:
    """Yields the alarms of complete cells of one model, with the same statistics in force."""
    groups: dict[Hashable, list[CellResult]] = defaultdict(list)
    for cell in cells:
        groups[setting(cell.spec)].append(cell)
    for group in groups.values():
        yield from _control_beats_gradient(group)
        yield from _single_step_beats_iterative(group)
        yield from _not_converged(group)
    yield from _rises_with_eps(cells)


def _control_beats_gradient(cells: Sequence[CellResult]) -> Iterator[Alarm]:
    """Compares attacks that follow the same gradients with all that need none of them.

    Those are attacks without gradients, crafted on other models, or adaptive in another way.
    """
    kinds = dict.fromkeys(cell.spec.adaptive for cell in cells if cell.follows_gradient)
    for adaptive in kinds:
        mine = [c for c in cells if c.follows_gradient and c.spec.adaptive == adaptive]
        controls = [
            c
            for c in cells
            if (c.white_box and not c.follows_gradient)
            or (c.spec.protocol != "white_box" and c.attacked)
            or (c.follows_gradient and c.spec.adaptive != adaptive)
        ]
        yield from _beaten_by(controls, mine)


def _beaten_by(controls: Sequence[CellResult], cells: Sequence[CellResult]) -> Iterator[Alarm]:
    """Yields alarms about cells that follow the same gradients where a control beats the best.

    Ensembles with a gradient-free part count as the best only where there is no other attack. If
    the best is beaten, so is every other, and all of their numbers are in doubt.
    """
    iterative = [c for c in cells if c.iterates]
    pure = [c for c in iterative if c.traits.gradients == "only"] or iterative
    if not pure:
        return
    best = min(pure, key=lambda c: robust_accuracy(c.rows, c.info.cluster).value)
    beaten = [(control, compare(best, control)) for control in controls]
    shown = [(c, d) for c, d in beaten if d.verdict == "higher"]
    if not shown:
        return
    control, difference = max(shown, key=lambda pair: pair[1].value)
    followed = "the model's gradient"
    if best.spec.adaptive is not None:
        followed = f"{' and '.join(best.spec.adaptive.words())}"
    for cell in cells:
        yield cell.alarm(
            "control_beats_gradient",
            f"{control.spec.attack}{_how(control)} breaks more images than the best attack that "
            f"follows {followed}, {best.spec.attack} ({points(difference)}): the gradients mislead",
        )


def _how(control: CellResult) -> str:
    """Returns how a control was made, where its attack's name does not tell."""
    if control.spec.protocol != "white_box":
        return f" under {control.spec.protocol}"
    adaptive = control.spec.adaptive
    return "" if adaptive is None else f" with {' and '.join(adaptive.words())}"


def _single_step_beats_iterative(cells: Sequence[CellResult]) -> Iterator[Alarm]:
    for cell in cells:
        if not cell.iterates:
            continue
        steps = [
            c
            for c in cells
            if c.white_box and c.traits.steps == "one" and c.spec.adaptive == cell.spec.adaptive
        ]
        shown = [(s, d) for s in steps if (d := compare(cell, s)).verdict == "higher"]
        if shown:
            step, difference = max(shown, key=lambda pair: pair[1].value)
            yield cell.alarm(
                "single_step_beats_iterative",
                f"one step of {step.spec.attack} breaks more images ({points(difference)}): the "
                "iterations lose their way, or are too few or too short",
            )


def _rises_with_eps(cells: Sequence[CellResult]) -> Iterator[Alarm]:
    """Compares each cell with the same attack at the next smaller eps."""
    ladders: dict[str, list[CellResult]] = defaultdict(list)
    for cell in cells:
        if cell.white_box:
            ladders[_without(cell.spec, "eps")].append(cell)
    for ladder in ladders.values():
        ladder.sort(key=lambda c: c.spec.threat_model.eps)
        for smaller, larger in pairwise(ladder):
            difference = compare(larger, smaller)
            if difference.verdict == "higher":
                yield larger.alarm(
                    "rises_with_eps",
                    f"robust accuracy is higher than at {smaller.spec.threat_model.describe()} "
                    f"({points(difference)}), though the larger ball holds the smaller",
                )


def _not_converged(cells: Sequence[CellResult]) -> Iterator[Alarm]:
    """Compares cells that differ in ``n_iter`` only, or in ``eot_iter`` only."""
    for effort in ("n_iter", "eot_iter"):
        ladders: dict[str, list[CellResult]] = defaultdict(list)
        for cell in cells:
            if cell.white_box and effort_of(cell.spec, effort) is not None:
                ladders[_without(cell.spec, effort)].append(cell)
        for ladder in ladders.values():
            for cell in ladder:
                yield from exhausted(cell, cell.info.cell_id, ladder, effort)


def exhausted(
    cell: CellResult, cell_id: str, others: Sequence[CellResult], effort: str
) -> Iterator[Alarm]:
    """Yields an alarm about ``cell_id`` if more effort than the cell's is shown to break more."""
    mine = effort_of(cell.spec, effort) or 0
    more = [c for c in others if (effort_of(c.spec, effort) or 0) > mine]
    shown: list[tuple[CellResult, Difference]] = [
        (c, d) for c in more if (d := compare(cell, c)).verdict == "higher"
    ]
    if shown:
        other, difference = max(shown, key=lambda pair: pair[1].value)
        yield Alarm(
            cell_id,
            "not_converged",
            f"{effort} {effort_of(other.spec, effort)} in place of {mine} lowers robust accuracy "
            f"{points(difference)}: the attack has not converged",
        )


def effort_of(spec: CellSpec, effort: str) -> int | None:
    """Returns a cell's ``n_iter`` or ``eot_iter``; ``None`` if its attack has no such parameter."""
    value = spec.eot_iter if effort == "eot_iter" else spec.attack_params.get("n_iter")
    return value if isinstance(value, int) else None


def _without(spec: CellSpec, what: str) -> str:
    """Returns a cell's identity without eps (and the step size), ``n_iter`` or ``eot_iter``."""
    data = spec.model_dump(mode="json")
    if what == "eps":
        data["threat_model"].pop("eps")
        data["attack_params"].pop("alpha", None)
    data.pop(what, None)
    data["attack_params"].pop(what, None)
    return canonical_json(data)
