"""The store of one run folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from bench.core.errors import UserError
from bench.core.result import CellInfo, Row
from bench.store.documents import read_json, to_json
from bench.store.files import write_atomically, write_folder
from bench.store.manifest import Manifest
from bench.store.schema import (
    ROW_SCHEMA,
    SCHEMA_VERSION,
    StoredInfo,
    rows_from_parquet,
    rows_to_parquet,
)


class RunStore:
    """Reads and writes ``store/run.json`` and ``store/cells/CELL_ID/{rows.parquet,info.json}``.

    A cell's folder appears whole or not at all; a name that starts with a dot is the remains of
    an interrupted write and is never read.

    Args:
        folder: The run folder; made on the first write.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._cells = folder / "store" / "cells"
        self._manifest = folder / "store" / "run.json"

    def write_manifest(self, manifest: Manifest) -> None:
        """Writes ``run.json``, replacing an older one."""
        write_atomically(self._manifest, to_json(manifest))

    def read_manifest(self) -> Manifest:
        """Reads ``run.json``.

        Raises:
            UserError: When it is missing, damaged, or of another schema version.
        """
        remedy = "run the suite again to write it; stored cells are kept"
        if not self._manifest.is_file():
            raise UserError(
                f"{self._manifest}: no such file; expected {self.folder} to be the folder of a "
                f"run, as `rbench run --out` makes it"
            )
        return read_json(Manifest, self._manifest, remedy)

    def write_cell(self, info: CellInfo, rows: Sequence[Row]) -> None:
        """Stores a cell in one step, replacing an earlier attempt at it.

        Raises:
            ValueError: When the info's id is not that of its spec, or an index occurs twice.
        """
        if info.cell_id != info.spec.cell_id:
            raise ValueError(f"cell_id {info.cell_id} is not that of its spec, {info.spec.cell_id}")
        if len({row.index for row in rows}) != len(rows):
            raise ValueError("a cell holds each image once, found an index twice")
        content = rows_to_parquet(rows)
        digest = hashlib.sha256(content).hexdigest()
        stored = StoredInfo(schema_version=SCHEMA_VERSION, rows_sha256=digest, info=info)
        files = {"rows.parquet": content, "info.json": to_json(stored)}
        write_folder(self._cells / info.cell_id, files)

    def cell_ids(self) -> list[str]:
        """Returns the ids of all stored cells, complete or not, sorted."""
        if not self._cells.is_dir():
            return []
        return sorted(p.name for p in self._cells.iterdir() if not p.name.startswith("."))

    def stored(self, cell_id: str) -> bool:
        """Says whether the cell has been stored, complete or not."""
        return (self._cells / cell_id).is_dir()

    def has(self, cell_id: str) -> bool:
        """Says whether the cell is stored, undamaged and complete, so that nothing is to be run.

        Raises:
            UserError: When its files are damaged or of another schema version.
        """
        return self.stored(cell_id) and self._read(cell_id)[0].complete

    def read_cell(self, cell_id: str) -> tuple[CellInfo, list[Row]]:
        """Reads a cell, complete or not.

        Raises:
            UserError: When it is missing, damaged, not what its id says, or of another schema
                version.
        """
        info, content = self._read(cell_id)
        return info, rows_from_parquet(content, self._cells / cell_id / "rows.parquet")

    def frame(self, cell_id: str) -> pd.DataFrame:
        """Reads a cell's rows as a data frame with one column for each field of ``Row``.

        Raises:
            UserError: As ``read_cell`` does.
        """
        _, rows = self.read_cell(cell_id)
        return pd.DataFrame([asdict(row) for row in rows], columns=ROW_SCHEMA.names)

    def _read(self, cell_id: str) -> tuple[CellInfo, bytes]:
        """Returns a cell's info and the checked bytes of its rows."""
        folder = self._cells / cell_id
        remedy = f"delete the folder {folder} and run the suite again"
        for path in (folder / "info.json", folder / "rows.parquet"):
            if not path.is_file():
                raise UserError(f"{path}: no such file; {remedy}")
        stored = read_json(StoredInfo, folder / "info.json", remedy)
        info = stored.info
        if not cell_id == info.cell_id == info.spec.cell_id:
            raise UserError(
                f"{folder / 'info.json'}: the folder is named {cell_id}, the file says "
                f"{info.cell_id}, and its spec has the id {info.spec.cell_id}; expected the same "
                f"three times: {remedy}"
            )
        content = (folder / "rows.parquet").read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != stored.rows_sha256:
            raise UserError(
                f"{folder / 'rows.parquet'}: damaged or altered: expected sha256 "
                f"{stored.rows_sha256[:12]}..., found {found[:12]}... ({len(content)} bytes); "
                f"{remedy}"
            )
        return info, content
