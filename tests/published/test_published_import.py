"""Tables of a user's own, and RobustBench's leaderboards as such."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.cli.app import main
from bench.core.cell import CellSpec, DataSpec
from bench.core.checkpoint import CheckpointFacts
from bench.core.errors import UserError
from bench.core.paths import Where
from bench.core.result import CellInfo
from bench.core.threat import ThreatModel
from bench.published import load_table, lookup, table_ids
from bench.published.files import PaperFile, papers, read_paper
from bench.published.robustbench import import_model_info
from bench.report.papers.mismatches import mismatches
from bench.run.prepare import local_lookup
from bench.suite.load import load_suite

MODEL_INFO = Path(__file__).parent / "model_info"
OWN = {
    "paper": "mine",
    "setting": {"dataset": "cifar10", "eps": "8/255", "protocol": "white_box"},
    "attack_settings": {"pgd20": {"attack": "pgd", "params": {"n_iter": 20}}},
    "tables": {
        "table1": {
            "title": "Mine",
            "columns": ["natural", "pgd20"],
            "rows": [{"norm": "bn", "values": [80.5, None]}, {"norm": "gn", "values": [79, 40]}],
        }
    },
}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes files into the user's folder."""
    folder = tmp_path / "tables"
    folder.mkdir()
    monkeypatch.setenv("RBENCH_PUBLISHED", str(folder))

    def write(content: Any, name: str = "mine.yaml") -> Path:
        text = content if isinstance(content, str) else yaml.safe_dump(content)
        (folder / name).write_text(text)
        return folder / name

    return write


def changed(*path: Any, to: Any) -> dict[str, Any]:
    copy = json.loads(json.dumps(OWN))
    place = copy
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = to
    return copy


def test_packaged_files_are_in_the_format_that_users_write() -> None:
    for name, path in papers().items():
        content = dict(read_paper(name, path))
        for more in ("figures", "equation3"):
            content.pop(more, None)
        PaperFile.model_validate(content)


def test_a_users_table_is_found_and_read_anew(own: Callable[..., Path]) -> None:
    assert "mine/table1" not in table_ids()
    own(OWN)
    assert "mine/table1" in table_ids()
    table = load_table("mine/table1")
    setting = table.setting({"norm": "gn"}, "pgd20")
    assert (setting.dataset, setting.eps) == ("cifar10", 8 / 255)
    assert setting.attack is not None and setting.attack.params == {"n_iter": 20}
    assert lookup("mine/table1", {}, {"norm": "bn"}, "pgd20") is None
    assert lookup("mine/table1", {}, {"norm": "gn"}, "pgd20") == 40
    own(changed("tables", "table1", "rows", 1, "values", 1, to=41.25))
    assert lookup("mine/table1", {}, {"norm": "gn"}, "pgd20") == 41.25


def test_the_folder_beside_the_suites_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RBENCH_PUBLISHED", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "published").mkdir()
    (tmp_path / "published" / "mine.yaml").write_text(yaml.safe_dump(OWN))
    assert "mine/table1" in table_ids()


@pytest.mark.parametrize(
    ("content", "name", "fragment"),
    [
        ("tables: [", "mine.yaml", "not valid YAML"),
        ("!!python/object:os.system {}", "mine.yaml", "tag"),
        ({"paper": "x"}, "mine.yaml", "tables"),
        (changed("tabels", to={}), "mine.yaml", "tables"),
        (changed("tables", "table1", "rows", 0, "values", to=[1]), "mine.yaml", "one for each"),
        (changed("tables", "table1", "rows", 0, "norm", to=[1]), "mine.yaml", "word or a number"),
        (changed("tables", to={"../../x": OWN["tables"]["table1"]}), "mine.yaml", "letters"),  # type: ignore[index]
        (changed("tables", "table1", "exceptions", to=[{"where": 3}]), "mine.yaml", "where"),
        (OWN, "a b.yaml", "letters"),
        (OWN, "rna.yaml", "rename the file"),
    ],
)
def test_a_wrong_file_is_named(
    own: Callable[..., Path], content: Any, name: str, fragment: str
) -> None:
    path = own(content, name)
    with pytest.raises(UserError) as raised:
        table_ids()
    assert fragment in str(raised.value) and str(path) in str(raised.value)


@pytest.mark.parametrize(
    "content",
    [
        changed("setting", "eps", to="much"),
        changed("setting", "datasets", to="cifar10"),
        changed("attack_settings", "pgd20", to={"params": {}}),
        changed("attack_settings", "pgd20", to={"attack": "pgd", "params": 3}),
        changed("tables", "table1", "exceptions", to=[{"arch": ["a"]}]),
    ],
)
def test_a_wrong_setting_is_named(own: Callable[..., Path], content: Any) -> None:
    path = own(content)
    with pytest.raises(UserError) as raised:
        load_table("mine/table1")
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_robustbench_becomes_tables(own: Callable[..., Path]) -> None:
    text, tables = import_model_info(MODEL_INFO)
    assert tables == ["cifar10_l2", "cifar10_linf"]
    own(text, "rb.yaml")
    table = load_table("rb/cifar10_linf")
    rows = {keys["id"]: (keys, values) for keys, values in table.rows}
    keys, values = rows["Rice2020Overfitting"]
    assert values == {"natural": 85.34, "autoattack": 53.42}
    assert keys["additional_data"] is False and "unreliable" not in keys
    setting = table.setting(keys, "autoattack")
    assert (setting.dataset, setting.norm, setting.eps) == ("cifar10", "linf", 8 / 255)
    assert (setting.arch, setting.n_images) == ("WideResNet-34-20", 10_000)
    assert setting.attack is not None and setting.attack.attack == "autoattack"
    keys, values = rows["Made2026Up"]
    assert values["autoattack"] == 40 and keys["external"] == 20.5 and keys["unreliable"] is True
    assert keys["model"] == "ResNet-18 with a twist"
    assert table.setting(keys, "autoattack").eps == 0.031
    said = "RobustBench has Made2026Up marked unreliable and evaluated to 20.5 % by others"
    assert table.setting(keys, "autoattack").caveat == said
    assert table.setting(keys, "natural").caveat == setting.caveat == ""
    l2 = load_table("rb/cifar10_l2")
    assert l2.setting(l2.rows[0][0], "autoattack").norm == "l2"


