"""What a result offers beside its numbers: examples, rows, tables, pictures, comparisons."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from evaluation_scenes import QUICK, Brightness, images, sign_step
from scipy import stats
from torch import Tensor, nn

from bench import compare, evaluate, verify_examples
from bench.core.errors import UserError
from bench.evaluation.grid import Evaluations

matplotlib.use("Agg")


def result(**options: Any) -> Any:
    x, y = images()
    attacks = ["fgsm", {"attack": "bim", "limit": 5}, ("pgd", {"n_iter": 3})]
    given = {"model": Brightness(), "x": x, "y": y, "threat": "linf:0.11", "attacks": attacks}
    return evaluate(**{**given, **QUICK, **options})


def test_adversarial_examples_stand_beside_their_images() -> None:
    """An independent judge finds the same of them: the model itself, and ``verify_examples``."""
    x, y = images()
    found = result(batch_size=5)
    x_adv = found.x_adv["pgd"]
    assert x_adv.shape == x.shape and x_adv.dtype == torch.float32
    assert (x_adv - x).abs().amax() <= 0.11 + 1e-6
    right = (Brightness()(x_adv).argmax(1) == y).float()
    assert right.tolist() == [row.robust for row in found["pgd"].rows]
    verdict = verify_examples(Brightness(), x, y, x_adv, "linf:0.11")
    assert verdict.robust_accuracy().value == found.robust_accuracy("pgd").value


def test_images_that_were_not_attacked_are_nan() -> None:
    def fails_late(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
        assert not bool((y == 7).any()), "a batch that it cannot take"
        return x

    x, y = images()
    found = result(batch_size=5)
    assert found.x_adv["bim"].isnan().all(3).all(2).all(1).tolist() == [False] * 5 + [True] * 7
    declared = {**QUICK, "batch_size": 4}
    y = torch.tensor([0, 1, 0, 1, 7, 1, 0, 1, 0, 1, 0, 1])
    many = nn.Sequential(nn.Flatten(), nn.Linear(192, 8))
    late = evaluate(many, x, y, "linf:0.11", [fails_late], **declared)
    assert "a batch that it cannot take" in late["fails_late"].info.error
    assert late.x_adv["fails_late"].isnan().flatten(1).all(1).tolist() == [False] * 4 + [True] * 8


def test_examples_that_were_not_kept_are_missed_with_the_remedy() -> None:
    with pytest.raises(UserError, match="save_adv=True"):
        _ = result(save_adv=False).x_adv


def test_rows_are_those_of_the_attacks() -> None:
    found = result()
    rows = found.rows()
    assert list(rows.columns[:4]) == ["attack", "index", "label", "clean_pred"]
    assert rows.groupby("attack", sort=False).size().to_dict() == {"fgsm": 12, "bim": 5, "pgd": 12}
    means = rows.groupby("attack")["robust"].mean()
    assert means["pgd"] == found.robust_accuracy("pgd").value


def test_a_worst_case_over_some_of_the_attacks() -> None:
    def step(model: nn.Module, x: Tensor, y: Tensor, eps: float, odd: int) -> Tensor:
        """Darkens the images of class 1 or brightens those of class 0, whichever is asked for."""
        move = eps * (1 - 2 * y) * (y == odd)
        return (x + move.view(-1, 1, 1, 1)).clamp(0, 1)

    attacks = [
        {"attack": step, "params": {"odd": odd}, "label": label}
        for odd, label in ((1, "dark"), (0, "light"))
    ]
    aimed = {"attack": "fgsm", "y_target": "random", "label": "aimed"}
    found = result(attacks=[*attacks, "natural", aimed])
    assert found.worst_case().value == pytest.approx(7 / 12)
    assert found.worst_case(["dark"]) == found.robust_accuracy("dark")
    assert found.worst_case(["dark", "light"]).value == pytest.approx(7 / 12)
    assert found.worst_case(["dark"]).value > 7 / 12
    for wrong, message in (
        (["drak"], "did you mean 'dark'"),
        ("dark", "expected a list"),
        ([], "no attack is complete"),
        (["aimed"], "'aimed' is targeted"),
    ):
        with pytest.raises(UserError, match=message):
            found.worst_case(wrong)


def test_markdown_and_latex_hold_the_numbers() -> None:
    found = result()
    assert "| pgd        |            58.3 |" in found.to_markdown()
    text = found.to_latex(intervals=True)
    assert r"Brightness & 58.3 & 0.0 & 58.3 & 58.3 & 1" in text and r"\,n=5" in text
    assert r"\begin{table" in text and "58.3" in text and "32.0, 80.7" in text
    assert r"\caption" not in found.to_latex(floats=False)
    grid = result(model={"a_b": Brightness(), "c": Brightness(2.0)})
    assert r"a\_b" in grid.to_latex() and "a_b" in grid.to_markdown()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_the_table_compiles(tmp_path: Path) -> None:
    paper = (
        r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}"
        rf"{result().to_latex()}\end{{document}}"
    )
    (tmp_path / "p.tex").write_text(paper)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "p.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Overfull" not in done.stdout, done.stdout


@pytest.mark.process
def test_a_picture_shows_each_number_where_it_is() -> None:
    found = result()
    axes = found.plot()
    (drawn,) = (one.lines[0].get_xdata() for one in axes.containers)
    shown = [100 * v for v in found.table()["accuracy"]]
    assert np.allclose(drawn, shown)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == list(found.table().index)
    grid = result(threat=["linf:0.05", "linf:0.11"], attacks=["fgsm"])
    (curve,) = (one.lines[0] for one in grid.plot().containers)
    assert list(curve.get_xdata()) == [0, 0.05, 0.11]
    assert np.allclose(curve.get_ydata(), [100, 100 * 10 / 12, 100 * 7 / 12])
    both = Evaluations.of(
        {"a": [result(threat=ball, attacks=["fgsm"]) for ball in ("linf:0.05", "l2:1")]}
    )
    with pytest.raises(UserError, match="no common axis"):
        both.plot()
    pyplot = matplotlib.pyplot
    given = pyplot.figure().add_subplot()
    assert found.plot(ax=given) is given
    pyplot.close("all")


class Tilted(Brightness):
    """Compares the mean with a threshold that is off, so that other images are wrong."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + 0.05)


