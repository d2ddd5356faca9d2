"""``rbench query``: SQL over a run, and over nothing else."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bench.core.errors import UserError
from bench.export.database import query

pytest.importorskip("duckdb")

Rbench = Callable[..., tuple[int, str, str]]


def test_a_query_agrees_with_the_cells(run_folder: Path) -> None:
    sql = """
        select c.model, c.attack, c.accuracy, r.robust
        from cells c join (
            select model, attack, avg(robust) as robust from rows where complete group by all
        ) r using (model, attack)
    """
    found = query(run_folder, sql).to_pylist()
    assert len(found) == 3
    assert all(line["accuracy"] == pytest.approx(line["robust"]) for line in found)


def test_published_numbers_are_a_view(run_folder: Path) -> None:
    sql = """select value from published where table_id = 'rna/table1' and "column" = 'pgd20'
             and json_extract_string("row", '$.norm') = 'bn' and arch = 'resnet18'"""
    assert query(run_folder, sql).to_pylist() == [{"value": 52.16}]


@pytest.mark.parametrize(
    ("sql", "fragment"),
    [
        ("select 1; select 2", "expected one SELECT, found SELECT, then SELECT"),
        ("", "found nothing"),
        ("-- only words", "found nothing"),
        ("selec 1", "syntax error"),
        ("select nothing from rows", "nothing"),
        ("select cast(model as int) from cells", "convert"),
        ("drop view rows", "found DROP"),
        ("create table more as select 1", "found CREATE"),
        ("insert into cells values (1)", "query:"),
        ("copy (select 1) to 'out.csv'", "query:"),
        ("attach 'other.db'", "query:"),
        ("set threads = 1", "query:"),
        ("install httpfs", "query:"),
        ("select * from 'secret.csv'", "query:"),
        ("select * from read_csv('secret.csv')", "disabled"),
        ("select * from read_text('secret.csv')", "disabled"),
        ("select * from glob('*')", "disabled"),
        ("select * from read_parquet('https://example.org/a.parquet')", "query:"),
        ("select * from connection", "does not exist"),
        ("select * from statements", "does not exist"),
    ],
)
def test_what_is_no_reading_of_the_run_is_refused_in_one_line(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sql: str, fragment: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.csv").write_text("a\n1\n")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError) as raised:
        query(run_folder, sql)
    assert fragment in str(raised.value) and "\n" not in str(raised.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_configuration_stays_as_it_is(run_folder: Path) -> None:
    sql = """select name, value from duckdb_settings() where name in
             ('enable_external_access', 'lock_configuration', 'python_enable_replacements')"""
    found = {line["name"]: line["value"] for line in query(run_folder, sql).to_pylist()}
    assert found == {
        "enable_external_access": "false",
        "lock_configuration": "true",
        "python_enable_replacements": "false",
    }


SQL = "select model, attack, accuracy, alarms from cells order by status, model, attack"


@pytest.mark.process
def test_the_command_writes_every_format(rbench: Rbench, run_folder: Path, tmp_path: Path) -> None:
    code, text, _ = rbench("query", run_folder, SQL, "--format", "csv")
    lines = list(csv.DictReader(io.StringIO(text)))
    assert code == 0 and len(lines) == 8
    assert any(line["alarms"] == "more steps break more" for line in lines)
    code, text, _ = rbench("query", run_folder, SQL, "--format", "json")
    assert code == 0 and [line["attack"] for line in json.loads(text)] == [
        line["attack"] for line in lines
    ]
    code, text, _ = rbench("query", run_folder, SQL, "--format", "md")
    assert code == 0 and "<script>" not in text and text.count("\n") == 10
    assert all(line.count(" | ") == 3 for line in text.replace("\\|", "").splitlines())
    out = tmp_path / "out" / "found.parquet"
    code, text, _ = rbench("query", run_folder, SQL, "--out", out)
    assert code == 0 and str(out) in text
    assert pq.read_table(out).num_rows == 8


def test_a_table_is_not_folded_in_a_pipe(rbench: Rbench, run_folder: Path) -> None:
    code, text, _ = rbench("query", run_folder, "select * from cells")
    assert code == 0 and "\x1b" not in text
    assert "more steps break more" in text and "drops samples from the batch" in text
    code, text, _ = rbench("query", run_folder)
    assert code == 0 and "clean_accuracy" in text and "published" in text


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["select 1", "--format", "cvs"], "csv"),
        (["select 1", "--format", "parquet"], "--out"),
        (["select 1", "--format", "table", "--out", "a.txt"], "md or csv"),
        (["select 1", "--out", "a.xlsx"], "'xlsx'; known: csv, json, md, parquet\n"),
        (["select 1", "--format", "xlsx"], "'xlsx'; known: csv, json, md, parquet, table\n"),
        (["select 1", "--format", "tabel"], "did you mean 'table'?"),
        (["select 1 as a, 2 as a", "--format", "json"], "'a'"),
        (["select 1 as a, 2 as a"], "'a'"),
        (["select 'a"], "query:"),
    ],
)
def test_misuse_is_one_line(
    rbench: Rbench, run_folder: Path, arguments: list[str], fragment: str
) -> None:
    code, _, err = rbench("query", run_folder, *arguments)
    assert code == 2 and fragment in err and err.count("\n") == 1


def test_without_duckdb_the_extra_is_named(
    rbench: Rbench,
    run_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    code, _, err = rbench("query", run_folder, "select 1")
    assert code == 2 and "rbench[query]" in err
