"""A store in an object store is the store in a folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from test_store_cells import ROWS, make_info
from upath import UPath

from bench.core.errors import UserError
from bench.core.paths import folder_at
from bench.store.run_store import Chunk, RunStore


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path | UPath:
    """A new run folder of either kind."""
    return tmp_path if request.param == "local" else folder_at(f"memory://{uuid4().hex}/run")


def test_cells_and_chunks_come_back(folder: Path | UPath) -> None:
    store, info = RunStore(folder), make_info()
    assert store.cell_ids() == [] and store.chunks.read(info.cell_id) == []
    late = Chunk(2, 3, info, [replace(ROWS[1], batch=2)])
    early = Chunk(0, 2, info, [ROWS[0]])
    for chunk in (late, early, early):
        store.chunks.write(chunk)
    assert RunStore(folder).chunks.read(info.cell_id) == [early, late]
    assert not store.has(info.cell_id)
    store.write_cell(make_info(complete=False), [])
    assert len(store.chunks.read(info.cell_id)) == 2, "they are still of use"
    store.write_cell(info, ROWS)
    assert RunStore(folder).read_cell(info.cell_id) == (info, ROWS)
    assert store.has(info.cell_id) and store.cell_ids() == [info.cell_id]
    assert store.chunks.read(info.cell_id) == []


def test_a_chunk_must_be_complete(folder: Path | UPath) -> None:
    with pytest.raises(ValueError, match="complete"):
        RunStore(folder).chunks.write(Chunk(0, 1, make_info(complete=False), []))


def test_objects_without_the_last_of_them_are_no_cell() -> None:
    folder = folder_at(f"memory://{uuid4().hex}/run")
    store, info = RunStore(folder), make_info()
    store.write_cell(info, ROWS)
    (folder / "store" / "cells" / info.cell_id / "info.json").unlink()
    assert not store.stored(info.cell_id) and store.cell_ids() == []


@pytest.mark.parametrize("name", ["nosuch://bucket/run", "s3fake://x"])
def test_an_unknown_kind_of_url_is_named(name: str) -> None:
    with pytest.raises(UserError, match=name):
        folder_at(name)
