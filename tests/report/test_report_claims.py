"""A claim holds, fails or stays open by what is stored, and the index says so with numbers."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from report_runs import ATTACKS, N, RunBuilder, make_rows, suite_of

from bench.core.errors import UserError
from bench.metrics import paired_difference, points
from bench.report.papers.claims import Contrast, Side, Trial, claims, decide
from bench.report.papers.index import index_text, write_index
from bench.report.run_view import RunView
from bench.suite.load import load_suite

Build = Callable[[dict[str, Any]], RunBuilder]
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "suite"))
NAMES = ("a", "b", "c")


def run_of(build: Build, scores: dict[tuple[int, int], Sequence[float]], **changes: Any) -> RunView:
    """Three models under PGD and AutoAttack; a cell without scores is not run."""
    models = [{"checkpoint": f"fmnist-resnet20-{name}", "label": name} for name in NAMES]
    models[1] |= changes.pop("second", {})
    run = build(suite_of(["leaderboard"], models, [ATTACKS[1], ATTACKS[3]]))
    for (model, attack), values in scores.items():
        run.add(model, attack, make_rows(values), **changes)
    return RunView(run.finish())


def trial(better: Side, worse: Side) -> Trial:
    return Trial("small", "PGD", (Contrast("a over b", better, worse),))


A, B = Side((("a",),), ("pgd20",)), Side((("b",),), ("pgd20",))
HIGH, LOW = [1.0] * N, [0.0] * (N - 2) + [1.0] * 2
CLOSE = [1.0] * (N - 2) + [0.0] * 2


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [(HIGH, LOW, "holds"), (LOW, HIGH, "does not hold"), (HIGH, CLOSE, "open")],
)
def test_the_paired_interval_decides(
    builder: Build, first: list[float], second: list[float], verdict: str
) -> None:
    view = run_of(builder, {(0, 0): first, (1, 0): second})
    outcome = decide(trial(A, B), {"small": view})
    assert outcome.verdict == verdict
    expected = paired_difference(make_rows(first), make_rows(second))
    assert outcome.differences == {"a over b": expected}


def test_all_contrasts_must_be_shown_and_one_refutes(builder: Build) -> None:
    view = run_of(builder, {(0, 0): HIGH, (1, 0): LOW, (2, 0): CLOSE})
    c = Side((("c",),), ("pgd20",))
    half = Trial("small", "PGD", (Contrast("b", A, B), Contrast("c", A, c)))
    assert decide(half, {"small": view}).verdict == "open"
    refuted = Trial("small", "PGD", (Contrast("b", A, B), Contrast("reverse", B, A)))
    assert decide(refuted, {"small": view}).verdict == "does not hold"


def test_missing_rows_leave_a_claim_open_and_are_named(builder: Build) -> None:
    view = run_of(builder, {(0, 0): HIGH})
    outcome = decide(trial(A, B), {"small": view})
    assert (outcome.verdict, dict(outcome.differences)) == ("open", {})
    assert "'b' under pgd20 in run small: not run yet" in outcome.missing
    assert "no stored run of suite small" in decide(trial(A, B), {}).missing
    absent = decide(trial(A, Side((("x",),), ("pgd20",))), {"small": view})
    assert "run small has no model 'x'" in absent.missing


def test_incomplete_cells_decide_nothing(builder: Build) -> None:
    view = run_of(builder, {(0, 0): HIGH, (1, 0): LOW}, complete=False, error="it crashed")
    outcome = decide(trial(A, B), {"small": view})
    assert outcome.verdict == "open" and "it crashed" in outcome.missing


def test_the_adversary_takes_the_best_attack_and_models_count_by_their_mean(
    builder: Build,
) -> None:
    first, last = [1.0] * 8 + [0.0] * 8, [0.0] * 8 + [1.0] * 8
    view = run_of(builder, {(0, 0): first, (0, 1): last, (1, 0): HIGH, (1, 1): first, (2, 0): LOW})
    worst = Side((("a",),), ("pgd20", "autoattack"))  # never right under both
    assert decide(trial(B, worst), {"small": view}).differences["a over b"].value == 1.0
    mean = Side((("a",), ("b",)), ("pgd20",))  # 0.5 and 1
    c = Side((("c",),), ("pgd20",))
    assert decide(trial(mean, c), {"small": view}).differences["a over b"].value == pytest.approx(
        0.75 - 2 / N
    )
    chosen = Side((("a", "b"),), ("pgd20",))  # the smaller of the two, image by image
    assert decide(trial(chosen, c), {"small": view}).differences["a over b"].value == pytest.approx(
        0.5 - 2 / N
    )


def test_batches_of_either_side_widen_the_interval_and_alarms_are_kept(builder: Build) -> None:
    scores = {(0, 0): HIGH, (1, 0): LOW}
    second = {"stats": "batch", "checkpoint": "fmnist-resnet20-bn"}
    view = run_of(builder, scores, second=second, alarms=("gradients vanish",))
    outcome = decide(trial(A, B), {"small": view})
    assert "batches as clusters" in outcome.differences["a over b"].method
    assert outcome.alarms == ("gradients vanish",)


@pytest.mark.parametrize("claim", claims(), ids=lambda claim: claim.text)
def test_claims_name_what_their_suites_have(claim: Any) -> None:
    from recipe_lookup import recipe_lookup

    lookup = recipe_lookup(ROOT / "checkpoints" / "recipes")
    for part in (claim.paper, claim.strongest):
        paper, _, rest = part.suite.partition("_")
        nested = ROOT / "suites" / paper / f"{rest}.yaml"
        path = nested if nested.is_file() else ROOT / "suites" / f"{part.suite}.yaml"
        suite = load_suite(path, lookup).spec
        attacks = {attack.label: attack for attack in suite.attacks}
        models = {model.label: model for model in suite.models}
        for side in (side for c in part.contrasts for side in (c.better, c.worse)):
            for label in (label for group in side.groups for label in group):
                assert all(models[label].meets(attacks[attack]) for attack in side.attacks), label


def results(tmp_path: Path) -> Path:
    """A decided claim, a store that cannot be read, and a folder of tables alone."""
    models = [
        {"checkpoint": "fmnist-resnet20-bn", "label": "bn", "stats": "population"},
        {"checkpoint": "fmnist-resnet20-rn", "label": "rn"},
    ]
    names = ("FGSM", "BIM", "MIM", "PGD", "CW")
    attacks = [{"attack": "pgd", "label": name, "params": {"n_iter": len(name)}} for name in names]
    for k, attack in enumerate(attacks):
        attack["params"] = {"n_iter": k}
    folder = tmp_path / "reports"
    suite = suite_of(["leaderboard"], models, attacks, suite="robustnorm_fig3", title="BN and RN")
    run = RunBuilder(folder / "robustnorm_fig3", suite)
    for k in range(len(names)):
        run.add(0, k, make_rows(LOW))
        run.add(1, k, make_rows(HIGH if k < 4 else CLOSE))
    (run.finish() / "leaderboard.md").write_text("# BN and RN\n")
    (run.folder / "report.html").write_text("<p>\n")
    (folder / "old" / "store").mkdir(parents=True)
    (folder / "old" / "store" / "run.json").write_text("{}")
    (folder / "speed").mkdir()
    (folder / "speed" / "training.md").write_text("# Speed\n")
    return folder


def test_index_names_runs_files_and_what_became_of_each_claim(tmp_path: Path) -> None:
    folder = results(tmp_path)
    text = write_index(folder).read_text()
    assert text == index_text(folder)
    lines = text.splitlines()
    (claim,) = [line for line in lines if line.startswith("| RobustNorm beats BatchNorm (")]
    expected = paired_difference(make_rows(HIGH), make_rows(LOW))
    number = f"+87.5 {expected.brackets(points)}"
    assert f"**holds**: FGSM {number}" in claim and f"(n = {N})" in claim
    assert "**holds**: worst case +75.0" in claim
    assert sum("no stored run of suite" in line for line in lines) == len(claims()) - 1
    (run,) = [
        line for line in lines if line.startswith("| robustnorm\\_fig3") or "BN and RN" in line
    ]
    assert "2026-01-01 to 2026-01-05" in run and "| 16 " in run and "| 10 " in run
    assert "old cannot be read: " in text and str(tmp_path) not in text
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert {"robustnorm_fig3/leaderboard.md", "speed/training.md"} <= set(links)
    assert all((folder / link).is_file() for link in links)


def test_index_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        write_index(tmp_path / "none")
