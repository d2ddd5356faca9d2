"""Unions of threat models in ``evaluate()``: right in every ball, image by image."""

from __future__ import annotations

import math
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bench import compare, evaluate, load_result
from bench.core.errors import UserError
from bench.evaluation.grid import Evaluations
from bench.evaluation.result import EvaluationResult
from bench.report.run_view import RunView

BALLS: list[str] = ["linf:0.05", "l2:0.14", "l1:0.2"]
DUAL = {"linf": 1, "l2": 2, "l1": math.inf}
LABELS = ("linf 0.05", "l2 0.14", "l1 0.2")
KNOWN = {"probe": False, "stochastic": False, "batch_dependent": False, "sentinel": False}


class Linear(nn.Module):
    """Four classes, linear in the pixels of images (n, 1, 4, 4).

    The slopes to three of them have the same l1 norm, spread over 16, 4 and 1 pixels: the first is
    nearest in linf, the last in l1.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 4)
        signs = 2.0 * torch.randint(2, (16,), generator=torch.Generator().manual_seed(1)) - 1
        with torch.no_grad():
            self.layer.weight.zero_()
            for k, n in enumerate((16, 4, 1), start=1):
                self.layer.weight[k, :n] = signs[:n] / n
            self.layer.bias.copy_(torch.tensor([0, 0.057, 0.07, 0.17]).neg())
            self.layer.bias.sub_(self.layer.weight.sum(1) / 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.flatten(1))


@cache
def scene() -> tuple[Linear, torch.Tensor, torch.Tensor, dict[str, np.ndarray]]:
    """A model, images in the middle of the box, labels, and each image's distance by norm."""
    model = Linear()
    x = 0.5 + 0.16 * (torch.rand(2000, 1, 4, 4, generator=torch.Generator().manual_seed(2)) - 0.5)
    with torch.no_grad():
        z = model(x).double()
    x, z = x[z.argmax(1) == 0], z[z.argmax(1) == 0]
    y = z.argmax(1)
    w = model.layer.weight.detach().double()
    lead = z.gather(1, y[:, None]) - z
    lead[torch.arange(len(y)), y] = math.inf
    far = {}
    for norm, q in DUAL.items():
        length = (w[y][:, None] - w[None]).norm(p=q, dim=2).clamp(min=1e-9)
        far[norm] = (lead / length).amin(1).numpy()
    near = np.zeros(len(y), bool)
    for ball in BALLS:
        norm, eps = ball.split(":")
        near |= abs(far[norm] / float(eps) - 1) < 0.06
    keep = np.flatnonzero(~near)[:240]
    return model, x[keep], y[keep], {norm: distance[keep] for norm, distance in far.items()}


@cache
def union() -> EvaluationResult:
    model, x, y, _ = scene()
    return evaluate(model, x, y, BALLS, ["natural", "deepfool", ("bim", {"n_iter": 5})], **KNOWN)


def standing() -> np.ndarray:
    """Whether each image (n,) is out of reach in each ball (3,), by the dual norm."""
    far = scene()[3]
    pairs = [ball.split(":") for ball in BALLS]
    return np.stack([far[norm] > float(eps) for norm, eps in pairs], 1)


def test_the_scene_has_images_that_each_norm_alone_decides() -> None:
    right = standing()
    for k in range(3):
        alone = ~right[:, k] & np.delete(right, k, 1).all(1)
        assert alone.any(), LABELS[k]


@pytest.mark.process
def test_on_a_linear_model_the_dual_norms_decide_each_image() -> None:
    result, right = union(), standing()
    for k, label in enumerate(LABELS):
        rows = result[f"deepfool, {label}"].rows
        assert [row.robust == 1 for row in rows] == right[:, k].tolist()
    table = result.table()
    for k, label in enumerate(LABELS):
        line = table.loc[f"worst case, {label}"]
        assert line["accuracy"] == pytest.approx(right[:, k].mean())
        assert line["threat_model"] == label
    assert table.loc["worst case", "accuracy"] == pytest.approx(right.all(1).mean())
    assert table.loc["worst case", "threat_model"] == "linf 0.05, l2 0.14 and l1 0.2"


