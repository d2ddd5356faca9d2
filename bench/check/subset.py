"""Compares a run of chosen images with a baseline of more."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence

from bench.check.chosen import Choice
from bench.check.compare import Rules, compare
from bench.check.identity import differences
from bench.check.record import Key, Record, Recording
from bench.check.verdict import Check, Checked, in_order
from bench.core.cell import CellSpec

UNFINISHED = "not checked: the budget was used up before it was finished"
UNSEEN = "not checked: the budget is too small to see any drop of this model"
NOT_RUN = "not run"
NOT_WHOLE = (
    "accuracies are of the images that were run, of which more are near the decision than in the "
    "whole slice; alarms are not looked for, as they rest on whole cells"
)


def cut(record: Record, index: Sequence[int], like: CellSpec) -> Record:
    """Returns a cell as if it had been run on some of its images only.

    Args:
        record: The whole cell.
        index: The images, by position in the split, in the order in which they were run.
        like: The cell that was run on these. If it is of the same data set and split, its slice is
            taken over: that the pixels are the same is to be known already.

    Raises:
        KeyError: When the cell does not have one of the images.
    """
    place = {position: i for i, position in enumerate(record.index)}
    places = [place[position] for position in index]
    number: dict[int, int] = {}
    for i in places:
        number.setdefault(record.batch[i], len(number))
    size = record.spec.batch_size
    # Images that are independent fill new batches; else batches are whole, and only renumbered.
    new = [number[record.batch[i]] if record.groups else n // size for n, i in enumerate(places)]
    spec, data = record.spec, like.data
    if (data.name, data.split) == (spec.data.name, spec.data.split):
        spec = spec.model_copy(update={"data": data, "data_hash": like.data_hash})
    return dataclasses.replace(
        record,
        spec=spec,
        index=tuple(index),
        batch=tuple(new),
        hits=tuple(record.hits[i] for i in places),
    )


def measured_otherwise(record: Record, planned: CellSpec) -> tuple[str, ...]:
    """Returns in what a cell would be measured otherwise than in the baseline, but for its slice.

    Args:
        record: The baseline's.
        planned: The cell that would be run.
    """
    slice_of = {"data": record.spec.data, "data_hash": record.spec.data_hash}
    same_split = (planned.data.name, planned.data.split) == (
        record.spec.data.name,
        record.spec.data.split,
    )
    spec = planned.model_copy(update=slice_of) if same_split else planned
    return differences(record, dataclasses.replace(record, spec=spec))


def compare_chosen(
    run: Recording,
    baseline: Recording,
    choices: Sequence[Choice],
    unfit: Mapping[Key, tuple[str, ...]],
    rules: Rules,
) -> Check:
    """Compares a run of chosen images with the same images of a baseline.

    Args:
        run: What was run.
        baseline: With all images.
        choices: What was to be run.
        unfit: Cells of the baseline that cannot be compared with any that the suite has now, and
            why; they leave the check incomplete, as does a model of which nothing could be chosen.
        rules: When it fails.
    """
    chosen = {choice.key: choice for choice in choices}
    cells = {
        key: cut(record, chosen[key].index, run.records[key].spec) if key in run.records else record
        for key, record in baseline.records.items()
        if key in chosen
    }
    check = compare(
        dataclasses.replace(run, missing=dict(_missing(run, chosen))),
        dataclasses.replace(baseline, records=cells),
        rules,
    )
    others = [
        Checked(
            *key,
            "not comparable",
            leaves_open=True,
            before=baseline.records[key].accuracy,
            reasons=reasons,
        )
        for key, reasons in unfit.items()
    ]
    said = {cell.model for cell in (*check.cells, *others)}
    blind = [record for record in baseline.records.values() if record.model not in said]
    first = {record.model: record for record in reversed(blind)}
    others += [
        Checked(*r.key, "missing", leaves_open=True, before=r.accuracy, reasons=(UNSEEN,))
        for r in reversed(first.values())
    ]
    return dataclasses.replace(
        check,
        cells=in_order([*check.cells, *others]),
        notes=(*check.notes, *_notes(choices, set(baseline.records) - set(chosen) - set(unfit))),
    )


def _missing(run: Recording, chosen: Collection[Key]) -> Iterator[tuple[Key, str]]:
    """Yields what a run lacks, and why; what it was to have, and did not come to, first."""
    for key in chosen:
        if key not in run.records:
            why = run.missing.get(key, NOT_RUN)
            yield key, UNFINISHED if why == NOT_RUN else why
    yield from ((key, why) for key, why in run.missing.items() if key not in chosen)


def _notes(choices: Sequence[Choice], left: Collection[Key]) -> Iterator[str]:
    yield from (choice.text() for choice in choices)
    if left:
        yield f"{len(left)} more cells of the baseline were not looked at, for lack of time"
    yield NOT_WHOLE
