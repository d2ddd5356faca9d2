"""``rbench check`` and ``rbench baseline update``, on made-up runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import Result
from made_checks import HOSTILE
from made_records import made_record
from made_runs import write_run
from test_check_baseline_file import git
from typer.testing import CliRunner

from bench.check.baseline_file import from_text
from bench.check.record import Record
from bench.cli import main
from bench.cli.app import app
from bench.core.errors import UserError

N = 400
RIGHT = [1] * 320 + [0] * 80
FELL = [0] * 40 + RIGHT[40:]
ROSE = [1] * 360 + [0] * 40
NEW = "b" * 64
BASELINE = Path("suites/baselines/made.jsonl")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own, not on GitHub."""
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rbench(*arguments: str) -> Result:
    done = CliRunner().invoke(app, arguments)
    assert done.exception is None or isinstance(done.exception, UserError | SystemExit), done
    return done


def misuse(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Runs a command as the shell does; returns the one message of exit code 2."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as caught:
        patch.setattr(sys, "argv", ["rbench", *arguments])
        main()
    said = capsys.readouterr().err
    assert caught.value.code == 2 and said.startswith("error: ") and said.count("\n") == 1, said
    return said


def both(now: list[int] = RIGHT, before: list[int] = RIGHT, **changes: str) -> None:
    """Writes the baseline of one run, and another run."""
    write_run(Path("old"), _clean(), _record(before))
    write_run(Path("new"), _clean(), _record(now, **changes))
    assert rbench("baseline", "update", "old").exit_code == 0


def _clean() -> Record:
    return made_record(RIGHT, "m", "clean", data_hash="c" * 64)


def _record(hits: list[int], **changes: str) -> Record:
    return made_record(hits, "m", "pgd20", **changes)  # type: ignore[arg-type]


# Exit codes -------------------------------------------------------------------------------------


def test_no_change_is_fine() -> None:
    both()
    done = rbench("check", "new")
    assert done.exit_code == 0
    assert "0 of 2 cells regressed, 2 show no change: exit code 0" in done.output
    assert "points would have been detected with probability 90 %" in done.output
    assert f"new against {BASELINE}" in done.output


def test_a_regression_is_1_and_says_where() -> None:
    both(FELL)
    done = rbench("check", "new")
    assert done.exit_code == 1
    assert "m / pgd20: regressed; 80.0 % before, 70.0 % now, -10.0 [" in done.output
    assert "lost: images 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, ... (40 in all)" in (
        done.output
    )
    assert "exit code 1" in done.output


def test_a_gain_of_unchanged_weights_is_a_weaker_attack() -> None:
    both(ROSE)
    assert rbench("check", "new").exit_code == 1


def test_a_missing_cell_is_3() -> None:
    both()
    record = _record(RIGHT)
    clean = _clean()
    write_run(Path("short"), clean, missing={record.key: record})
    done = rbench("check", "short")
    assert done.exit_code == 3
    assert "m / pgd20: missing; 80.0 % before, no number now, n = 400; not run" in done.output


def test_two_trainings_leave_it_open_unless_they_are_accepted() -> None:
    both(sha256=NEW)
    assert rbench("check", "new").exit_code == 3
    assert rbench("check", "new", "--accept-retrained").exit_code == 0


def test_min_drop_and_alpha() -> None:
    both(FELL)
    assert rbench("check", "new", "--min-drop", "10").exit_code == 1
    done = rbench("check", "new", "--min-drop", "10.1")
    assert done.exit_code == 0 and "1 fell by less than 10.1 points" in done.output
    # The column says what the headline says.
    assert "0 of 2 cells regressed" in done.output and done.output.count("regressed") == 1
    assert "small drop" in done.output
    assert rbench("check", "new", "--alpha", "1e-15").exit_code == 0


@pytest.mark.parametrize("drop", [1, 3, 11, 29])
def test_a_drop_of_exactly_min_drop_counts(drop: int) -> None:
    n = 1_000
    both([0] * drop + [1] * (n - drop), [1] * n)
    assert rbench("check", "new", "--alpha", "0.9999", "--min-drop", str(drop / 10)).exit_code == (
        1 if drop > 1 else 0  # a single flip is never shown
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none"], "none: no such folder; expected the folder of a run"),
        (["old", "--baseline", "none"], "no such baseline"),
        (["old", "--min-drop", "-1"], "--min-drop: expected points from 0 to 100, found -1"),
        (["old", "--min-drop", "nan"], "--min-drop: expected points"),
        (["old", "--alpha", "0"], "--alpha: expected a probability between 0 and 1, found 0"),
        (["old", "--alpha", "nan"], "--alpha: expected a probability"),
        (["old", "--json", "-", "--junit", "-"], "--junit and --json: expected a file each, found"),
        (["old", "--json", "f", "--markdown", "f"], "--markdown and --json: expected a file each"),
        (["old", "--json", "."], "cannot be written"),
        (["old", "--junit", "old/store/run.json/x"], "cannot be written"),
    ],
)
def test_misuse_is_2(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    both()
    capsys.readouterr()
    assert said in misuse(capsys, "check", *arguments)


def test_a_suite_without_a_baseline(capsys: pytest.CaptureFixture[str]) -> None:
    write_run(Path("run"), _record(RIGHT))
    said = misuse(capsys, "check", "run")
    assert f"{BASELINE}: no baseline of suite 'made' yet" in said
    assert "rbench baseline update run" in said
    write_run(Path("odd"), _record(RIGHT), suite="../../odd")
    assert "expected a run of a suite that is named in a-z" in misuse(capsys, "check", "odd")
    assert rbench("check", "odd", "--baseline", "run").exit_code == 0


# Baselines --------------------------------------------------------------------------------------


@pytest.mark.process
def test_a_run_folder_and_a_revision_as_baseline() -> None:
    both(FELL)
    assert rbench("check", "new", "--baseline", "old").exit_code == 1
    git(Path(), "init", "--initial-branch", "main")
    git(Path(), "add", "suites")
    git(Path(), "commit", "-m", "one")
    assert rbench("baseline", "update", "new", "--accept-regressions").exit_code == 0
    assert rbench("check", "new").exit_code == 0
    done = rbench("check", "new", "--baseline", f"main:{BASELINE}")
    assert done.exit_code == 1 and f"new against main:{BASELINE}" in done.output


def test_other_versions_are_noted() -> None:
    both()
    write_run(Path("newer"), _record(RIGHT), torch="9.0")
    done = rbench("check", "newer")
    assert "made with other versions or on another machine: torch 2.8.0, torch 9.0" in done.output


# Outputs ----------------------------------------------------------------------------------------


def test_files_are_written() -> None:
    both(FELL)
    files = ("--markdown", "out/c.md", "--junit", "out/c.xml", "--json", "out/c.json")
    assert rbench("check", "new", *files).exit_code == 1
    assert Path("out/c.md").read_text().startswith("### rbench check made: 1 of 2 cells regressed")
    assert ElementTree.parse("out/c.xml").getroot()[0].attrib["failures"] == "1"
    assert json.loads(Path("out/c.json").read_text())["exit_code"] == 1


@pytest.mark.parametrize(
    ("option", "read"),
    [
        ("--json", lambda text: json.loads(text)["exit_code"]),
        ("--junit", lambda text: int(ElementTree.fromstring(text)[0].attrib["failures"])),
        ("--markdown", lambda text: text.count("| **regressed** |")),
    ],
)
def test_standard_output_holds_the_file_alone(option: str, read: Callable[[str], int]) -> None:
    both(FELL)
    done = rbench("check", "new", option, "-", "--annotations")
    assert read(done.stdout) == 1
    assert "exit code 1" in done.stderr and "::error title=" in done.stderr


def test_a_device_is_written_to_and_stays_one() -> None:
    both()
    assert rbench("check", "new", "--json", "/dev/null").exit_code == 0
    assert not Path("/dev/null").is_file()


# GitHub -----------------------------------------------------------------------------------------


def test_a_job_on_github_gets_notes_and_a_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    both(FELL)
    assert "::error" not in rbench("check", "new").output
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    Path("summary.md").write_text("# Before\n\n")
    done = rbench("check", "new")
    assert done.exit_code == 1
    assert "\n::error title=regressed%3A m / pgd20::m / pgd20: regressed; 80.0 %25" in done.output
    summary = Path("summary.md").read_text()
    assert summary.startswith("# Before\n\n### rbench check made: 1 of 2 cells")
    assert "::error" not in rbench("check", "new", "--no-annotations").output
    assert Path("summary.md").read_text() == summary


def test_a_summary_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    both()
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "none/summary.md")
    capsys.readouterr()
    assert "GITHUB_STEP_SUMMARY" in misuse(capsys, "check", "new", "--annotations")


