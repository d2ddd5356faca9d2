"""The sentinel behind ``evaluate()``: a second look at the images that still stand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.alarms.sentinel import N_IMAGES, SecondLook, sentinel_cell, wants_sentinel
from bench.alarms.shared import CellResult
from bench.core.cell import DataSpec
from bench.data.slice import Slice, hash_images
from bench.evaluation.cell import run_cell
from bench.evaluation.model import Target
from bench.metrics import worst_case_rows
from bench.metrics.accuracy import robust_scores


def second_look(target: Target, data: Slice, cells: Sequence[CellResult]) -> SecondLook | None:
    """Attacks at most 32 images that all attacks left right; ``None`` where that is needless.

    Args:
        target: The model.
        data: The images of the cells.
        cells: All cells of the evaluation.
    """
    asked = [cell for cell in cells if cell.white_box and cell.info.complete]
    specs = [cell.spec for cell in cells]
    if not asked or not wants_sentinel(specs, batch_dependent=target.batch_dependent):
        return None
    before = np.array(robust_scores(worst_case_rows([cell.rows for cell in asked])))
    standing = np.flatnonzero(before > 0.5)
    some = standing[:N_IMAGES]
    if not len(some):
        return None
    x, y = data.x[some], data.y[some]
    part = Slice(x, y, np.arange(len(some)), hash_images(x, y))
    where = DataSpec(name=asked[0].spec.data.name, limit=len(some))
    _, rows = run_cell(sentinel_cell(asked[0].spec, where, part.sha256), target, part)
    scores = [row.robust for row in rows]
    if len(scores) < len(some) or None in scores:
        return None
    after = np.array(scores, dtype=np.float64)
    lost = max(0.0, float((before[some] - after).sum()))
    mean = float(before.mean())
    left = max(0.0, mean - lost / len(some) * len(standing) / len(before))
    return SecondLook(mean, left, len(some), lost)
