"""What a reader must not miss in a table: n, intervals, alarms, gaps, and what the paper did."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_runs import ATTACKS, RunBuilder, make_rows, suite_of

from bench.core.errors import UserError
from bench.metrics import wilson
from bench.report import Report, build_reports, write_reports
from bench.report.table import Cell, Footnotes

Build = Callable[[dict[str, Any]], RunBuilder]
MODEL = {"checkpoint": "fmnist-resnet20-bn", "label": "bn"}


def only(run: Path) -> Report:
    ((_, report),) = build_reports(run)
    return report


def cells_of(report: Report, *labels: str) -> dict[str, Cell]:
    table = report.tables[0]
    (row,) = [row for row in table.rows if row.labels == labels]
    return dict(zip([column.label for column in table.columns], row.cells, strict=True))


def footnote(report: Report, cell: Cell) -> str:
    texts = dict(report.footnotes)
    return " ".join(texts[mark] for mark in cell.marks)


def test_numbers_come_with_interval_published_value_and_n(leaderboard_run: Path) -> None:
    report = only(leaderboard_run)
    cell = cells_of(report, "bn")["pgd20"]
    assert cell.lines == ("50.0", "[28.0, 72.0]", "(paper 52.16)")
    assert (cell.low, cell.high) == wilson(8, 16)
    assert (cell.value, cell.n, cell.published) == (0.5, 16, pytest.approx(0.5216))
    assert "n = 16 images for every number" in " ".join(report.head)


def test_worst_case_is_per_image_over_what_is_complete(leaderboard_run: Path) -> None:
    report = only(leaderboard_run)
    assert cells_of(report, "bn")["worst case"].value == 0.25
    assert cells_of(report, "rna")["worst case"].value == pytest.approx(0.65)
    partial = cells_of(report, "bn (batch)")["worst case"]
    assert partial.status == "partial"
    assert "without deepfool, autoattack: an upper bound" in footnote(report, partial)


def test_ranks_tie_unless_paired_differences_tell_models_apart(builder: Build) -> None:
    models = [{**MODEL, "label": str(k)} for k in (15, 14, 4, 0)]
    models.append({**MODEL, "label": "bound", "attacks": ["pgd20"]})
    run = builder(suite_of(["leaderboard"], models, [ATTACKS[1], ATTACKS[3]]))
    for i, right in enumerate((15, 14, 4, 0, 16)):
        for j in range(2 if i < 4 else 1):
            run.add(i, j, make_rows([1] * right + [0] * (16 - right)))
    report = only(run.finish())
    shown = {row.labels[0]: row.cells[-1].lines for row in report.tables[0].rows}
    # 4 against 0 of 16: McNemar's p is 1/8. The upper bound of 16 puts nobody lower.
    assert shown == {"15": ("1",), "14": ("1",), "4": ("3",), "0": ("3",), "bound": ("1",)}
    with write_reports(run.folder, formats=("csv",))[0].open(newline="") as handle:
        lines = list(csv.DictReader(handle))
    in_csv = {line["model"]: line["rank"] for line in lines if line["attack"] == "worst case"}
    assert in_csv == {name: lines[0] for name, lines in shown.items()}
    assert {line["rank"] for line in lines if line["attack"] != "worst case"} == {""}


def test_the_worst_case_is_over_attacks_within_the_suites_eps(builder: Build) -> None:
    pgd = {"attack": "pgd"}
    attacks = [
        {**pgd, "label": "weak", "eps": 0.05},
        {**pgd, "label": "own", "eps": 0.1},
        {**pgd, "label": "strong", "eps": 0.2},
    ]
    run = builder(suite_of(["leaderboard"], [MODEL], attacks))
    for j, right in enumerate((12, 8, 0)):
        run.add(0, j, make_rows([1] * right + [0] * (16 - right)))
    report = only(run.finish())
    assert cells_of(report, "bn")["worst case"].value == 0.5
    assert "larger eps than the suite's" in dict(report.sections[2].items)["strong"]
    assert dict(report.sections[1].items)["weak"] == "pgd (version 1): eps 0.05"
    assert "attacks with an eps of their own say it below" in report.head[1]


def test_the_worst_case_is_over_attacks_on_all_images(builder: Build) -> None:
    attacks = [{"attack": "pgd", "label": "all"}, {"attack": "pgd", "label": "few", "limit": 4}]
    run = builder(suite_of(["leaderboard"], [MODEL], attacks))
    run.add(0, 0, make_rows([1] * 8 + [0] * 8))
    run.add(0, 1, make_rows([0] * 4))
    report = only(run.finish())
    row = cells_of(report, "bn")
    assert (row["worst case"].value, row["worst case"].n) == (0.5, 16)
    assert (row["few"].value, row["few"].n) == (0.0, 4)
    assert "on the first 4 images" in dict(report.sections[2].items)["few"]


def test_gaps_and_alarms_are_marked_and_explained(leaderboard_run: Path) -> None:
    report = only(leaderboard_run)
    row = cells_of(report, "bn (batch)")
    assert row["pgd20"].marks[0] == "!" and row["worst case"].marks[0] == "!"
    assert "more steps" in footnote(report, row["pgd20"])
    assert row["deepfool"].lines == ("incomplete",)
    assert "batch 2: <script>" in footnote(report, row["deepfool"])
    assert row["autoattack"].lines == ("—",)
    assert "refused: drops samples" in footnote(report, row["autoattack"])
    assert [cell.status for cell in row.values()] == [
        "ok",
        "ok",
        "incomplete",
        "refused",
        "partial",
        "partial",
    ]


def test_incomplete_rows_never_become_a_number(builder: Build) -> None:
    """Eight robust images of a cell that broke off must not read as 100 %."""
    run = builder(suite_of(["leaderboard"], [MODEL], ATTACKS[1:2]))
    run.add(0, 0, make_rows([1] * 8), complete=False, error="the attack crashed")
    row = cells_of(only(run.finish()), "bn")
    assert [cell.value for cell in row.values()] == [None, None, None]
    assert [cell.lines for cell in row.values()] == [("incomplete",)] * 2 + [("—",)]


def test_minimum_norm_columns_are_marked_and_their_distance_is_given(leaderboard_run: Path) -> None:
    report = only(leaderboard_run)
    marked = [column.label for column in report.tables[0].columns if "†" in column.marks]
    assert marked == ["deepfool"]
    assert "succeeds only within eps" in dict(report.footnotes)["†"]
    # Broken: the images 4, 8, 12 and 16, at 0.01 and 0.25 a step.
    assert report.tables[-1].rows[0].cells[0].lines == ("0.100 / 2.50", "n=4")


def test_notes_say_how_each_row_was_made(leaderboard_run: Path) -> None:
    models, attacks, reading = only(leaderboard_run).sections
    notes = dict(models.items)
    assert "fixed_path" in notes["rna"] and "20 fresh draws" in notes["rna"]
    assert "batch statistics" in notes["bn (batch)"] and "batches of 4" in notes["bn (batch)"]
    assert dict(attacks.items)["pgd20"] == "pgd (version 1): n_iter 20"
    paper = dict(reading.items)["paper"]
    for words in (
        "CIFAR-10, adversarially trained",
        "Not comparable, as these differ:",
        "data (fashion-mnist here, cifar10 there)",
        "architecture (resnet20 here, resnet18 there)",
        "images (16 here, 10,000, the whole test set there)",
        "threat model (linf 0.1 here, linf 8/255 there, not for every number)",
        "one path is drawn before the attack",
    ):
        assert words in paper


def test_draws_surrogates_and_adversaries_are_said(builder: Build) -> None:
    bn = {"checkpoint": "fmnist-resnet20-bn", "stats": "batch"}
    models = [
        {"checkpoint": "fmnist-resnet20-rna", "label": "rna"},
        {**bn, "label": "single", "adversary": "single"},
        {
            **bn,
            "label": "mixed",
            "protocol": "stats_transfer",
            "surrogate": {"stats": "population"},
        },
        {
            "checkpoint": "fmnist-resnet20-in",
            "label": "in",
            "protocol": "transfer",
            "surrogate": {"checkpoint": "fmnist-resnet20-bn", "stats": "batch"},
        },
    ]
    pgd = {"attack": "pgd", "label": "pgd"}
    attacks = [ATTACKS[0], pgd, {**pgd, "label": "pgd EOT-20", "eot_iter": 20}]
    run = builder(suite_of(["leaderboard"], models, attacks))
    for i in range(4):
        for j in range(3 if i == 0 else 2):
            run.add(i, j, make_rows([1] * 16))
    report = only(run.finish())
    protocols = {c: cell.protocol for c, cell in cells_of(report, "rna").items()}
    assert protocols == {
        "natural": "white_box",
        "pgd": "white_box",
        "pgd EOT-20": "white_box, eot 20",
        "worst case": "white_box / white_box, eot 20",
        "rank": "",
    }
    assert cells_of(report, "single")["pgd"].protocol == "white_box, single"
    assert cells_of(report, "mixed")["pgd"].protocol == "stats_transfer from population"
    assert cells_of(report, "in")["pgd"].protocol == "transfer from fmnist-resnet20-bn (batch)"
    notes = dict(report.sections[0].items)
    assert "gradients averaged over 1 or 20 draw(s) (eot_iter)" in notes["rna"]
    assert "single adversary: one image" in notes["single"] and "draw" not in notes["single"]
    assert "stats_transfer: crafted under population statistics" in notes["mixed"]
    assert "transfer: crafted on fmnist-resnet20-bn (batch), weights_sha256 eeee" in notes["in"]
    assert "joint adversary" in notes["mixed"] and "batches of 4" in notes["in"]
    assert "eot_iter 20 on stochastic models" in dict(report.sections[1].items)["pgd EOT-20"]


def test_same_data_is_not_called_other_data(stats_run: Path) -> None:
    paper = dict(only(stats_run).sections[2].items)["paper"]
    assert "images (16 here" in paper and "data (" not in paper
    assert "architecture (" not in paper and "training (" not in paper


def test_b_minus_p_is_paired_and_gives_a_verdict(builder: Build) -> None:
    models = [{**MODEL, "stats": s, "label": s} for s in ("population", "batch")]
    run = builder(suite_of(["stats_table"], models, ATTACKS[:3]))
    for j, (p, b) in enumerate([(1, 1), (0, 1), (1, 0)]):
        run.add(0, j, make_rows([p] * 15 + [1]))
        run.add(1, j, make_rows([b] * 15 + [1]))
    row = cells_of(only(run.finish()), MODEL["checkpoint"], "B - P")
    verdicts = [cell.extra["verdict"] for cell in row.values()]
    assert verdicts == ["no difference shown", "higher", "lower"]
    assert row["pgd20"].value == pytest.approx(15 / 16)
    p_value = row["pgd20"].extra["p_value"]
    assert isinstance(p_value, float) and 2 / 2**15 < p_value < 0.01  # batches are clusters
    assert "higher" in row["pgd20"].lines and row["deepfool"].lines[0] == "-93.8"


def test_b_minus_p_beside_the_papers(stats_run: Path) -> None:
    row = cells_of(only(stats_run), "fmnist-resnet20-bn", "B - P")
    assert row["pgd"].published == pytest.approx((32.3 - 1.5) / 100)
    assert row["pgd"].lines[-1] == "(paper +30.8)"
    assert row["pgd"].marks[0] == "!"
    gap = cells_of(only(stats_run), "fmnist-resnet20-bgn", "B - P")["pgd"]
    assert gap.value is None and gap.status == "incomplete"


def test_n_is_said_beside_each_number_where_it_differs(builder: Build) -> None:
    run = builder(suite_of(["leaderboard"], [MODEL], ATTACKS[:2]))
    run.add(0, 0, make_rows([1] * 16))
    run.add(0, 1, make_rows([1] * 4))
    report = only(run.finish())
    assert "n=4" in cells_of(report, "bn")["pgd20"].lines
    assert "n=16" in cells_of(report, "bn")["natural"].lines


def test_what_a_suite_leaves_out_is_no_gap_to_fill(builder: Build) -> None:
    models = [MODEL, {**MODEL, "label": "some", "attacks": ["natural", "pgd20"]}]
    run = builder(suite_of(["leaderboard"], models, ATTACKS[:3]))
    for i, j in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1)):
        run.add(i, j, make_rows([1] * 16))
    report = only(run.finish())
    cells = cells_of(report, "some")
    assert cells["deepfool"].lines == ("—",)
    assert footnote(report, cells["deepfool"]).startswith("left out")
    assert cells["worst case"].status == "partial"
    assert "without deepfool" in cells["worst case"].reason


def test_one_batch_has_no_interval_and_says_why(builder: Build) -> None:
    run = builder(suite_of(["leaderboard"], [{**MODEL, "stats": "batch"}], ATTACKS[:1]))
    run.add(0, 0, [replace(row, batch=0) for row in make_rows([1, 0, 1, 1])])
    report = only(run.finish())
    cell = cells_of(report, "bn")["natural"]
    assert cell.lines == ("75.0",)
    assert "one batch" in footnote(report, cell)


def test_a_second_report_of_a_kind_gets_a_name_of_its_own(builder: Build) -> None:
    entries = ["leaderboard", {"kind": "leaderboard", "published": "robustnorm/table1"}]
    model = {**MODEL, "published": {"norm": "bn"}}  # no key of that table: shown without it
    run = builder(suite_of(entries, [model], ATTACKS[:2]))
    run.add(0, 0, make_rows([1] * 16))
    names = [path.name for path in write_reports(run.finish())]
    assert names[::3] == ["leaderboard.md", "leaderboard-2.md", "report.html"]


def test_csv_is_raw_and_in_one_unit(leaderboard_run: Path) -> None:
    with write_reports(leaderboard_run)[2].open(newline="") as handle:
        lines = {(line["model"], line["attack"]): line for line in csv.DictReader(handle)}
    line = lines["bn", "pgd20"]
    assert [line[k] for k in ("value", "n", "published", "status", "protocol")] == [
        "0.5",
        "16",
        "0.5216",
        "ok",
        "white_box",
    ]
    assert float(line["low"]) == pytest.approx(wilson(8, 16)[0], abs=1e-5)
    assert lines["bn (batch)", "pgd20"]["alarms"] == "more steps break more | images"
    assert lines["bn", "deepfool"]["median_l2"] == "2.5"
    assert lines["bn (batch)", "autoattack"]["reason"] == "drops samples from the batch"


def test_what_cannot_be_reported_is_refused(builder: Build, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing: no such folder; expected the folder of a run"):
        write_reports(tmp_path / "nothing")
    run = builder(suite_of([{"kind": "leaderbord"}], [MODEL], ATTACKS[:1]))
    with pytest.raises(UserError, match=r"run\.json: suite\.reports\.0"):
        write_reports(run.finish())
    entry = {"kind": "leaderboard", "published": "rna/table9"}
    run = builder(suite_of([entry], [MODEL], ATTACKS[:1]))
    with pytest.raises(UserError, match="unknown published table 'rna/table9'"):
        write_reports(run.finish())


def test_footnote_letters_go_on_after_z() -> None:
    notes = Footnotes()
    marks = [notes.mark(str(i)) for i in range(28)]
    assert marks[:2] + marks[25:] == ["a", "b", "z", "aa", "ab"]
    assert notes.mark("0") == "a"


def test_the_hash_of_the_file_and_that_of_the_model_have_names_of_their_own(
    builder: Build,
) -> None:
    """A card holds the first, a cell's id the second: the same file with another std differs."""
    run = builder(suite_of(["leaderboard"], [MODEL], [ATTACKS[0]]))
    run.facts = {
        k: one.model_copy(update={"file_sha256": "f" * 64}) for k, one in run.facts.items()
    }
    run.add(0, 0, make_rows([1] * 16))
    note = dict(only(run.finish()).sections[0].items)["bn"]
    assert note.endswith("; file_sha256 ffffffffffff; weights_sha256 000000000000")