def test_the_worst_case_is_the_minimum_of_each_image_with_its_interval() -> None:
    result = union()
    attacked = [cell for label, cell in result.cells.items() if label != "natural"]
    scores = np.array([[row.robust for row in cell.rows] for cell in attacked])
    found = result.worst_case()
    assert found.value == scores.min(0).mean() and found.n == 240
    n, p, z = 240, found.value, 1.959964
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    ends = [(centre + sign * half) / (1 + z * z / n) for sign in (-1, 1)]
    assert found.interval == pytest.approx(ends, abs=1e-6), "Wilson's"
    single = [result.worst_case(threat=ball).value for ball in (result.threat_model, *result.union)]
    assert found.value < min(single), "it is lower than in every single ball"


def test_attacks_are_written_out_and_clean_images_are_not() -> None:
    assert list(union()) == [
        "natural",
        *(f"deepfool, {label}" for label in LABELS),
        *(f"bim, {label}" for label in LABELS),
    ]
    assert "threat model linf 0.05, l2 0.14 and l1 0.2" in repr(union())


def test_an_attack_with_a_ball_of_its_own_stays_in_it() -> None:
    model, x, y, _ = scene()
    own = {"attack": "bim", "norm": "l2", "eps": 0.07, "params": {"n_iter": 2}, "label": "short"}
    wide = {"attack": "bim", "eps": 0.3, "params": {"n_iter": 2}, "label": "wide"}
    result = evaluate(model, x[:8], y[:8], BALLS, ["fgsm", own, wide], **KNOWN)
    assert result["short"].info.spec.threat_model.describe() == "l2 0.07"
    assert result["wide"].info.spec.threat_model.describe() == "linf 0.3"
    assert result.apart == {"wide"}, "a smaller ball lies in the union, a larger one does not"
    assert "wide: n_iter 2, threat model linf 0.3, no part of the worst case" in repr(result)


def test_an_attack_of_one_norm_is_run_in_that_norm() -> None:
    model, x, y, _ = scene()
    result = evaluate(model, x[:4], y[:4], BALLS, ["fgsm", ("cw_linf", {"n_iter": 1})], **KNOWN)
    assert [label for label in result if "cw" in label] == ["cw_linf, linf 0.05"]


def test_one_ball_in_a_list_is_that_ball() -> None:
    model, x, y, _ = scene()
    listed = evaluate(model, x[:4], y[:4], ["l2:0.1"], ["fgsm"], **KNOWN)
    alone = evaluate(model, x[:4], y[:4], "l2:0.1", ["fgsm"], **KNOWN)
    assert list(listed) == ["fgsm"] and "worst case, l2 0.1" not in listed.table().index
    assert listed["fgsm"].info.cell_id == alone["fgsm"].info.cell_id


def test_each_ball_is_looked_behind() -> None:
    """One sentinel for each threat model: a weak attack in one norm is found there."""
    model, x, y, _ = scene()
    balls = ["linf:0.08", "l2:0.2"]
    result = evaluate(model, x, y, balls, ["noise"], **{**KNOWN, "sentinel": True})
    for label in ("linf 0.08", "l2 0.2"):
        assert f"{label}: the sentinel" in result.sentinel
        alarms = result[f"noise, {label}"].info.alarms
        assert any(alarm.startswith("weak_attack") for alarm in alarms), label


@pytest.mark.parametrize(
    ("threat", "said"),
    [
        ([], r"threat\[0\]: expected at least one"),
        (["linf:8/255", "l2:0.5", "l2:1"], r"one ball of each norm, .* or several eps of one norm"),
        (["linf:8/255", "l2:0"], r"eps must be greater than 0"),
        (["l2:0.5", "l3:0.5"], "'linf', 'l2' or 'l1'"),
        (("linf:2/255", "linf:8/255"), "a list of balls of different norms is their union"),
    ],
)
def test_what_is_no_union_is_refused(threat: object, said: str) -> None:
    model, x, y, _ = scene()
    with pytest.raises(UserError, match=said):
        evaluate(model, x[:2], y[:2], threat, ["fgsm"], **KNOWN)  # type: ignore[arg-type]


def test_each_of_several_models_gets_its_union() -> None:
    model, x, y, _ = scene()
    models = {"a": model, "b": Linear()}
    found = evaluate(models, x[:40], y[:40], BALLS, ["fgsm"], **KNOWN)
    alone = evaluate(model, x[:40], y[:40], BALLS, ["fgsm"], **KNOWN)
    assert isinstance(found, Evaluations) and len(found) == 2
    assert found["a"].table().equals(alone.table())
    name = "linf 0.05, l2 0.14 and l1 0.2"
    assert found["b", name] is found["b"]
    assert found.table().loc[("a", name, "worst case"), "accuracy"] == alone.worst_case().value
    assert list(compare(found["a"], found["b"]))[-1] == "worst case"


