"""Published beside measured: the right pairs, an honest interval, and a word on comparability."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from report_runs import ATTACKS, RunBuilder, make_rows, suite_of

from bench.core.errors import UserError
from bench.metrics import wilson
from bench.report import to_csv, to_markdown
from bench.report.papers.comparison import build_comparison
from bench.report.run_view import RunView
from bench.report.table import Cell, Report
from bench.report.write import write_comparisons

Build = Callable[[dict[str, Any]], RunBuilder]
REPORT = {"kind": "leaderboard", "published": "rna/table1", "where": {"model": "resnet18"}}
BN = {"checkpoint": "fmnist-resnet20-bn", "label": "bn", "published": {"norm": "bn"}}
PGD20 = {"n_iter": 20, "alpha": 2 / 255, "random_start": True, "keep": "last"}


def compared(run: Path, table: str = "rna/table1") -> Report:
    return build_comparison(RunView(run), table)


def numbers(report: Report, model: str, attack: str) -> list[Cell]:
    table = report.tables[0]
    column = [c.label for c in table.columns].index(attack)
    rows = [row for row in table.rows if row.labels[0] == model]
    assert [row.labels[1] for row in rows] == ["paper", "here", "here - paper"]
    return [row.cells[column] for row in rows]


def differences(report: Report) -> dict[str, str]:
    (section,) = [s for s in report.sections if s.title == "What differs"]
    return dict(section.items)


def same_experiment(build: Build, n: int = 10_000, **changes: Any) -> RunBuilder:
    """A run of what the paper's Table 1 says of BN, but for the changes."""
    given = {
        "data": {"name": "cifar10"},
        "threat_model": {"norm": "linf", "eps": 8 / 255},
        "params": PGD20,
        "checkpoint": "cifar10-resnet18-bn-at",
        **changes,
    }
    model = {"checkpoint": given.pop("checkpoint"), "label": "bn", "published": {"norm": "bn"}}
    attack = {
        "attack": "pgd",
        "label": "PGD-20",
        "params": given.pop("params"),
        "published": "pgd20",
    }
    suite = suite_of([REPORT], [{**model, **given.pop("model", {})}], [attack], **given)
    run = build(suite)
    run.add(0, 0, make_rows([1] * (n // 2) + [0] * (n - n // 2)))
    return run


def test_numbers_are_matched_by_what_the_suite_says(leaderboard_run: Path) -> None:
    report = compared(leaderboard_run)
    assert {row.labels[0] for row in report.tables[0].rows} == {"bn", "rna"}
    paper, here, difference = numbers(report, "bn", "pgd20")
    assert paper.value == pytest.approx(0.5216) and paper.n == 10_000
    assert (paper.low, paper.high) == wilson(5216, 10_000)
    assert (here.value, here.n) == (0.5, 16)
    assert difference.value == pytest.approx(0.5 - 0.5216)
    assert difference.low is not None and difference.high is not None
    # With 16 images, the interval is nearly that of our own number.
    low, high = wilson(8, 16)
    assert difference.low == pytest.approx(low - 0.5216, abs=0.01)
    assert difference.high == pytest.approx(high - 0.5216, abs=0.01)
    assert difference.low < low - 0.5216 and difference.high > high - 0.5216
    assert numbers(report, "rna", "autoattack")[0].value == pytest.approx(0.6561)


def test_what_differs_is_said_and_where(leaderboard_run: Path) -> None:
    report = compared(leaderboard_run)
    assert "Not comparable, as these differ" in " ".join(report.head)
    found = differences(report)
    assert found["architecture"] == "resnet20 here, resnet18 there (every number)"
    assert found["data"] == "fashion-mnist here, cifar10 there (every number)"
    assert found["images"] == "16 here, 10,000, the whole test set there (every number)"
    assert found["threat model"] == "linf 0.1 here, linf 8/255 there (every attack)"
    assert found["success"] == "only within eps here, at any distance there (deepfool)"
    assert "natural here, black-box there (rna: every number)" in found["training"]
    assert "protocol" not in found  # fixed_path, where there are paths
    (absent,) = [s for s in report.sections if s.title == "Published and not in this run"]
    assert "model wrn32, norm rna" in dict(absent.items)["rows"]
    assert dict(absent.items)["columns"] == "fgsm, cw, mifgsm"


def test_the_same_experiment_is_comparable(builder: Build) -> None:
    report = compared(same_experiment(builder).finish())
    assert "Comparable: the same experiment, as far as the paper says." in report.head
    difference = numbers(report, "bn", "PGD-20")[2]
    assert difference.extra["comparable"] == "yes" and difference.marks == ()
    # Two samples of 10,000: the interval is sqrt(2) times as wide as that of one.
    assert difference.high is not None and difference.low is not None
    low, high = wilson(5000, 10_000)
    assert difference.high - difference.low == pytest.approx(2**0.5 * (high - low), rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "what", "said"),
    [
        ({"n": 16}, "images", "16 here, 10,000"),
        ({"data": {"name": "cifar100"}}, "data", "cifar100 here, cifar10 there"),
        ({"data": {"name": "npz:x/cifar100_test.npz"}}, "data", "npz:x/cifar100_test.npz here"),
        ({"data": {"name": "cifar10", "split": "train"}}, "data", "train split here"),
        ({"checkpoint": "cifar10-resnet20-bn-at"}, "architecture", "resnet20 here"),
        ({"checkpoint": "cifar10-resnet18-bn"}, "training", "natural here, adversarial there"),
        (
            {
                "threat_model": {"norm": "linf", "eps": 8 / 255, "eps_space": "normalized"},
                "params": {**PGD20, "alpha": 2 / 255 * 0.3081},
            },
            "threat model",
            "(normalized) here, linf 8/255 there",
        ),
        ({"threat_model": {"norm": "l2", "eps": 8 / 255}}, "threat model", "l2 8/255 here"),
        ({"params": {**PGD20, "n_iter": 10}}, "attack's parameters", "n_iter 10 here, n_iter 20"),
        ({"params": {**PGD20, "alpha": 1 / 255}}, "attack's parameters", "alpha 0.125 eps here"),
        ({"params": {**PGD20, "keep": "best"}}, "attack's parameters", "keep best here"),
        (
            {"model": {"protocol": "transfer", "surrogate": {"checkpoint": "x-resnet18-in"}}},
            "protocol",
            "transfer from x-resnet18-in here, white_box there",
        ),
    ],
)
def test_any_one_difference_makes_it_not_comparable(
    builder: Build, changes: dict[str, Any], what: str, said: str
) -> None:
    report = compared(same_experiment(builder, **changes).finish())
    found = differences(report)
    assert list(found) == [what]
    assert said in found[what]
    assert "Not comparable" in " ".join(report.head)
    difference = numbers(report, "bn", "PGD-20")[2]
    assert difference.extra["comparable"] == "no" and difference.marks == ("a",)
    assert dict(report.footnotes)["a"].startswith(f"not comparable: {what} differ")


def test_the_papers_images_in_another_file_are_the_papers_data(builder: Build) -> None:
    run = same_experiment(builder, data={"name": "npz:data/cifar10_test_first1017.npz"})
    assert differences(compared(run.finish())) == {"difference": "nothing that is known"}


def test_rna_under_eot_is_not_the_papers_protocol(builder: Build) -> None:
    change = {"checkpoint": "cifar10-resnet18-rna-at", "model": {"published": {"norm": "rna"}}}
    report = compared(same_experiment(builder, n=16, **change).finish())
    assert "white_box here, fixed_path there" in differences(report)["protocol"]
    assert any("in expectation the same" in text for text in report.head)


def test_steps_and_statistics_of_the_normalized_protocol(builder: Build) -> None:
    """Steps of eps / 10 are recognised in pixels, and batch statistics need the paper's batch."""
    params = {"n_iter": 20, "alpha": 0.06 * 0.3081 / 10, "keep": "last"}
    attacks = [{"attack": "pgd", "label": "PGD", "params": params, "published": "pgd"}]
    models = [
        {
            "checkpoint": "fmnist-resnet20-bn",
            "label": letter,
            "stats": stats,
            "published": {"stats": letter},
        }
        for letter, stats in (("P", "population"), ("B", "batch"))
    ]
    entry = {
        "kind": "stats_table",
        "published": "robustnorm/table1",
        "where": {"dataset": "fashion-mnist"},
    }
    threat = {"norm": "linf", "eps": 0.06, "eps_space": "normalized"}
    run = builder(suite_of([entry], models, attacks, threat_model=threat))
    run.add(0, 0, make_rows([0] * 16))
    run.add(1, 0, make_rows([1] * 16))
    report = compared(run.finish(), "robustnorm/table1")
    found = differences(report)
    assert set(found) == {"images", "batch size"}
    assert found["batch size"] == "4 here, 128 there (B: every number)"
    assert any("clipped to [0, 1] here, there to the smallest" in text for text in report.head)


def test_gaps_stay_gaps(builder: Build) -> None:
    report = compared(builder(suite_of([REPORT], [BN], ATTACKS[1:2])).finish())
    paper, here, difference = numbers(report, "bn", "pgd20")
    assert paper.value is not None and here.value is None and difference.value is None
    assert difference.status == "missing"
    assert "Nothing is measured here yet." in report.head


def test_csv_says_of_each_difference_whether_it_is_comparable(leaderboard_run: Path) -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv(compared(leaderboard_run)))))
    by_place = {(line["model"], line["number"], line["attack"]): line for line in lines}
    line = by_place["bn", "here - paper", "pgd20"]
    assert line["comparable"] == "no" and float(line["published"]) == pytest.approx(0.5216)
    assert "architecture (resnet20 here, resnet18 there)" in line["differ"]
    assert by_place["bn", "paper", "pgd20"]["n"] == "10000"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("rna/tabel1", "did you mean 'rna/table1'"),
        ("rna/table2", "linked to a number of rna/table2"),
        ("robustnorm/table4", "holds no accuracies .*gain_table"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    table: str, message: str, builder: Build, leaderboard_run: Path
) -> None:
    if table == "rna/table2":
        model = {**BN, "published": {"stats": "P"}}
        leaderboard_run = builder(suite_of(["leaderboard"], [model], ATTACKS)).finish()
    with pytest.raises(UserError, match=message):
        compared(leaderboard_run, table)