def test_a_comparison_is_paired_image_by_image() -> None:
    """McNemar's exact p is that of scipy's binomial test of the discordant pairs."""
    n = 48  # at most 0.48 from the middle, in steps of 0.01
    y = torch.arange(n) % 2
    x = (0.5 + 0.01 * torch.arange(1, n + 1) * (2 * y - 1)).view(-1, 1, 1, 1).expand(n, 1, 4, 4)
    attacks = ["natural", sign_step]
    a, b = (
        evaluate(model, x, y, "linf:0.05", attacks, **QUICK) for model in (Brightness(), Tilted())
    )
    found = compare(a, b)
    assert list(found) == ["natural", "sign_step", "worst case"]
    for label in ("natural", "sign_step"):
        first, second = (np.array([r.robust for r in one[label].rows]) for one in (a, b))
        gains, losses = int((first > second).sum()), int((first < second).sum())
        assert found[label].value == pytest.approx((first - second).mean())
        expected = stats.binomtest(gains, gains + losses).pvalue if gains + losses else 1
        assert found[label].p_value == pytest.approx(expected)
        low, high = found[label].interval
        assert low < found[label].value < high
    assert found["worst case"].value == found["sign_step"].value
    assert "Brightness minus Tilted" in repr(found) and found.table().loc["natural", "n"] == n
    back = compare(b, a)
    assert back["sign_step"].interval == tuple(-end for end in found["sign_step"].interval[::-1])
    assert "| natural" in back.to_markdown()


def test_clean_images_are_compared_where_no_attack_leaves_them_alone() -> None:
    x, y = images()
    a, b = (evaluate(m, x, y, "linf:0.11", ["fgsm"], **QUICK) for m in (Brightness(), Tilted()))
    clean = [1.0 * (Tilted()(x).argmax(1) == y)]
    assert compare(a, b)["clean"].value == pytest.approx(1 - float(torch.stack(clean).mean()))


def test_two_attacks_of_a_result_are_compared_by_what_they_leave() -> None:
    found = result(attacks=["natural", "fgsm"])
    one = compare(found["natural"], found["fgsm"], names=("clean", "fgsm"))
    assert one["robust accuracy"].value == pytest.approx(5 / 12)


def test_what_cannot_be_paired_is_refused() -> None:
    x, y = images()
    a = evaluate(Brightness(), x, y, "linf:0.11", ["fgsm"], **QUICK)
    shifted = evaluate(Brightness(), x, 1 - y, "linf:0.11", ["fgsm"], **QUICK)
    other = evaluate(Brightness(), x, y, "linf:0.11", ["bim"], **QUICK)
    for wrong, message in (
        (shifted, "fgsm: the two are of different images or labels"),
        (other, "no attack in common: fgsm and bim"),
        (3, "b: expected two results .* found int"),
        (a["fgsm"], "found AttackResult"),
    ):
        with pytest.raises(UserError, match=message):
            compare(a, wrong)  # type: ignore[arg-type]


def test_other_settings_are_said_beside_a_comparison() -> None:
    a = result(attacks=[("pgd", {"n_iter": 3})])
    b = result(attacks=[("pgd", {"n_iter": 4})], threat="linf:0.05")
    notes = " | ".join(compare(a, b).notes)
    assert "threat models differ: linf 0.11 and linf 0.05" in notes
    assert "pgd: attack_params differ" in notes


def test_a_grid_is_asked_by_model_and_ball() -> None:
    grid = result(threat=["linf:0.05", "linf:0.11"], attacks=["fgsm"])
    assert grid["linf:0.05"].threat_model.eps == 0.05
    assert grid["Brightness", "linf 0.11"] is grid["linf:0.11"]
    models = result(model=[Brightness(), Tilted(), Tilted()], attacks=["fgsm"])
    assert models.models == ("Brightness", "Tilted 2", "Tilted 3")
    assert models["Tilted 2"].model == "Tilted 2"
    both = result(model={"a": Brightness(), "b": Tilted()}, threat=["linf:0.05", "linf:0.11"])
    for asked, wrong, message in (
        (grid, "linf:0.5", "did you mean 'linf 0.05'"),
        (both, "a", r"give both, as \('a', 'linf 0.05'\)"),
        (both, "linf:0.11", r"give both, as \('a', 'linf:0.11'\)"),
        (both, ("c", "linf:0.11"), "no model is labelled 'c'"),
        (both, ("a", "l2:2"), "no threat model is 'l2:2'"),
    ):
        with pytest.raises(UserError, match=message):
            asked[wrong]


def test_errors_name_the_model_that_they_are_about() -> None:
    with pytest.raises(UserError, match="model 'b': y: expected labels from 0 to 1"):
        result(
            model={"a": nn.Sequential(nn.Flatten(), nn.Linear(192, 9)), "b": Brightness()},
            y=[8] * 12,
        )