def info_of(norm: str, eps: float, n_iter: int = 100) -> CellInfo:
    spec = CellSpec(
        checkpoint="x",
        sha256="0" * 64,
        stats=None,
        data=DataSpec(name="cifar10"),
        data_hash="0",
        threat_model=ThreatModel.model_validate({"norm": norm, "eps": eps}),
        attack="autoattack",
        attack_version=3,
        attack_params={"version": "standard", "n_iter": n_iter, "n_queries": 5000},
        protocol="white_box",
        batch_size=100,
        n_draws=1,
        seed=0,
    )
    return CellInfo(
        cell_id=spec.cell_id,
        spec=spec,
        complete=True,
        attack_kind="bounded",
        cluster="sample",
        seconds=1,
        machine="",
        versions={},
        date="",
    )


@pytest.mark.parametrize(
    ("table", "info", "n", "differ"),
    [
        ("rb/cifar10_l2", info_of("l2", 0.5), 10_000, []),
        ("rb/cifar10_l2", info_of("l2", 0.5), 1_000, ["images"]),
        ("rb/cifar10_l2", info_of("linf", 0.5), 10_000, ["threat model"]),
        ("rb/cifar10_l2", info_of("l2", 0.5, n_iter=20), 10_000, ["attack's parameters"]),
    ],
)
def test_comparable_is_decided_from_it(
    own: Callable[..., Path], table: str, info: CellInfo, n: int, differ: list[str]
) -> None:
    own(import_model_info(MODEL_INFO)[0], "rb.yaml")
    found = load_table(table)
    setting = found.setting(found.rows[0][0], "autoattack")
    facts = CheckpointFacts(arch="ResNet-50", norm="bn", dataset="cifar10", training="", std=(1,))
    assert [one.what for one in mismatches(info, n, facts, setting)] == differ


@pytest.mark.parametrize(
    ("field", "value", "fragment"),
    [
        ("clean_acc", "853.4", "clean_acc"),
        ("autoattack_acc", None, "autoattack_acc"),
        ("autoattack_acc", "nan", "autoattack_acc"),
        ("eps", "8/0", "eps"),
        ("eps", None, "eps"),
        ("dataset", "mnist", "cifar10, cifar100, imagenet"),
        ("architecture", ["a"], "architecture"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, field: str, value: Any, fragment: str) -> None:
    folder = tmp_path / "Linf"
    shutil.copytree(MODEL_INFO / "cifar10" / "Linf", folder)
    file = folder / "Rice2020Overfitting.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), field: value}))
    with pytest.raises(UserError) as raised:
        import_model_info(folder)
    assert str(file) in str(raised.value) and fragment in str(raised.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "\xff"])
def test_what_is_no_entry_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "L2").mkdir()
    (tmp_path / "L2" / "a.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError) as raised:
        import_model_info(tmp_path)
    assert "a.json" in str(raised.value) and "\n" not in str(raised.value)
    with pytest.raises(UserError, match="expected RobustBench's model_info"):
        import_model_info(tmp_path / "nowhere")


def test_the_command_writes_what_suites_may_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RBENCH_PUBLISHED", raising=False)

    def rbench(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["rbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    assert rbench("published", "import", "robustbench", MODEL_INFO) == 0
    assert "published: robustbench/cifar10_linf" in capsys.readouterr().out
    assert "robustbench/cifar10_l2" in table_ids()
    elsewhere = tmp_path / "more" / "rb.yaml"
    arguments = ("published", "import", "robustbench", MODEL_INFO / "cifar10" / "L2")
    assert rbench(*arguments, "--to", elsewhere) == 0
    assert "RBENCH_PUBLISHED" in capsys.readouterr().out
    assert rbench("published", "import", "paperswithcode", MODEL_INFO) == 2
    assert "robustbench" in capsys.readouterr().err


def test_a_suite_may_name_an_imported_table(own: Callable[..., Path], tmp_path: Path) -> None:
    own(import_model_info(MODEL_INFO)[0], "rb.yaml")
    suite = {
        "suite": "mine",
        "data": {"name": "fashion-mnist", "limit": 8},
        "threat_model": {"norm": "linf", "eps": "8/255"},
        "models": [
            {"checkpoint": "fmnist-resnet20-bn", "published": {"id": "Rice2020Overfitting"}}
        ],
        "attacks": [{"attack": "autoattack", "published": "autoattack"}],
        "reports": [{"kind": "leaderboard", "published": "rb/cifar10_linf"}],
    }
    lookup = local_lookup(Where(Path(__file__).parents[2] / "checkpoints"))
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(suite))
    assert load_suite(path, lookup).spec.reports[0].published == "rb/cifar10_linf"
    path.write_text(yaml.safe_dump(suite).replace("Rice2020", "Rice2021"))
    with pytest.raises(UserError, match="Rice2021"):
        load_suite(path, lookup)