def test_a_row_that_is_not_told_apart_is_an_error(builder: Build) -> None:
    run = builder(suite_of(["leaderboard"], [BN], ATTACKS)).finish()
    with pytest.raises(UserError, match=r"published of 'bn': 2 rows .* have {norm: bn}") as caught:
        compared(run)
    assert str(caught.value).endswith(
        "choose one of {model: resnet18, norm: bn}, {model: wrn32, norm: bn}"
    )


@pytest.mark.parametrize(
    ("model", "attack", "said", "silent"),
    [
        ({}, "", ["{model: wrn32, norm: rna}", "columns: natural, fgsm, pgd20"], []),
        ({"model": "ResNet18"}, "", ["bn: no row", "did you mean 'resnet18'?", "rows:"], []),
        ({"arch": "resnet18"}, "pgd20", ["no row of rna/table1 has the key 'arch'"], ["columns:"]),
        (
            {"model": "resnet18", "norm": "bn"},
            "pgd2O",
            ["PGD: no column 'pgd2O'; did you mean 'pgd20'?", "columns: natural"],
            ["rows:"],
        ),
    ],
)
def test_what_fails_in_a_link_is_said_with_all_there_is_to_choose_from(
    model: dict[str, Any], attack: str, said: list[str], silent: list[str], builder: Build
) -> None:
    column = {"attack": "pgd", "label": "PGD", "published": attack}
    run = builder(suite_of(["leaderboard"], [{**BN, "published": model}], [column])).finish()
    with pytest.raises(UserError) as caught:
        compared(run)
    text = str(caught.value)
    again = f"then, without a new run: rbench report {run} --suite FILE --compare rna/table1"
    assert text.endswith(again)
    assert all(words in text for words in said) and not any(words in text for words in silent)


