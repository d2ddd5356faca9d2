"""Two small stored runs, and the means to build another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from report_runs import ATTACKS, HOSTILE, RunBuilder, make_rows, suite_of


@pytest.fixture
def leaderboard_run(tmp_path: Path) -> Path:
    """Complete, stochastic, refused, incomplete, alarmed and missing cells, and a hostile label."""
    models = [
        {"checkpoint": "fmnist-resnet20-bn", "label": "bn", "published": {"norm": "bn"}},
        {
            "checkpoint": "fmnist-resnet20-rna",
            "label": "rna",
            "protocol": "fixed_path",
            "published": {"norm": "rna"},
        },
        {"checkpoint": "fmnist-resnet20-bn", "label": "bn (batch)", "stats": "batch"},
        {"checkpoint": "fmnist-resnet20-in", "label": HOSTILE},
    ]
    entry = {"kind": "leaderboard", "published": "rna/table1", "where": {"model": "resnet18"}}
    run = RunBuilder(tmp_path / "run", suite_of([entry], models, ATTACKS))
    run.add(0, 0, make_rows([1] * 15 + [0]))
    run.add(0, 1, make_rows([1, 0] * 8))
    run.add(0, 2, make_rows([1, 1, 1, 0] * 4))
    run.add(0, 3, make_rows([1, 0, 0, 0] * 4))
    run.add(1, 0, make_rows([0.9] * 16, clean=0.9))
    run.add(1, 1, make_rows([0.8] * 8 + [0.6] * 8, clean=0.9))
    run.add(1, 2, make_rows([0.9] * 16, clean=0.9))
    run.add(1, 3, make_rows([0.7] * 16, clean=0.9))
    run.add(2, 0, make_rows([1] * 16))
    run.add(
        2, 1, make_rows([1, 1, 1, 0] * 3 + [0] * 4), alarms=("more steps\nbreak more | images",)
    )
    run.add(2, 2, make_rows([1] * 8), complete=False, error=f"batch 2: {HOSTILE}")
    run.plan(2, 3, refused="drops samples from the batch")
    run.add(3, 0, make_rows([1] * 16))
    return run.finish()


@pytest.fixture
def stats_run(tmp_path: Path) -> Path:
    """A checkpoint under both statistics, one whose P lacks a cell, and one without the choice."""
    models = [
        {
            "checkpoint": name,
            "label": f"{name} {letter}",
            "stats": stats,
            "published": {"stats": letter},
        }
        for name in ("fmnist-resnet20-bn", "fmnist-resnet20-bgn")
        for letter, stats in (("B", "batch"), ("P", "population"))
    ]
    models.append({"checkpoint": "fmnist-resnet20-gn", "label": "gn"})
    names = {"clean": "normal", "pgd": "pgd", "deepfool": ""}
    attacks = [{"attack": k, "label": k, "published": v} for k, v in names.items()]
    entry = {
        "kind": "stats_table",
        "published": "robustnorm/table1",
        "where": {"dataset": "fashion-mnist"},
    }
    threat = {"norm": "linf", "eps": 0.06, "eps_space": "normalized"}
    suite = suite_of([entry], models, attacks, threat_model=threat)
    del suite["title"]
    run = RunBuilder(tmp_path / "run", suite)
    for model in range(5):
        run.add(model, 0, make_rows([1] * 12 + [0, 1, 0, 1]))
    run.add(0, 1, make_rows([1] * 14 + [0, 1]))
    run.add(1, 1, make_rows([0] * 15 + [1]), alarms=("gradients vanish",))
    run.add(2, 1, make_rows([1] * 16))
    run.add(3, 1, [], complete=False, error="the attack left the ball on 3 images")
    run.add(4, 1, make_rows([0] * 8 + [1] * 8))
    for model in range(5):
        run.add(model, 2, make_rows([1] * model + [0] * (16 - model)))
    return run.finish()


@pytest.fixture
def agreement_run(tmp_path: Path) -> Path:
    """A pair that is complete on one model and not on the other, and one by batches."""
    models = [
        {"checkpoint": "fmnist-resnet20-bn", "label": "bn"},
        {"checkpoint": "fmnist-resnet20-bn", "label": "bn (batch)", "stats": "batch"},
        {"checkpoint": "fmnist-resnet20-in", "label": "in"},
        {"checkpoint": "fmnist-resnet20-in", "label": "one of a pair", "attacks": ["pgd20"]},
    ]
    pairs = [["pgd20", "autoattack"], ["autoattack", "natural"]]
    run = RunBuilder(
        tmp_path / "run", suite_of([{"kind": "agreement", "pairs": pairs}], models, ATTACKS)
    )
    for model in range(2):
        run.add(model, 0, make_rows([1] * 16))
        run.add(model, 1, make_rows([1, 1, 1, 0] * 4))
        run.add(model, 3, make_rows([1, 1, 0, 1] + [1, 1, 0, 0] * 3))
    run.add(2, 1, make_rows([0] * 16))
    run.add(2, 3, [], complete=False, error="the attack left the ball on 3 images")
    return run.finish()


@pytest.fixture
def builder(tmp_path: Path) -> Callable[[dict[str, Any]], RunBuilder]:
    """Makes an empty run of a suite."""
    return lambda suite: RunBuilder(tmp_path / "built", suite)
