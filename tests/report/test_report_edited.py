"""``rbench report`` as a user meets it: an edited suite, comparisons, what is missing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from report_runs import RunBuilder, make_rows, suite_of

from bench.cli import main
from bench.store.run_store import RunStore

Build = Callable[[dict[str, Any]], RunBuilder]
Rbench = Callable[..., tuple[int, str, str]]
MODELS = [{"checkpoint": "fmnist-resnet20-bn", "label": "bn"}]
ATTACKS = [
    {"attack": "clean", "label": "natural"},
    {"attack": "pgd", "label": "PGD", "params": {"n_iter": 20}},
]


@pytest.fixture
def rbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Rbench:
    """Runs a command as its script does; returns exit code, output and errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


@pytest.fixture
def run(builder: Build, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A complete run whose suite names no published table."""
    built = builder(suite_of(["leaderboard"], MODELS, ATTACKS))
    for j in range(2):
        built.add(0, j, make_rows([1] * 8 + [0] * 8))
    folder = built.finish()
    monkeypatch.chdir(folder.parent)
    return folder


def test_an_edited_suite_links_rows_without_a_new_run(
    run: Path, rbench: Rbench, tmp_path: Path
) -> None:
    edited = suite_of(
        ["leaderboard"],
        [{**MODELS[0], "label": "BatchNorm", "published": {"model": "resnet18", "norm": "bn"}}],
        [ATTACKS[0], {**ATTACKS[1], "published": "pgd20"}],
    )
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(edited))
    before = (run / "store" / "run.json").read_bytes()
    code, _, err = rbench("report", run, "--compare", "rna/table1")
    assert code == 2 and "--suite FILE --compare rna/table1" in err
    wrong = {**edited, "seed": 1}
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(wrong))
    code, _, err = rbench("report", run, "--suite", "wrong.yaml", "--compare", "rna/table1")
    assert code == 2 and "seed 1 in place of 0" in err
    assert (run / "store" / "run.json").read_bytes() == before
    assert not list(run.glob("*.*"))
    code, out, err = rbench("report", run, "--suite", "mine.yaml", "--compare", "rna/table1")
    assert code == 0, err
    assert [line.rpartition("/")[2] for line in out.splitlines()] == [
        *(f"compare-rna-table1.{ending}" for ending in ("md", "tex", "csv")),
        "report.html",
    ]
    text = (run / "compare-rna-table1.md").read_text()
    assert "| BatchNorm" in text and "52.16" in text
    # The words stay: the next report needs no --suite.
    assert RunStore(run).read_manifest().cells[0].model_label == "BatchNorm"
    assert rbench("report", run, "--compare", "rna/table1", "--format", "md")[0] == 0


def test_the_page_shows_the_comparison_that_is_asked_for(run: Path, rbench: Rbench) -> None:
    suite = suite_of(
        ["leaderboard"],
        [{**MODELS[0], "published": {"model": "wrn32", "norm": "bn"}}],
        [ATTACKS[0], {**ATTACKS[1], "published": "pgd20"}],
    )
    Path("mine.yaml").write_text(yaml.safe_dump(suite))
    assert rbench("report", run, "--suite", "mine.yaml", "--format", "html")[0] == 0
    assert "Published (rna/table1) and measured" not in (run / "report.html").read_text()
    assert rbench("report", run, "--compare", "rna/table1", "--format", "html")[0] == 0
    page = (run / "report.html").read_text()
    assert "Published (rna/table1) and measured" in page and "55.06" in page
    assert "Leaderboard" in page


def test_a_suite_that_is_not_the_runs_leaves_no_folder_behind(
    rbench: Rbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(yaml.safe_dump(suite_of(["leaderboard"], MODELS, ATTACKS)))
    code, _, err = rbench("report", "nothing", "--suite", "mine.yaml")
    assert code == 2 and "nothing: no such folder; expected the folder of a run" in err
    assert not Path("nothing").exists()


def test_a_half_finished_run_says_how_many_cells_are_missing(
    builder: Build, rbench: Rbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = builder(suite_of(["leaderboard"], [*MODELS, {**MODELS[0], "label": "two"}], ATTACKS))
    built.add(0, 0, make_rows([1] * 8 + [0] * 8))
    built.add(0, 1, make_rows([1] * 8 + [0] * 8), complete=False, error="out of memory")
    built.plan(1, 0, refused="no reason")
    folder = built.finish()
    monkeypatch.chdir(folder.parent)
    said = "1 of 3 cells is not run yet, 1 of 3 cells is incomplete: to complete them, rbench run "
    code, out, err = rbench("report", folder, "--format", "md")
    assert code == 0 and "leaderboard.md" in out
    assert err.splitlines()[-1] == f"{said}FILE --out {folder}"
    assert said in rbench("export", folder, "--to", "csv")[2]
    built.add(0, 1, make_rows([1] * 8 + [0] * 8))
    built.add(1, 1, make_rows([1] * 8 + [0] * 8))
    built.finish()
    assert rbench("report", folder, "--format", "md")[2].splitlines() == [
        f"writing the reports of {folder} ..."
    ]


def test_how_to_complete_a_run_names_its_suite(
    builder: Build, rbench: Rbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = suite_of(["leaderboard"], MODELS, ATTACKS, suite="small_run")
    builder(suite).finish()
    monkeypatch.chdir(tmp_path)
    Path("suites/own").mkdir(parents=True)
    Path("suites/own/mine.yaml").write_text(yaml.safe_dump(suite))
    Path("reports").mkdir()
    (tmp_path / "built").rename("reports/small_run")
    err = rbench("report", "reports/small_run", "--format", "md")[2]
    assert (
        err.splitlines()[-1]
        == "2 of 2 cells are not run yet: to complete them, rbench run own/mine"
    )


def test_reports_without_their_rows_name_the_suite_to_run(
    rbench: Rbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("rna_table1", "notes"):
        (tmp_path / "reports" / name).mkdir(parents=True)
    for command in (["report"], ["query"], ["check"], ["export", "--to", "csv"], ["verify"]):
        code, _, err = rbench(command[0], "reports/rna_table1", *command[1:])
        assert code == 2 and err.strip().endswith("run it first: rbench run rna/table1")
    assert (
        "expected reports/notes to be the folder of a run" in rbench("report", "reports/notes")[2]
    )
    assert "no such folder" in rbench("report", "reports/none")[2]


def test_a_lost_manifest_beside_its_cells_is_repaired_not_run_again(
    run: Path, rbench: Rbench
) -> None:
    (run / "store" / "run.json").unlink()
    assert f"`rbench repair {run}` writes it again" in rbench("report", run)[2]


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("power_curve", "axis of power (not RobustNorm"),
        ("gain_table", "under population and under batch statistics"),
        ("transfer_heatmap", "under protocol transfer"),
        ("training_curve", "Without a record of their training: bn"),
        ("examples", "expected an analysis of that name"),
    ],
)
def test_a_kind_that_a_run_has_nothing_of_is_refused(
    kind: str, why: str, run: Path, rbench: Rbench
) -> None:
    code, out, err = rbench("report", run, "--kind", kind)
    assert code == 2 and not out
    assert f"report '{kind}': " in err and why in err
    assert not list(run.glob("*.*"))
