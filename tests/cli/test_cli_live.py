"""What ``rbench run`` prints: minimum-norm attacks are marked, and notes said before the run."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from bench.cli.live import RunPrinter
from bench.suite.watcher import Summary

MODELS = ("bn", "in")
KINDS = {"pgd": "bounded", "deepfool": "minimum-norm"}


def plan() -> Any:
    cells = tuple(
        SimpleNamespace(
            cell_id=f"{model} {attack}",
            model_label=model,
            attack_label=attack,
            attack_kind=kind,
            refused="",
        )
        for model in MODELS
        for attack, kind in KINDS.items()
    )
    suite = SimpleNamespace(title="A run", reports=(), union=(), attacks=())
    return SimpleNamespace(cells=cells, suite=suite, absent={}, notes=("sorted by class",))


def cell(cell_id: str) -> tuple[Any, list[Any]]:
    """Three images stand under DeepFool, two of them beyond eps; four under PGD."""
    info = SimpleNamespace(
        cell_id=cell_id,
        complete=True,
        alarms=(),
        cluster="sample",
        attack_kind="minimum-norm" if "deepfool" in cell_id else "bounded",
        seconds=1.0,
        error="",
        spec=SimpleNamespace(adaptive=None, y_target=None),
    )
    kept = 3 if "deepfool" in cell_id else 4
    rows = [
        SimpleNamespace(
            robust=float(i < kept),
            status="beyond_eps" if kept == 3 and i < 2 else "ok",
            batch=0,
        )
        for i in range(6)
    ]
    return info, rows


@pytest.mark.parametrize("terminal", [False, True])
def test_minimum_norm_attacks_are_marked(terminal: bool) -> None:
    file = io.StringIO()
    printer = RunPrinter(Console(file=file, width=120, force_terminal=terminal))
    made = plan()
    costs = {one.cell_id: 1.0 for one in made.cells}
    printer.begin(made, costs, 0)
    assert "sorted by class" in file.getvalue()
    for cell_id in costs:
        printer.show(*cell(cell_id))
    printer.cells_ended(Summary(ran=4, seconds=1.0), {}, Path("nowhere"))
    printer.end((), "finished")
    text = file.getvalue()
    assert "deepfool †" in text and "pgd †" not in text
    assert "† deepfool: minimum-norm attack" in text
    assert "4 of 6 standing images lie beyond eps" in text
