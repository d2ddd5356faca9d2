"""Common corruptions as cells: in ``evaluate()``, their mean, and from published files."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench import evaluate
from bench.core.cell import WHOLE_BOX
from bench.core.errors import UserError
from bench.core.result import CellInfo, Row
from bench.data.corruptions import corrupt
from bench.evaluation.result import EvaluationResult
from bench.metrics import mean_accuracy, robust_accuracy
from bench.metrics.estimate import cluster_variance

KNOWN = {"probe": False, "stochastic": False, "batch_dependent": False, "sentinel": False}
FOG: dict[str, Any] = {"attack": "corruption", "params": {"name": "fog", "severity": 5}}
NOISE: dict[str, Any] = {"attack": "corruption", "params": {"name": "gaussian_noise"}}


class Bright(nn.Module):
    """Says whether the left half of an image (n, c, 8, 8) is brighter than the right one."""

    def forward(self, x: Tensor) -> Tensor:
        left, right = x[..., :4].mean((1, 2, 3)), x[..., 4:].mean((1, 2, 3))
        return torch.stack([left - right, right - left], 1)


def scene(n: int = 60, channels: int = 1) -> tuple[Tensor, Tensor]:
    x = torch.rand(n, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    y = Bright()(x).argmax(1)
    y[: n // 6] = 1 - y[: n // 6]  # wrong on the clean image
    return x, y


def run(*attacks: Any, n: int = 60, **options: Any) -> EvaluationResult:
    return evaluate(Bright(), *scene(n), "linf:0.02", list(attacks), **{**KNOWN, **options})


def test_the_score_is_the_accuracy_on_the_corrupted_image() -> None:
    """Nobody declines: an image that is wrong when clean may be right when corrupted."""
    result = run({**FOG, "label": "fog"})
    found = result["fog"]
    assert found.info.complete and found.info.attack_kind == "corruption"
    assert all(row.robust == row.adv_correct and row.played == "adv" for row in found.rows)
    kinds = {(row.clean_correct, row.robust) for row in found.rows}
    assert {(0.0, 1.0), (1.0, 0.0)} <= kinds
    assert found.info.alarms == (), "neither a weak attack nor one that helps the model"
    assert "worst case" not in result.table().index


def test_no_ball_bounds_it_and_its_id_depends_on_none() -> None:
    one, other = (
        run({**FOG, "label": "fog"}),
        evaluate(Bright(), *scene(), "l2:3", [{**FOG, "label": "fog"}], **KNOWN),
    )
    assert one["fog"].info.spec.threat_model == WHOLE_BOX
    assert one["fog"].info.cell_id == other["fog"].info.cell_id
    assert one.table().loc["fog", "threat_model"] == "none"
    assert max(row.linf for row in one["fog"].rows) > 0.1
    union = evaluate(Bright(), *scene(), ["linf:0.1", "l2:3"], ["fgsm", FOG], **KNOWN)
    assert list(union) == ["fgsm, linf 0.1", "fgsm, l2 3", "fog 5"]


def test_an_image_is_corrupted_alike_in_any_batch_and_slice() -> None:
    rows = [run(NOISE, batch_size=size, n=60)["gaussian_noise"].rows for size in (60, 7)]
    few = evaluate(Bright(), *(part[:9] for part in scene()), "linf:0.1", [NOISE], **KNOWN)
    assert [row.l2 for row in rows[0]] == [row.l2 for row in rows[1]]
    assert [row.l2 for row in few["gaussian_noise"].rows] == [row.l2 for row in rows[0][:9]]
    other = run(NOISE, seed=1)["gaussian_noise"].rows
    assert [row.l2 for row in other] != [row.l2 for row in rows[0]]


def made_rows(scores: np.ndarray) -> list[Row]:
    return [
        Row(i, 0, 0, 1.0, 0, s, s, "adv", 0.1, 0.1, "ok", i // 4, 0.0, 0.0)
        for i, s in enumerate(scores.tolist())
    ]


def test_the_mean_counts_each_image_once_with_all_of_its_corruptions() -> None:
    """Against the variance between clusters of all scores, an image's own being one cluster."""
    rng = np.random.default_rng(0)
    hard = rng.random(200)
    scores = (rng.random((15, 200)) > hard).astype(float)
    cells = [made_rows(row) for row in scores]
    found = mean_accuracy(cells)
    assert found.value == pytest.approx(scores.mean()) and found.n == 200
    between = cluster_variance(scores.T.ravel(), np.repeat(np.arange(200), 15).tolist())
    half = 1.96 * between.variance**0.5
    assert found.low is not None and found.high is not None
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.05)
    alone = robust_accuracy([replace(r, index=i) for i, r in enumerate(chain.from_iterable(cells))])
    assert alone.low is not None and alone.high is not None
    assert found.high - found.low > 1.5 * (alone.high - alone.low), "not as if independent"
    assert mean_accuracy(cells[:1]) == robust_accuracy(cells[0])
    with pytest.raises(UserError, match="expected the same images"):
        mean_accuracy([cells[0], cells[1][:-1]])