def test_no_label_is_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    label = "::add-mask::a"
    records = [replace(_record(hits), model=label, attack=HOSTILE) for hits in (RIGHT, FELL)]
    for name, record in zip(("old", "new"), records, strict=True):
        write_run(Path(name), record)
    assert rbench("baseline", "update", "old").exit_code == 0
    for done in (rbench("check", "new"), rbench("baseline", "update", "new")):
        token, active = "", []
        for line in done.output.splitlines():
            if line.startswith("::stop-commands::"):
                token = line.removeprefix("::stop-commands::")
                assert len(token) == 32
            elif token and line == f"::{token}::":
                token = ""
            elif not token:
                active.append(line)
        assert not token
        assert all(line.startswith("::error title=") for line in active)
        assert label in done.output


# baseline update --------------------------------------------------------------------------------


def test_an_update_says_what_changes() -> None:
    both(FELL)
    first = BASELINE.read_bytes()
    done = rbench("baseline", "update", "new", "--accept-regressions")
    assert done.exit_code == 0
    assert "against the baseline before: 1 of 2 cells regressed, 1 shows no change" in done.output
    assert "- m / pgd20: regressed; 80.0 % before, 70.0 % now" in done.output
    assert f"wrote 2 cells to {BASELINE}; commit it" in done.output
    assert BASELINE.read_bytes() != first
    back = rbench("baseline", "update", "old", "--accept-regressions")  # the attack got weaker
    assert back.exit_code == 0
    assert BASELINE.read_bytes() == first
    again = rbench("baseline", "update", "old")
    assert again.exit_code == 0 and "is this run's already" in again.output