def test_comparisons_are_written_beside_the_reports(leaderboard_run: Path) -> None:
    written = write_comparisons(leaderboard_run, ["rna/table1"])
    assert [path.name for path in written] == [
        f"compare-rna-table1.{e}" for e in ("md", "tex", "csv")
    ]
    first = [path.read_bytes() for path in written]
    again = write_comparisons(leaderboard_run, ["rna/table1"], ["csv", "png"])
    assert [path.name for path in again] == ["compare-rna-table1.csv"]
    assert [path.read_bytes() for path in written] == first


def test_an_imported_leaderboard_is_compared_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.published.robustbench import import_model_info

    folder = tmp_path / "published"
    folder.mkdir()
    info = Path(__file__).parents[1] / "published" / "model_info"
    (folder / "rb.yaml").write_text(import_model_info(info)[0])
    monkeypatch.setenv("RBENCH_PUBLISHED", str(folder))
    models = [
        {"checkpoint": "cifar10-resnet20-bn", "label": name, "published": {"id": name}}
        for name in ("Rice2020Overfitting", "Made2026Up")
    ]
    params = {"version": "standard", "n_iter": 100, "n_queries": 5000}
    attack = {"attack": "autoattack", "label": "AA", "params": params, "published": "autoattack"}
    suite = suite_of(["leaderboard"], models, [attack])
    suite |= {"data": {"name": "cifar10"}, "threat_model": {"norm": "linf", "eps": 8 / 255}}
    run = RunBuilder(tmp_path / "run", suite)
    run.add(0, 0, make_rows([1, 0] * 8))
    view = RunView(run.finish())
    text = to_markdown(build_comparison(view, "rb/cifar10_linf"))
    assert "53.42" in text and "Not comparable, as these differ: architecture" in text
    assert "images (16 here, 10,000, the whole test set there)" in text
    assert "threat model (" not in text and "protocol (" not in text
    assert "Made2026Up marked unreliable and evaluated to 20.5 % by others" in text
