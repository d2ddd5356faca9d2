"""The papers' numbers are the papers' numbers, and are found by what names them."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.core.errors import UserError
from bench.core.spec import digest
from bench.published import load_table, lookup, table_ids

FIGURES = ["fig1", "fig1_about", "fig5a", "fig5b", "fig5b_drop", "fig5c"]


def packaged(paper: str) -> dict[str, Any]:
    content = yaml.safe_load((resources.files("bench.published") / f"{paper}.yaml").read_text())
    assert isinstance(content, dict)
    return content


@pytest.mark.parametrize("paper", ["rna", "robustnorm"])
def test_transcription_equals_the_source(paper: str, shared_dir: Path) -> None:
    """Value by value; what is here besides says how it was measured."""
    source = yaml.safe_load((shared_dir / "published" / f"{paper}.yaml").read_text())
    ours = packaged(paper)
    assert {key: ours[key] for key in source if key != "tables"} == {
        key: value for key, value in source.items() if key != "tables"
    }
    assert list(ours["tables"]) == list(source["tables"])
    for name, table in source["tables"].items():
        here = ours["tables"][name]
        assert {key: here[key] for key in table if key != "rows"} == {
            key: value for key, value in table.items() if key != "rows"
        }
        for row, expected in zip(here["rows"], table["rows"], strict=True):
            assert row == expected, (name, row)
        assert set(here) - set(table) <= {"setting", "exceptions"}


def test_numbers_are_those_that_were_checked_against_the_papers() -> None:
    """Holds without the source at hand: a changed digit changes the hash."""
    tables = [load_table(table_id) for table_id in table_ids()]
    assert digest([(t.id, t.columns, [(dict(k), dict(v)) for k, v in t.rows]) for t in tables]) == (
        "506c7ee6de6bdd46"
    )
    n_values = sum(v is not None for t in tables for _, row in t.rows for v in row.values())
    assert n_values == 493


@pytest.mark.parametrize(
    ("table", "where", "row", "column", "expected"),
    [
        ("rna/table1", {"model": "resnet18"}, {"norm": "bn"}, "pgd20", 52.16),
        ("rna/table1", {"model": "wrn32"}, {"norm": "rna"}, "autoattack", 67.88),
        ("rna/table3", {}, {"method": "RobNet"}, "cifar10_autoattack", None),
        ("rna/table1", {"model": "resnet18"}, {"norm": "fixup"}, "pgd20", None),
        ("robustnorm/table1", {"dataset": "fashion-mnist"}, {"stats": "B"}, "bim", 32.4),
        ("robustnorm/table1", {"eps": "0.06"}, {"stats": "P"}, "pgd", 1.5),
        ("robustnorm/table1", {"stats": "P", "dataset": "mnist"}, {"stats": "B"}, "cw", 46.2),
        # Figures, as the text and the captions give their numbers.
        ("rna/fig1", {}, {"source": "bn", "target": "ln"}, "pgd7", 71.29),
        ("rna/fig1", {}, {"source": "in", "target": "ln"}, "pgd7", 74.34),
        ("rna/fig1_about", {}, {"entries": "off-diagonal"}, "pgd7", 70),
        ("rna/fig5a", {}, {"norm": "rna"}, "pgd10", 60.70),
        ("rna/fig5a", {}, {"norm": "rna"}, "pgd100", 59.94),
        ("rna/fig5b", {}, {"norm": "rna"}, "pgd-eps2", 80.06),
        ("rna/fig5b", {}, {"norm": "rna"}, "pgd-eps20", 24.90),
        ("rna/fig5b_drop", {}, {"norm": "bn"}, "drop", 64.68),
        ("rna/fig5c", {}, {"norm": "in+bn", "path_difference": 10}, "pgd", 61.09),
        ("robustnorm/fig3", {"dataset": "cifar10"}, {"norm": "rn"}, "pgd", 70),
    ],
)
def test_lookup(
    table: str,
    where: dict[str, object],
    row: dict[str, object],
    column: str,
    expected: float | None,
) -> None:
    assert lookup(table, where, row, column) == expected


@pytest.mark.parametrize(
    ("table", "where", "row", "column", "message"),
    [
        ("rna/tabel1", {}, {}, "pgd20", "did you mean 'rna/table1'"),
        ("rna/table1", {"model": "resnet18"}, {"norm": "bn"}, "pgd2", "did you mean 'pgd20'"),
        ("rna/table1", {"modle": "resnet18"}, {"norm": "bn"}, "pgd20", "did you mean 'model'"),
        (
            "rna/table1",
            {},
            {"norm": "bn"},
            "pgd20",
            "2 rows .* choose one of {model: resnet18, norm: bn}, ",
        ),
    ],
)
def test_lookups_that_cannot_be_meant_are_refused(
    table: str, where: dict[str, object], row: dict[str, object], column: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        lookup(table, where, row, column)


def test_every_table_loads_and_every_accuracy_is_a_percentage() -> None:
    tables = [f"rna/table{i}" for i in range(1, 6)] + [f"robustnorm/table{i}" for i in range(1, 7)]
    figures = ["robustnorm/fig3", *(f"rna/{name}" for name in FIGURES)]
    assert table_ids() == sorted(tables + figures)
    for table_id in table_ids():
        table = load_table(table_id)
        assert table.title and table.measured and table.training
        for _, values in table.rows:
            assert tuple(values) == table.columns
            if table.unit == "percent accuracy":
                assert all(v is None or 0 <= v <= 100 for v in values.values())
    assert load_table("rna/table1").protocol == "fixed_path"


def test_the_drop_of_figure_5b_is_that_of_its_ends() -> None:
    """Two transcribed numbers check a third."""
    (row, values), *_ = load_table("rna/fig5b").rows
    drop = lookup("rna/fig5b_drop", {}, row, "drop")
    high, low = values["pgd-eps2"], values["pgd-eps20"]
    assert drop is not None and high is not None and low is not None
    assert high - low == pytest.approx(drop, abs=0.011)
