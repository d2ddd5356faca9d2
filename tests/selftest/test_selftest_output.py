"""Checkpoints, libraries, tables and the command."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from typer.testing import CliRunner

from bench.cli.app import app
from bench.cli.options import console
from bench.core.errors import UserError
from bench.selftest import (
    CASES,
    Case,
    CaseResult,
    CheckpointResult,
    Outcome,
    Processes,
    Summary,
    check_checkpoint,
    compare,
    pick,
    run_case,
    trials,
)
from bench.selftest.checkpoints import threat_of
from bench.verify import verifier
from bench.zoo import read_card

SHIPPED = Path(__file__).parents[2] / "checkpoints"


def case_result(trap: int, caught: bool, got: str = "a | b") -> CaseResult:
    case = Case(f"case-{trap}", trap, "planted", lambda: Outcome("", "", caught))
    return CaseResult(case, Outcome("expected", got, caught), 0.1)


def checked(*alarms: str) -> CheckpointResult:
    return CheckpointResult("net", "linf:0.1", "natural 90.0 %", alarms)


@pytest.mark.parametrize(
    ("summary", "line", "passed"),
    [
        (Summary([case_result(1, True)]), "1 of 1 planted cases caught", True),
        (
            Summary([case_result(1, True), case_result(2, False)]),
            "1 of 2 planted cases caught",
            False,
        ),
        (Summary([case_result(20, False)]), "1 false alarms on 1 sound models", False),
        (
            Summary([case_result(1, True)], checkpoints=[checked()]),
            "1 of 1 planted cases caught, 0 false alarms on 1 checkpoints",
            True,
        ),
        (
            Summary([case_result(1, True)], checkpoints=[checked("probe_x")]),
            "1 of 1 planted cases caught, 1 false alarms on 1 checkpoints",
            False,
        ),
        (
            Summary([case_result(1, True)], checkpoints=[]),
            "1 of 1 planted cases caught, no checkpoint was found",
            True,
        ),
        (
            Summary(
                [case_result(1, True)],
                checkpoints=[CheckpointResult("n", "", "not evaluated", evaluated=False)],
            ),
            "1 of 1 planted cases caught, no checkpoint was evaluated",
            True,
        ),
    ],
)
def test_the_outcome_in_one_line(summary: Summary, line: str, passed: bool) -> None:
    assert (summary.line(), summary.passed) == (line, passed)


def test_markdown_holds_the_tables_and_where_they_come_from() -> None:
    results = [case_result(1, True), case_result(2, False)]
    summary = Summary(results, checkpoints=[checked("probe_x")])
    text = summary.to_markdown()
    html = MarkdownIt("commonmark").enable("table").render(text)
    assert html.count("<table>") == 2 and '<td style="text-align:left">a | b</td>' in html
    for word in ("machine: ", "torch 2", "date: 2", "MISSED", "probe_x"):
        assert word in text


def command(case_id: str, *more: str) -> tuple[int, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(console, "width", 200)
        arguments = ["selftest", "--case", case_id, "--no-libraries", *more]
        done = CliRunner().invoke(app, arguments)
    if isinstance(done.exception, UserError):
        raise done.exception
    return done.exit_code, done.output


def test_one_case_is_run_and_written(tmp_path: Path) -> None:
    out = tmp_path / "new" / "selftest.md"
    code, shown = command("crash", "--out", str(out))
    assert code == 0 and "1 of 1 planted cases caught" in shown
    assert "out of memory" in shown and "checkpoint" not in shown
    assert "| crash" in out.read_text()


def test_a_missed_case_gives_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier, "TOLERANCE", 1e9)
    code, shown = command("out-of-ball")
    assert code == 1 and "MISSED" in shown and "0 of 1 planted cases caught" in shown


def test_an_unknown_case_is_misuse() -> None:
    with pytest.raises(UserError, match="did you mean 'crash'"):
        command("crahs")


def test_a_damaged_checkpoint_is_no_alarm(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "card.yaml").write_text("name: [")
    found = check_checkpoint(tmp_path / "broken")
    assert not found.evaluated and not found.alarms and "not evaluated" in found.found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fmnist-resnet20-in-at", "fmnist-resnet20-rna-at"])
def test_a_sound_checkpoint_raises_no_alarm(name: str, tmp_path: Path) -> None:
    if not (SHIPPED / name).is_dir():
        pytest.skip(f"{name} is not here")
    shutil.copytree(SHIPPED / name, tmp_path / name)
    found = check_checkpoint(tmp_path / name)
    assert found.evaluated and not found.alarms and "pgd" in found.found


def test_the_threat_model_is_the_cards_or_the_usual_one() -> None:
    card = read_card(SHIPPED / "fmnist-resnet20-bn" / "card.yaml")
    attack = {"threat_model": {"norm": "linf", "eps": 0.05, "eps_space": "pixel"}}
    trained = card.model_copy(update={"recipe": {"attack": attack}})
    other = card.model_copy(update={"recipe": {}, "dataset": "cifar10"})
    threats = [threat_of(one) for one in (trained, card, other)]
    assert threats == ["linf:0.05", "linf:0.1", "linf:0.0313725"]


def test_libraries_are_shown_planted_models_that_are_cases() -> None:
    assert {trial.id for trial in trials()} <= {case.id for case in CASES}


def test_a_library_that_crashes_is_shown_as_such() -> None:
    (trial,) = (trial for trial in trials() if trial.id == "detached")
    found = compare(trial)
    assert found.pyautoattack == found.torchattacks == "crashes: RuntimeError"
    assert "probe_detached_gradient" in found.ours


@pytest.mark.slow
def test_libraries_are_called_as_their_readme_says() -> None:
    found = {t.id: compare(t) for t in trials() if t.id in ("closed-form", "label-noise")}
    assert found["closed-form"].pyautoattack == found["closed-form"].right
    assert float(found["label-noise"].pyautoattack.split(" %")[0]) < 80
    assert abs(float(found["label-noise"].ours.split(" %")[0]) - 90) < 3


@pytest.mark.process
def test_processes_answer_as_one_does_and_in_order(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    cases = [pick(CASES, name) for name in ("out-of-ball", "crash", "store")]
    (trial,) = (trial for trial in trials() if trial.id == "detached")
    with Processes(2) as processes:
        looks = processes.check_checkpoints([tmp_path / "broken"], None)
        compared = processes.compare([trial])
        results = list(processes.run_cases(cases))
        (look,) = looks
        assert list(compared) == [compare(trial)]
    assert [one.case for one in results] == cases
    assert [one.outcome for one in results] == [run_case(case).outcome for case in cases]
    assert look == check_checkpoint(tmp_path / "broken") and not look.evaluated


@pytest.mark.process
def test_a_killed_process_is_said() -> None:
    cases = [pick(CASES, name) for name in ("crash", "batch-size")]
    with pytest.raises(UserError, match="was killed"), Processes(1) as processes:
        for _ in processes.run_cases(cases):
            (worker,) = multiprocessing.active_children()
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
