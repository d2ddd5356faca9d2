"""The sentinel behind ``evaluate()``: a second look at the images that still stand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from bench.alarms.sentinel import N_IMAGES, SecondLook, sentinel_cell, wants_sentinel
from bench.alarms.shared import CellResult
from bench.core.cell import CellSpec, DataSpec
from bench.data.slice import Slice, hash_images
from bench.evaluation.adaptive import aids_for
from bench.evaluation.cell import run_cell
from bench.evaluation.model import Target
from bench.metrics import worst_case_rows
from bench.metrics.accuracy import robust_scores
from bench.oracle import Aids

Scores = npt.NDArray[np.float64]

NEEDLESS_FOR_BATCHES = (
    "no sentinel looked behind these numbers: images share statistics, so that a few of them are "
    "another model"
)
"""Note of a result without a sentinel, of a batch-dependent model."""

MORE = 4 * N_IMAGES
"""Images that it looks at in all where the first leave it in doubt."""


Run = Callable[[CellSpec, Slice, Aids | None], CellResult]
"""Runs a cell on some images."""


def second_look(
    target: Target,
    data: Slice,
    cells: Sequence[CellResult],
    aids: Aids | None = None,
    run: Run | None = None,
) -> SecondLook | None:
    """Attacks at most 32 images that all attacks left right; ``None`` where that is needless.

    Where these show a gap that may be chance, it attacks up to 128.

    Args:
        target: The model.
        data: The images of the cells.
        cells: All cells of the evaluation.
        aids: What adaptive attacks among them brought.
        run: Runs the sentinel's cell; by default in memory.
    """
    asked = [cell for cell in cells if cell.white_box and cell.untargeted and cell.info.complete]
    specs = [cell.spec for cell in asked]
    if not asked or not wants_sentinel(specs, batch_dependent=target.batch_dependent):
        return None
    before = np.array(robust_scores(worst_case_rows([cell.rows for cell in asked])))
    standing = np.flatnonzero(before > 0.5)
    first, more = standing[:N_IMAGES], standing[N_IMAGES:MORE]
    run = run or partial(_run, target)
    lose = partial(_lost, run, data, [cell.spec for cell in asked], aids, before)
    lost = lose(first)
    if lost is None:
        return None
    asked_for, share = float(before.mean()), len(standing) / len(before)
    look = SecondLook.of(asked_for, share, len(first), lost)
    if not look.in_doubt or not len(more):
        return look
    further = lose(more)
    if further is None:
        return look
    return SecondLook.of(asked_for, share, len(first) + len(more), lost + further)


def _run(target: Target, spec: CellSpec, data: Slice, aids: Aids | None) -> CellResult:
    return CellResult(*run_cell(spec, target, data, aids=aids))


def _lost(
    run: Run,
    data: Slice,
    about: Sequence[CellSpec],
    aids: Aids | None,
    before: Scores,
    some: npt.NDArray[np.intp],
) -> float | None:
    """Returns how many of some images a sentinel breaks, by mean score; ``None`` if it fails."""
    if not len(some):
        return None
    x, y = data.x[some], data.y[some]
    part = Slice(x, y, np.arange(len(some)), hash_images(x, y))
    where = DataSpec(name=about[0].data.name, limit=len(some))
    sentinel = sentinel_cell(about, where, part.sha256)
    rows = run(sentinel, part, aids_for(sentinel, aids)).rows
    scores = [row.robust for row in rows]
    if len(scores) < len(some) or None in scores:
        return None
    return max(0.0, float((before[some] - np.array(scores, dtype=np.float64)).sum()))
