"""Which images are shown, what is said of them, and that the pictures are what they say."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from analysis_scenes import Linear, images, scene, uniform
from PIL import Image

from bench.analysis.examples import choose, run, to_png
from bench.attacks import ATTACKS
from bench.attacks.base import Attack
from bench.attacks.params import NoParams
from bench.core.analysis import AnalysisError
from bench.evaluation.cell import run_cell


def pixels(png: object) -> np.ndarray:
    assert isinstance(png, bytes)
    return np.asarray(Image.open(io.BytesIO(png))).astype(float) / 255


def test_the_first_that_are_right() -> None:
    labels, right = [5, 5, 3, 5, 3, 7], [True, False, True, True, True, True]
    assert choose(labels, right, 3) == [0, 2, 3]
    assert choose(labels, right, 3, stratified=True) == [0, 2, 5]
    assert choose(labels, right, 4, stratified=True) == [0, 2, 3, 5]
    assert choose(labels, right, 9) == [0, 2, 3, 4, 5]
    assert choose(labels, [False] * 6, 2) == []


@pytest.mark.parametrize("channels", [1, 3])
def test_png_holds_the_pixels(channels: int) -> None:
    x = uniform(channels, 5, 4)
    found = pixels(to_png(x))
    expected = x[0].numpy() if channels == 1 else x.permute(1, 2, 0).numpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 0.5 / 255 + 1e-6
    assert to_png(x) == to_png(x)


def test_rows_are_those_of_the_cell() -> None:
    """The same images, attacked alike, get the same predictions and distances as in a cell."""
    generator = torch.Generator().manual_seed(3)
    w = torch.randn(3, 4, generator=generator)
    models = [Linear(w), Linear(w + 0.4 * torch.randn(3, 4, generator=generator))]
    x = uniform(10, 1, 2, 2)
    with torch.no_grad():
        y = models[0](x).argmax(1).tolist()
    y[1] = (y[1] + 1) % 3  # wrong: not to be chosen
    data = images(x, y)
    looked = scene("examples", models, data, params={"images": 3}, attack={"n_iter": 5})
    found = run(looked)
    right = [all(int(m(x[i : i + 1]).argmax()) == y[i] for m in models) for i in range(10)]
    chosen = [i for i in range(10) if right[i]][:3]
    assert 1 not in chosen and len(chosen) == 3
    assert found[found["model"] == 0]["index"].tolist() == [100 + i for i in chosen]
    for i in (0, 1):
        _, rows = run_cell(looked.spec.cell(i), looked.targets[i], data)
        by_index = {row.index: row for row in rows}
        for record in found[found["model"] == i].to_dict("records"):
            row = by_index[record["index"]]
            assert (record["clean_pred"], record["adv_pred"]) == (row.clean_pred, row.adv_pred)
            assert (record["linf"], record["l2"]) == pytest.approx((row.linf, row.l2))
            assert record["clean_pred"] == record["label"]


def test_confidence_and_pictures() -> None:
    w = torch.tensor([[2.0, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 0, 0]])
    x = torch.tensor([0.9, 0.1, 0.5, 0.5]).view(1, 1, 2, 2)
    looked = scene("examples", [Linear(w)], images(x, [0]), attack={"n_iter": 10})
    (record,) = run(looked).to_dict("records")
    assert record["clean_confidence"] == pytest.approx(
        float(torch.tensor([1.8, 0.2, 0.0]).softmax(0)[0])
    )
    assert record["magnification"] == pytest.approx(5)  # eps 0.1 is half the range
    assert (record["label_name"], record["clean_name"]) == ("T-shirt/top", "T-shirt/top")
    difference = pixels(record["adv_png"]) - pixels(record["clean_png"])
    shown = (pixels(record["difference_png"]) - 0.5) / 5
    assert np.abs(difference - shown).max() < 2 / 255
    assert shown[0].tolist() == pytest.approx([-0.1, 0.1], abs=1 / 255)


def test_nothing_to_show_and_images_outside_the_ball_are_said() -> None:
    w = torch.tensor([[2.0, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 0, 0]])
    x = torch.tensor([0.9, 0.1, 0.5, 0.5]).view(1, 1, 2, 2)
    with pytest.raises(AnalysisError, match="no image of the 1 is right on every model"):
        run(scene("examples", [Linear(w)], images(x, [1]), attack={}))
    jump = Attack(
        name="jump",
        version=1,
        kind="bounded",
        norms=("linf",),
        params=NoParams,
        run=lambda oracle, x, y, budget, params, seed: (x + 0.2).clamp(0, 1),
        summary="",
        url="",
    )
    ATTACKS.add("jump", jump)
    try:
        looked = scene("examples", [Linear(w)], images(x, [0]), attack={}, attack_name="jump")
        with pytest.raises(AnalysisError, match=r"1 of 1 images of the attack fail.*out of ball"):
            run(looked)
    finally:
        ATTACKS.remove("jump")
