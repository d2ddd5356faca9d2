"""The papers' numbers are the papers' numbers, and are found by what names them."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest
import yaml

from bench.core.errors import UserError
from bench.published import load_table, lookup, table_ids


@pytest.mark.parametrize("paper", ["rna", "robustnorm"])
def test_transcription_equals_the_source(paper: str, shared_dir: Path) -> None:
    source = yaml.safe_load((shared_dir / "published" / f"{paper}.yaml").read_text())
    ours = yaml.safe_load((resources.files("bench.published") / f"{paper}.yaml").read_text())
    assert ours.pop("measured")
    assert ours == source


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
        ("rna/table1", {}, {"norm": "bn"}, "pgd20", "2 rows .* say more of: model"),
    ],
)
def test_lookups_that_cannot_be_meant_are_refused(
    table: str, where: dict[str, object], row: dict[str, object], column: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        lookup(table, where, row, column)


def test_every_table_loads_and_every_accuracy_is_a_percentage() -> None:
    assert len(table_ids()) == 11
    for table_id in table_ids():
        table = load_table(table_id)
        assert table.title and table.measured
        for _, values in table.rows:
            assert tuple(values) == table.columns
            if table.unit == "percent accuracy":
                assert all(v is None or 0 <= v <= 100 for v in values.values())
    assert load_table("rna/table1").protocol == "fixed_path"
