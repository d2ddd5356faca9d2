"""What ``rbench run`` prints: counts that do not jump, and the final table."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_runs import ATTACKS, RunBuilder, make_rows, suite_of

from bench.cli.live import RunPrinter
from bench.cli.options import PlainConsole
from bench.core.cell import DataSpec
from bench.suite.plan import Plan, PlannedCell
from bench.suite.spec import SuiteSpec
from bench.suite.watcher import Summary

RIGHT = {"low": 4, "high": 15, "tie": 14, "some": 16}
"""Images right under each attack, of 16; ``some`` is not attacked by autoattack."""


@pytest.fixture
def run(tmp_path: Path) -> RunBuilder:
    models = [{"checkpoint": "fmnist-resnet20-bn", "label": name} for name in RIGHT]
    models[-1]["attacks"] = ["natural", "pgd20", "deepfool"]  # type: ignore[assignment]
    made = RunBuilder(tmp_path / "run", suite_of(["leaderboard"], models, ATTACKS))
    for i, right in enumerate(RIGHT.values()):
        made.add(i, 0, make_rows([1] * 16))
        for j in (1, 2, 3)[: 2 if i == 3 else 3]:
            made.add(i, j, make_rows([1] * right + [0] * (16 - right)))
    made.finish()
    return made


def plan_of(run: RunBuilder) -> Plan:
    suite = SuiteSpec.model_validate(run.suite)
    kinds = ("none", "bounded", "minimum-norm", "bounded")
    cells = [
        PlannedCell(i, j, model.label, attack.label, run.spec(i, j), kinds[j], 16, False, "", 1.0)
        for i, model in enumerate(suite.models)
        for j, attack in enumerate(suite.attacks)
        if model.meets(attack)
    ]
    return Plan(suite, 16, tuple(cells))


def printed(run: RunBuilder, tmp_path: Path, *, terminal: bool = False) -> list[str]:
    """The lines of a run whose cells end in turn with checks of their attacks."""
    target = tmp_path / "printed"
    plan = plan_of(run)
    ids = [cell.cell_id for cell in plan.cells]
    spec = run.spec(0, 1)
    checks = [
        spec.model_copy(update={"data": DataSpec(name="fashion-mnist", limit=n)})
        for n in range(1, 8)
    ]
    with target.open("w") as file:
        console = PlainConsole(file=file, width=120, force_terminal=terminal)
        printer = RunPrinter(console)
        printer.begin(plan, dict.fromkeys([*ids, *(one.cell_id for one in checks)], 1.0), 0)
        info, rows = run.store.read_cell(ids[0])
        for number, cell_id in enumerate(ids):
            printer.show(*run.store.read_cell(cell_id))
            if number % 2:
                made = checks[number // 2]
                printer.show(info.model_copy(update={"spec": made, "cell_id": made.cell_id}), rows)
        summary = Summary(ran=len(ids), swept=5, sentinels=2, seconds=26)
        printer.cells_ended(summary, {}, run.folder)
        printer.end([], "finished")
    return target.read_text().splitlines()


def test_the_count_of_cells_is_that_of_the_table_and_checks_are_counted_apart(
    run: RunBuilder, tmp_path: Path
) -> None:
    lines = printed(run, tmp_path)
    assert lines[0] == "15 cells to run, and 7 checks of attacks"
    cells = [line.split()[0] for line in lines if line.startswith("[")]
    assert cells == [f"[{n}/15]" for n in range(1, 16)]
    checks = [line for line in lines if line.startswith("check ")]
    assert [line.split()[1] for line in checks] == [f"[{n}/7]" for n in range(1, 8)]
    assert checks[0] == "check [1/7] fmnist-resnet20-bn / pgd, n_iter 20: convergence (1 s)"
    said = "15 cells done in 26 s, plus 5 convergence checks and 2 sentinels"
    assert said in lines


def test_the_final_table_has_worst_case_rank_and_marks(run: RunBuilder, tmp_path: Path) -> None:
    lines = printed(run, tmp_path)
    rows = [
        [one.strip() for one in line.strip("│┃").replace("┃", "│").split("│")]
        for line in lines
        if line[:1] in "│┃"
    ]
    heads, *table = rows
    assert heads == ["model", "worst case", "rank", "natural", "pgd20", "deepfool †", "autoattack"]
    shown = {row[0]: row[1:3] for row in table}
    # 15 and 14 of 16 are not told apart; the bound of 16 beats nobody and is no winner.
    assert shown["low"] == ["25.0 [10, 49]", "3"]
    assert shown["high"] == ["93.8 [72, 99]", "★ 1"] and shown["tie"][1] == "★ 1"
    assert shown["some"] == ["≤ 100.0 [81, 100]", "1"]
    said = "\n".join(lines)
    assert "† deepfool: minimum-norm attack: it is not told eps" in said
    assert "★ best worst case under white_box, or not significantly different from it" in said
    assert "≤ attacks are missing" in said


def test_a_suite_without_a_leaderboard_ranks_nothing(tmp_path: Path) -> None:
    model = {"checkpoint": "fmnist-resnet20-bn", "label": "bn"}
    run = RunBuilder(tmp_path / "run", suite_of(["stats_table"], [model], ATTACKS))
    for j in range(4):
        run.add(0, j, make_rows([1] * 16))
    run.finish()
    said = "\n".join(printed(run, tmp_path))
    assert "worst case" not in said and "rank" not in said


def test_a_terminal_sees_both_counts(run: RunBuilder, tmp_path: Path) -> None:
    said = "\n".join(printed(run, tmp_path, terminal=True))
    assert "2 of 15 cells, 0 of 7 checks" in said and "15 of 15 cells, 7 of 7 checks" in said