def test_evaluate_gives_the_mean() -> None:
    result = run("natural", FOG, NOISE)
    cells = [result[label].rows for label in ("fog 5", "gaussian_noise")]
    assert result.mean_corruption_accuracy() == mean_accuracy(cells)
    line = result.table().loc["mean corruption"]
    assert line["accuracy"] == mean_accuracy(cells).value and line["threat_model"] == "none"
    assert "fog 5: name fog, severity 5, a corruption, of no adversary" in repr(result)
    with pytest.raises(UserError, match="no corruption was asked for"):
        run("natural").mean_corruption_accuracy()


def files(folder: Path, n: int = 20) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    x = rng.integers(0, 256, (5 * n, 8, 8, 3), dtype=np.uint8)
    y = np.tile(rng.integers(0, 2, n, dtype=np.uint8), 5)
    folder.mkdir()
    np.save(folder / "frost.npy", x)
    np.save(folder / "labels.npy", y)
    return x, y


def test_published_files_are_scored_as_they_are(tmp_path: Path) -> None:
    x, y = files(tmp_path / "C")
    clean, labels = torch.rand(20, 3, 8, 8), torch.from_numpy(y[:20].astype(np.int64))
    params = {"name": "frost", "severity": 4, "folder": str(tmp_path / "C")}
    found = evaluate(Bright(), clean, labels, attacks=[("corruption", params)], **KNOWN)["frost 4"]
    assert found.info.complete, found.info.error
    block = torch.from_numpy(np.moveaxis(x[60:80], -1, 1).astype(np.float32) / 255)
    right = (Bright()(block).argmax(1) == labels).float().tolist()
    assert [row.robust for row in found.rows] == right
    assert len(found.info.spec.attack_params["sha256"]) == 64
    np.save(tmp_path / "C" / "frost.npy", x[::-1])
    other = evaluate(Bright(), clean, labels, attacks=[("corruption", params)], **KNOWN)["frost 4"]
    assert other.info.cell_id != found.info.cell_id, "other images are another measurement"


def test_published_files_of_other_images_make_the_cell_incomplete(tmp_path: Path) -> None:
    _, y = files(tmp_path / "C")
    params = {"name": "frost", "severity": 1, "folder": str(tmp_path / "C")}
    labels = torch.from_numpy(1 - y[:20].astype(np.int64))
    result = evaluate(
        Bright(), torch.rand(20, 3, 8, 8), labels, attacks=[("corruption", params)], **KNOWN
    )
    assert "its labels are not those of the images" in result["frost 1"].info.error


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({**FOG, "eps": 0.1}, "a corruption has no eps, as no ball bounds it"),
        ({**FOG, "y_target": 1}, "'corruption' cannot be given a target class"),
        ({"attack": "corruption", "params": {"name": "mist"}}, "name: .*'fog'"),
        (
            {"attack": "corruption", "params": {"severity": 6}},
            "severity: .*less than or equal",
        ),
        ({"attack": "corruption", "params": {"name": "frost"}}, "add folder: CIFAR-10-C"),
        (
            {"attack": "corruption", "params": {"name": "fog", "folder": "nowhere"}},
            "fog.npy: no such file; give params folder",
        ),
    ],
)
def test_what_cannot_be_is_refused(entry: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        run(entry)


def test_the_image_of_a_cell_is_that_of_the_function() -> None:
    x, y = scene(3)
    found = evaluate(Bright(), x, y, "linf:0.1", [{**FOG, "label": "fog"}], **KNOWN)["fog"]
    from bench.attacks.corruption import _seed
    from bench.attacks.declared import CorruptionParams

    params = CorruptionParams(name="fog", severity=5)
    made = [corrupt(one.numpy(), "fog", 5, _seed(0, i, params)) for i, one in enumerate(x)]
    far = [float(np.abs(a - b.numpy()).max()) for a, b in zip(made, x, strict=True)]
    assert [row.linf for row in found.rows] == pytest.approx(far, abs=1e-6)
    assert isinstance(found.info, CellInfo)
