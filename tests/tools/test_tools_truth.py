"""Attacks never break what is proved, and break nearly all that is known to be broken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import evaluate
from bench.alarms.sentinel import GAP
from tools.truth import Tally, attack, load_module, problems


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "missed"),
    [("mnist-verivital", 0), ("mnist-wong-linf01", 0), ("mnist-fc", 1), ("cifar-wong-l2-36", 0)],
)
def test_auto_agrees_with_complete_verifiers(family: str, missed: int, shared_dir: Path) -> None:
    folder = shared_dir / "data" / "truth" / family
    if not folder.is_dir():
        pytest.skip("needs the networks with proved verdicts")
    module, tally = load_module(folder), Tally()
    for problem in problems(folder, shared_dir / "data"):
        attack("auto", getattr(module, problem.network)(), problem, tally)
    assert tally.contradicted == 0
    assert tally.proved > 15
    assert tally.found >= tally.known - missed


@pytest.mark.process
def test_auto_is_not_fooled_outside_the_norm_of_training(shared_dir: Path) -> None:
    """AutoAttack leaves 15 of these 100 images right; ascents alone 58."""
    folder = shared_dir / "data" / "truth" / "mnist-wong-linf01"
    if not folder.is_dir():
        pytest.skip("needs the networks with proved verdicts")
    (problem,) = problems(folder, shared_dir / "data")
    part = replace(
        problem,
        norm="l2",
        eps=1.5,
        x=problem.x[:100],
        y=problem.y[:100],
        target=problem.target[:100],
        verdict=("open",) * 100,
    )
    tally = Tally()
    attack("auto", load_module(folder).model(), part, tally)
    assert tally.standing <= 16


@pytest.mark.slow
@pytest.mark.parametrize(
    "family",
    ["cifar-oval", "cifar-wong-l2-36", "mnist-fc", "mnist-verivital", "mnist-wong-linf01"],
)
@pytest.mark.parametrize(
    "attacks", [["pgd"], ["fgsm", "noise", ("pgd", {"n_iter": 100})], ["auto"]]
)
def test_no_alarm_but_where_a_proof_says_that_the_number_is_too_high(
    family: str, attacks: list[Any], shared_dir: Path
) -> None:
    folder = shared_dir / "data" / "truth" / family
    if not folder.is_dir():
        pytest.skip("needs the networks with proved verdicts")
    module, found = load_module(folder), []
    for problem in problems(folder, shared_dir / "data"):
        model = getattr(module, problem.network)()
        threat = f"{problem.norm}:{problem.eps}"
        result = evaluate(model, problem.x[:64], problem.y[:64], threat, attacks)
        at_most = np.mean([word in ("robust", "open") for word in problem.verdict[:64]])
        for label, cell in result.cells.items():
            too_high = result.robust_accuracy(label).value - at_most >= GAP
            found += [
                (problem.network, threat, label, alarm)
                for alarm in cell.info.alarms
                if not (too_high and alarm.startswith("weak_attack"))
            ]
    assert found == []