@pytest.mark.parametrize("flags", [[], ["--force"]])
def test_a_better_baseline_is_not_lowered_by_accident(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    both(FELL)
    first = BASELINE.read_bytes()
    said = misuse(capsys, "baseline", "update", "new", *flags)
    assert "found 1: m / pgd20; look for the cause" in said
    assert "--accept-regressions" in said and BASELINE.read_bytes() == first


def test_a_drop_that_is_no_regression_needs_no_flag() -> None:
    both([0] * 2 + RIGHT[2:])
    assert rbench("baseline", "update", "new").exit_code == 0
    assert rbench("check", "new").exit_code == 0


def test_an_update_elsewhere() -> None:
    both()
    BASELINE.unlink()
    done = rbench("baseline", "update", "old", "--to", "there/b.jsonl")
    assert done.exit_code == 0 and not BASELINE.exists()
    assert rbench("check", "new", "--baseline", "there/b.jsonl").exit_code == 0


def test_an_incomplete_run_is_no_baseline(capsys: pytest.CaptureFixture[str]) -> None:
    record = _record(RIGHT)
    clean = _clean()
    write_run(Path("run"), clean, missing={record.key: record})
    said = misuse(capsys, "baseline", "update", "run")
    assert "found 1 cells without a number: m / pgd20 (not run)" in said and "--force" in said
    assert not BASELINE.exists()
    assert rbench("baseline", "update", "run", "--force").exit_code == 0
    assert list(from_text(BASELINE.read_text(), "x").records) == [("m", "clean")]


def test_a_run_without_any_cell_is_none_even_by_force(capsys: pytest.CaptureFixture[str]) -> None:
    record = _record(RIGHT)
    write_run(Path("run"), missing={record.key: record})
    said = misuse(capsys, "baseline", "update", "run", "--force")
    assert "expected at least one complete cell" in said
    assert not BASELINE.exists()


def test_a_run_with_alarms_is_no_baseline(capsys: pytest.CaptureFixture[str]) -> None:
    write_run(Path("run"), replace(_record(RIGHT), alarms=("gradients vanish", "zeros")))
    said = misuse(capsys, "baseline", "update", "run")
    assert "m / pgd20 (gradients vanish, zeros)" in said and "--force" in said
    assert not BASELINE.exists()
    assert rbench("baseline", "update", "run", "--force").exit_code == 0
    # What was accepted is not found again, and a new one is.
    assert rbench("check", "run").exit_code == 0
    write_run(Path("more"), replace(_record(RIGHT), alarms=("more", "zeros")))
    done = rbench("check", "more")
    assert done.exit_code == 1 and "a new alarm: more" in done.output


@pytest.mark.process
def test_very_many_cells_are_not_all_named(capsys: pytest.CaptureFixture[str]) -> None:
    records = [
        replace(made_record(RIGHT, f"m{i}", seed=i), alarms=("zeros",))  # type: ignore[arg-type]
        for i in range(30)
    ]
    write_run(Path("run"), *records)
    said = misuse(capsys, "baseline", "update", "run")
    assert "in 30 cells" in said and "and 20 more" in said


def test_another_file_is_not_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    write_run(Path("run"), _record(RIGHT))
    Path("notes.txt").write_text("mine\n")
    said = misuse(capsys, "baseline", "update", "run", "--to", "notes.txt")
    assert "--force replaces it" in said and Path("notes.txt").read_text() == "mine\n"
    assert rbench("baseline", "update", "run", "--to", "notes.txt", "--force").exit_code == 0
    assert rbench("check", "run", "--baseline", "notes.txt").exit_code == 0


def test_a_run_that_cannot_be_written_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    write_run(Path("run"), replace(_record(RIGHT), batch=(1,) * 50 + (0,) * 50 + (2,) * 300))
    said = misuse(capsys, "baseline", "update", "run")
    assert "run: cannot be written as a baseline: m / pgd20: its images are not in batch" in said


def test_help_names_the_exit_codes() -> None:
    done = rbench("check", "--help")
    assert "Exit codes: 0 no, 1 regression, 2 misuse, 3 some results" in " ".join(
        done.output.split()
    )
    assert "baseline" in rbench("--help").output


def test_a_budget_is_refused_with_what_to_do_instead(capsys: pytest.CaptureFixture[str]) -> None:
    said = misuse(capsys, "check", "suites/guard.yaml", "--budget", "5m")
    assert "--budget: no longer there" in said and "suites/smoke.yaml" in said
