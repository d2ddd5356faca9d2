"""Images to look at: clean, attacked, and what was added, with what each model says of them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import cast

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from bench.analysis.declared import EXAMPLES, ExamplesParams
from bench.analysis.scene import Scene
from bench.core.analysis import AnalysisError
from bench.data.named import get_dataset
from bench.evaluation.cell import Batch
from bench.verify.scoring import fraction_correct

_ENDING = "_png"


def choose(
    labels: Sequence[int], right: Sequence[bool], n: int, *, stratified: bool = False
) -> list[int]:
    """Returns the positions of the first ``n`` images that are right, in their order.

    Stratified, they are the first of each class, then the second of each, and so on.
    """
    turns: dict[int, int] = {}
    keyed = []
    for position, (label, is_right) in enumerate(zip(labels, right, strict=True)):
        if is_right:
            turn = turns[label] = turns.get(label, 0) + 1
            keyed.append((turn if stratified else 0, position))
    return sorted(position for _, position in sorted(keyed)[:n])


def to_png(image: Tensor) -> bytes:
    """Returns an image (c, h, w) with pixels in [0, 1] as a PNG file.

    It is in colour with 3 channels, and in the gray of their mean with any other number.
    """
    image = image if len(image) == 3 else image.mean(0, keepdim=True)
    levels = (image.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    pixels = levels[0] if len(levels) == 1 else np.moveaxis(levels, 0, 2)
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "PNG")
    return target.getvalue()


def run(scene: Scene) -> pd.DataFrame:
    """Chooses images that every subject gets right, and attacks the batches that hold them.

    Raises:
        AnalysisError: When there are none.
    """
    params = cast(ExamplesParams, scene.params)
    right = torch.ones(len(scene.data.y), dtype=torch.bool)
    for i in range(len(scene.targets)):
        right &= torch.cat([_right(scene, i, batch) for batch in scene.batches(i)])
    labels = scene.data.y.tolist()
    chosen = choose(labels, right.tolist(), params.images, stratified=params.stratified)
    if not chosen:
        raise AnalysisError(f"no image of the {len(labels)} is right on every model when clean")
    rows: list[dict[str, object]] = []
    for i in range(len(scene.targets)):
        rows += _shown(scene, i, chosen)
    return pd.DataFrame(rows, columns=list(EXAMPLES.columns))


def _right(scene: Scene, subject: int, batch: Batch) -> Tensor:
    """Says which images of a batch are right on most draws (b,)."""
    draws = scene.scoring(subject, batch).draws(scene.targets[subject].model, batch.x, batch.x, 0)
    return (fraction_correct(draws, batch.y) > 0.5).cpu()


def _shown(scene: Scene, subject: int, chosen: Sequence[int]) -> list[dict[str, object]]:
    """Returns the rows of a subject, one for each chosen position of the slice."""
    model = scene.targets[subject].model
    names = get_dataset(scene.spec.data.name).class_names
    found: list[tuple[dict[str, object], Tensor, Tensor]] = []
    start = 0
    for batch in scene.batches(subject):
        here = [place for place in chosen if start <= place < start + len(batch.y)]
        if here:
            x_adv = scene.attacked(subject, batch)
            scoring = scene.scoring(subject, batch)
            clean = scoring.probabilities(model, batch.x, batch.x, 0)
            adv = scoring.probabilities(model, x_adv, batch.x, 1)
        for place in here:
            k = place - start
            row: dict[str, object] = {
                "model": subject,
                "place": chosen.index(place),
                "index": batch.index[k],
                "label": int(batch.y[k]),
                "label_name": _name(names, int(batch.y[k])),
                **_said("clean", clean[k], names),
                **_said("adv", adv[k], names),
            }
            found.append((row, batch.x[k], x_adv[k]))
        start += len(batch.y)
    return _with_pictures(scene, subject, found)


def _said(which: str, probabilities: Tensor, names: Sequence[str]) -> dict[str, object]:
    pred = int(probabilities.argmax())
    confidence = float(probabilities[pred])
    return {
        f"{which}_pred": pred,
        f"{which}_name": _name(names, pred),
        f"{which}_confidence": confidence,
    }


def _name(names: Sequence[str], label: int) -> str:
    return names[label] if label < len(names) else str(label)


def _with_pictures(
    scene: Scene, subject: int, found: Sequence[tuple[dict[str, object], Tensor, Tensor]]
) -> list[dict[str, object]]:
    deltas = [(adv - clean).double() for _, clean, adv in found]
    largest = max(float(delta.abs().max()) for delta in deltas)
    per_pixel = scene.spec.threat_model.facts.per_pixel
    reach = max(scene.budget(subject).eps) if per_pixel else max(largest, 1e-12)
    magnification = 0.5 / reach
    return [
        row
        | {
            "linf": float(delta.abs().max()),
            "l2": float(delta.norm()),
            "magnification": magnification,
            "clean" + _ENDING: to_png(clean),
            "adv" + _ENDING: to_png(adv),
            "difference" + _ENDING: to_png(0.5 + magnification * delta),
        }
        for (row, clean, adv), delta in zip(found, deltas, strict=True)
    ]