def test_several_eps_of_one_norm_are_no_union() -> None:
    model, x, y, _ = scene()
    found = evaluate(model, x[:8], y[:8], ["l2:0.1", "l2:0.2"], ["fgsm"], **KNOWN)
    assert isinstance(found, Evaluations)
    assert found["l2:0.2"]["fgsm"].info.spec.threat_model.describe() == "l2 0.2"


def to_the_right(model: nn.Module, x: torch.Tensor, y: torch.Tensor, eps: float) -> torch.Tensor:
    return (x + eps / 10).clamp(0, 1)


def test_a_function_needs_a_ball_of_its_own() -> None:
    """It is not told the norm; what is right in linf is outside the other balls."""
    model, x, y, _ = scene()
    with pytest.raises(UserError, match=r"attacks\[1\]: a function is not told the norm"):
        evaluate(model, x[:4], y[:4], BALLS, ["fgsm", to_the_right], **KNOWN)
    own = {"attack": to_the_right, "norm": "l2", "eps": 0.14}
    result = evaluate(model, x[:4], y[:4], BALLS, [own], **KNOWN)
    (cell,) = result.cells.values()
    assert cell.info.complete and cell.info.spec.threat_model.describe() == "l2 0.14"
    assert not result.apart


def test_errors_count_the_attacks_as_they_are_given() -> None:
    model, x, y, _ = scene()
    with pytest.raises(UserError, match=r"attacks\[1\]: attack 'pgd': steps: unknown"):
        evaluate(model, x[:4], y[:4], BALLS, ["fgsm", ("pgd", {"steps": 1})], **KNOWN)
    with pytest.raises(UserError, match=r"attacks\[1\].limit: expected at most 4"):
        few = {"attack": "pgd", "limit": 9}
        evaluate(model, x[:4], y[:4], BALLS, ["fgsm", few], **KNOWN)


def test_a_worst_case_of_named_attacks_and_of_a_ball() -> None:
    result = union()
    ball = result.union[0]
    named = ["deepfool, l2 0.14", "bim, l1 0.2"]
    alone = result.robust_accuracy(named[0]).value
    assert result.worst_case(named, threat=ball).value == alone
    assert result.worst_case(named).value <= alone
    with pytest.raises(UserError, match="a ball of a union is threat=BALL"):
        result.worst_case(ball)  # type: ignore[arg-type]


def test_a_folder_keeps_a_union(tmp_path: Path) -> None:
    model, x, y, _ = scene()
    own = {"attack": "bim", "norm": "l2", "eps": 0.07, "params": {"n_iter": 2}, "label": "short"}
    fog = ("corruption", {"name": "contrast"})
    aimed = {"attack": "fgsm", "y_target": "random", "label": "aimed"}
    attacks = ["natural", "fgsm", own, aimed, fog]
    run, copy = tmp_path / "run", tmp_path / "copy"
    result = evaluate(model, x[:16], y[:16], BALLS, attacks, out=run, **KNOWN)
    assert isinstance(result, EvaluationResult)
    result.save(copy)
    for folder in (run, copy):
        again = load_result(folder)
        assert again == result and repr(again) == repr(result)
        words = [sys.executable, "-m", "bench", "report", str(folder)]
        done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        table = (folder / "leaderboard.md").read_text()
        for ball in (None, result.threat_model, *result.union):
            number = f"{100 * result.worst_case(threat=ball).value:.1f}"
            assert number in table, ball
        assert all(label in table for label in LABELS)
    assert (run / "leaderboard.csv").read_text() == (copy / "leaderboard.csv").read_text()
    assert "worst case" in result.to_latex()


def test_a_folder_of_several_eps_keeps_a_corruption_once(tmp_path: Path) -> None:
    model, x, y, _ = scene()
    attacks = ["fgsm", ("corruption", {"name": "contrast"})]
    found = evaluate(
        model, x[:8], y[:8], ["linf:0.02", "linf:0.05"], attacks, out=tmp_path, **KNOWN
    )
    assert repr(load_result(tmp_path)) == repr(found)
    words = [sys.executable, "-m", "bench", "report", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    labels = [attack.label for attack in RunView(tmp_path).attacks]
    assert labels == ["fgsm, eps 0.02", "contrast", "fgsm, eps 0.05"]
