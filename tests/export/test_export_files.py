"""``rbench export``: files that other tools read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from report_runs import HOSTILE, RunBuilder, make_rows, suite_of

from bench.core.errors import UserError
from bench.core.result import Row
from bench.export.huggingface import export_cards
from bench.export.robustbench import Exported, export_robustbench
from bench.export.write import file_stems
from bench.metrics import wilson
from bench.report.run_view import RunView

Rbench = Callable[..., tuple[int, str, str]]
STANDARD = {"version": "standard", "n_iter": 100, "n_queries": 5000, "n_target_classes": 9}


def test_csv_and_parquet_hold_every_row(rbench: Rbench, run_folder: Path, tmp_path: Path) -> None:
    assert rbench("export", run_folder, "--to", "parquet")[0] == 0
    table = pq.read_table(run_folder / "export" / "rows.parquet")
    assert table.num_rows == 16 + 16 + 8 + 16
    code, text, _ = rbench("export", run_folder, "--to", "csv", "--out", "-")
    lines = list(csv.DictReader(io.StringIO(text)))
    assert code == 0 and [line["model"] for line in lines] == table["model"].to_pylist()
    assert {line["model"] for line in lines} == {"bn", HOSTILE}
    assert float(lines[3]["linf"]) == table["linf"][3].as_py()
    out = tmp_path / "all.csv"
    assert rbench("export", run_folder, "--to", "csv", "--out", out)[0] == 0
    assert out.read_bytes().decode() == text


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["--to", "huggingface"], "unknown format"),
        (["--to", "parquet", "--out", "-"], "no text"),
        (["--to", "robustbench"], "AutoAttack is refused: drops samples"),
    ],
)
def test_misuse_is_one_line(
    rbench: Rbench, run_folder: Path, arguments: list[str], fragment: str
) -> None:
    code, _, err = rbench("export", run_folder, *arguments)
    assert code == 2 and fragment in err and err.count("\n") == 1
    assert not (run_folder / "export").exists()


def autoattacked(folder: Path, *, stats: str | None = None, **changes: Any) -> Path:
    """A run of one model on CIFAR-10 under AutoAttack, with changes to suite, attack or cell."""
    attack = {"attack": "autoattack", "label": "AA", "params": {**STANDARD}}
    attack["params"] |= changes.pop("params", {})
    attack["attack"] = changes.pop("attack", "autoattack")
    model = {"checkpoint": changes.pop("checkpoint", "cifar10-resnet20-bn"), "label": "bn"}
    model |= {"stats": stats} if stats else {}
    model |= changes.pop("model", {})
    cell = changes.pop("cell", {})
    suite = suite_of(["leaderboard"], [model], [attack], **changes)
    suite["data"] = changes.get("data", {"name": "cifar10"})
    suite["threat_model"] = changes.get("threat_model", {"norm": "linf", "eps": 8 / 255})
    run = RunBuilder(folder, suite)
    spec_kind = {"attack_kind": "bounded"}
    run.add(0, 0, make_rows([1, 0, 0, 0] * 4), **{**spec_kind, **cell})
    return run.finish()


def export_of(folder: Path) -> Exported:
    return export_robustbench(RunView(folder))


def test_an_entry_has_robustbench_fields(tmp_path: Path) -> None:
    ((name, content),) = export_of(autoattacked(tmp_path / "run")).files.items()
    assert name == "cifar10/Linf/bn.json"
    entry = json.loads(content)
    # In the order of robustbench.utils.ModelInfo, without corruptions, and what files add to it.
    assert list(entry) == [
        *("link", "name", "authors", "additional_data", "number_forward_passes", "dataset"),
        *("venue", "architecture", "eps", "clean_acc", "reported", "autoattack_acc"),
        *("footnote", "unreliable"),
    ]
    assert entry["dataset"] == "cifar10" and entry["eps"] == "8/255"
    assert entry["clean_acc"] == "100.00" and entry["autoattack_acc"] == "25.00"
    assert entry["architecture"] == "resnet20" and entry["number_forward_passes"] == 1
    assert entry["link"] is None and entry["unreliable"] is False
    low, high = wilson(4, 16)
    assert f"25.00% with 95% interval [{100 * low:.2f}, {100 * high:.2f}]" in entry["footnote"]
    assert "16 test images of 10,000, so not comparable" in entry["footnote"]


def test_an_alarm_makes_it_unreliable(tmp_path: Path) -> None:
    found = export_of(autoattacked(tmp_path / "run", cell={"alarms": ("gradients vanish",)}))
    (content,) = found.files.values()
    entry = json.loads(content)
    assert entry["unreliable"] is True and "alarm: gradients vanish" in entry["footnote"]


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"params": {"version": "rand"}}, "expected version standard, found rand"),
        ({"params": {"n_iter": 20}}, "expected n_iter 100, found 20"),
        ({"params": {"n_queries": 100}}, "n_queries"),
        ({"params": {"n_restarts": 5}}, "n_restarts"),
        ({"threat_model": {"norm": "linf", "eps": 0.1}}, "expected linf 8/255 or l2 0.5 in pixels"),
        ({"threat_model": {"norm": "l2", "eps": 8 / 255}}, "found l2"),
        (
            {"threat_model": {"norm": "linf", "eps": 8 / 255, "eps_space": "normalized"}},
            "(normalized)",
        ),
        ({"data": {"name": "fashion-mnist"}}, "found fashion-mnist"),
        ({"data": {"name": "cifar10", "split": "train"}}, "test split"),
        ({"stats": "batch"}, "depends on the batch"),
        ({"checkpoint": "cifar10-resnet20-rna"}, "stochastic"),
        ({"model": {"protocol": "fixed_path"}}, "expected protocol white_box, found fixed_path"),
        ({"cell": {"complete": False, "error": "out of memory"}}, "out of memory"),
        ({"attack": "torchattacks:AutoAttack"}, "no cell of autoattack or pyautoattack"),
    ],
)
def test_another_evaluation_is_refused_with_what_differs(
    tmp_path: Path, changes: dict[str, Any], fragment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from report_runs import KINDS

    monkeypatch.setitem(KINDS, "torchattacks:AutoAttack", "bounded")
    with pytest.raises(UserError) as raised:
        export_of(autoattacked(tmp_path / "run", **changes))
    assert fragment in str(raised.value) and "\n" not in str(raised.value)


def test_pyautoattack_is_autoattack_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from report_runs import KINDS

    monkeypatch.setitem(KINDS, "pyautoattack", "bounded")
    assert export_of(autoattacked(tmp_path / "run", attack="pyautoattack")).files


def test_models_that_are_no_entry_are_named(rbench: Rbench, tmp_path: Path) -> None:
    models = [
        {"checkpoint": "cifar10-resnet20-bn", "label": "bn"},
        {"checkpoint": "cifar10-resnet20-in", "label": HOSTILE},
    ]
    attack = {"attack": "autoattack", "label": "AA", "params": STANDARD}
    suite = suite_of(["leaderboard"], models, [attack])
    suite |= {"data": {"name": "cifar10"}, "threat_model": {"norm": "l2", "eps": 0.5}}
    run = RunBuilder(tmp_path / "run", suite)
    run.add(0, 0, make_rows([1] * 16))
    code, out, err = rbench("export", run.finish(), "--to", "robustbench")
    assert code == 3 and "cifar10/L2/bn.json" in out
    assert err.count("\n") == 1 and "not run" in err
    assert (tmp_path / "run" / "export" / "robustbench" / "cifar10" / "L2" / "bn.json").is_file()


def test_a_card_has_metadata_and_a_table(run_folder: Path) -> None:
    files = export_cards(RunView(run_folder))
    assert list(files) == ["bn.md", next(n for n in files if n != "bn.md")]
    _, head, section = files["bn.md"].decode().split("---\n", 2)
    (index,) = yaml.safe_load(head)["model-index"]
    assert index["name"] == "bn"
    clean, attacked, worst = index["results"]  # the incomplete and refused cells have no number
    assert clean["metrics"][0]["value"] == 15 / 16
    (metric,) = attacked["metrics"]
    low, high = wilson(8, 16)
    assert metric["type"] == "accuracy" and metric["value"] == 0.5
    assert metric["args"]["threat_model"] == "linf 0.1" and metric["args"]["n"] == 16
    assert (metric["args"]["low"], metric["args"]["high"]) == pytest.approx((low, high))
    assert metric["args"]["alarms"] == ["more steps break more"]
    assert attacked["dataset"] == {
        "type": "fashion-mnist",
        "name": "fashion-mnist",
        "split": "test",
    }
    assert f"| 50.0 ! | {100 * low:.1f} to {100 * high:.1f} | 16 |" in section
    assert "more steps break more" in section
    (metric,) = worst["metrics"]
    assert metric["name"] == "Robust accuracy, worst case over pgd20" and metric["value"] == 0.5
    assert metric["args"]["attacks"] == ["pgd20"] and "deepfool" in metric["args"]["note"]
    assert f"| worst case | linf 0.1 | white_box | 50.0 ! | {100 * low:.1f}" in section
    assert "worst case without deepfool, autoattack: an upper bound" in section
    assert "upper bound on robustness: a stronger attack may lower it" in section


def card_of(folder: Path, attacks: list[dict[str, Any]], *rows: list[Row]) -> tuple[Any, str]:
    models = [{"checkpoint": "fmnist-resnet20-bn", "label": "bn"}]
    run = RunBuilder(folder, suite_of(["leaderboard"], models, attacks))
    for j, found in enumerate(rows):
        run.add(0, j, found)
    _, head, section = export_cards(RunView(run.finish()))["bn.md"].decode().split("---\n", 2)
    (index,) = yaml.safe_load(head)["model-index"]
    return [result["metrics"][0] for result in index["results"]], section


def test_a_shortened_attack_says_its_parameters(tmp_path: Path) -> None:
    """Whoever reads AA thinks of 100 steps and 5,000 queries."""
    full = {"attack": "autoattack", "label": "AA", "params": STANDARD}
    short = {"attack": "autoattack", "label": "Auto", "params": {**STANDARD, "n_iter": 10}}
    rows = make_rows([1] * 8 + [0] * 8)
    metrics, section = card_of(tmp_path / "run", [full, short], rows, rows)
    names = [metric["name"] for metric in metrics]
    assert names == [
        "Robust accuracy, AA",
        "Robust accuracy, Auto (n_iter 10)",
        "Robust accuracy, worst case over AA, Auto (n_iter 10)",
    ]
    assert metrics[1]["args"]["params"] == {**STANDARD, "n_iter": 10}
    assert "| Auto (n_iter 10) |" in section and "n_iter 100, n_queries 5000" in section


def test_minimum_norm_attacks_are_marked(tmp_path: Path) -> None:
    attacks = [
        {"attack": "pgd", "label": "pgd", "params": {"n_iter": 20}},
        {"attack": "deepfool", "label": "df"},
    ]
    rows = make_rows([1] * 6 + [0, 0])
    found = [replace(row, status="beyond_eps") for row in rows[:4]] + rows[4:]
    metrics, section = card_of(tmp_path / "run", attacks, make_rows([1] * 8), found)
    assert "| df † |" in section and "| pgd † |" not in section
    assert "no equal of the bounded attacks; 4 of 6 standing images lie beyond eps" in section
    said = {key: metrics[1]["args"][key] for key in ("kind", "standing", "standing_beyond_eps")}
    assert said == {"kind": "minimum-norm", "standing": 6, "standing_beyond_eps": 4}
    assert "kind" not in metrics[0]["args"]


def test_hostile_words_stay_words(run_folder: Path) -> None:
    files = export_cards(RunView(run_folder))
    (name,) = set(files) - {"bn.md"}
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.")
    _, head, section = files[name].decode().split("---\n", 2)
    assert yaml.safe_load(head)["model-index"][0]["name"] == HOSTILE
    assert "<script>" not in section and "[a](b)" not in section


def test_the_hub_reads_the_metadata(run_folder: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard(export_cards(RunView(run_folder))["bn.md"].decode())
    first, second, _ = card.data.eval_results
    assert (first.dataset_type, second.metric_value) == ("fashion-mnist", 0.5)


def test_file_names_are_plain_and_apart() -> None:
    assert file_stems(["bn", "BN", "a/../b", "é ü", "", "日本", "model"]) == [
        *("bn", "BN-2", "a-b", "e-u", "model", "model-2", "model-3"),
    ]
