"""A run as tables: every image, and every cell."""

from __future__ import annotations

import json
from pathlib import Path

from bench.export import cells_table, rows_table
from bench.report.run_view import RunView
from bench.store.rows import ROW_SCHEMA
from bench.store.run_store import RunStore


def test_rows_are_those_of_the_store(run_folder: Path) -> None:
    view = RunView(run_folder)
    table = rows_table(view).to_pandas()
    store = RunStore(run_folder)
    for cell_id in store.cell_ids():
        found = table[table.cell_id == cell_id]
        stored = store.frame(cell_id)
        assert found[ROW_SCHEMA.names].reset_index(drop=True).astype(stored.dtypes).equals(stored)
    assert set(table[~table.complete].attack) == {"deepfool"}


def test_cells_have_one_line_each_and_numbers_only_where_they_count(run_folder: Path) -> None:
    lines = cells_table(RunView(run_folder)).to_pylist()
    assert [line["status"] for line in lines] == [
        *("ok", "ok", "incomplete", "refused"),
        *("ok", "missing", "missing", "missing"),
    ]
    assert [line["accuracy"] for line in lines[:4]] == [15 / 16, 0.5, None, None]
    first, alarmed, incomplete, refused = lines[:4]
    assert first["low"] < 15 / 16 < first["high"] and first["n"] == 16 and first["norm"] == "linf"
    assert alarmed["alarms"] == ["more steps break more"] and alarmed["attack_name"] == "pgd"
    assert json.loads(alarmed["attack_params"]) == {"n_iter": 20} and alarmed["forwards"] == 21
    assert incomplete["reason"] == "batch 2: ended" and refused["cell_id"] is None
    assert first["arch"] == "resnet20" and first["training"] == "natural"
