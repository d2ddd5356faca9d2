"""The store of one run folder."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from bench.core.errors import UserError
from bench.core.paths import Folder
from bench.core.result import CellInfo, Row
from bench.store.chunk_store import ChunkStore
from bench.store.documents import read_json, to_json
from bench.store.entries import Entries, Facts
from bench.store.example_store import ExampleStore
from bench.store.files import write_atomically
from bench.store.lock import LOCK
from bench.store.manifest import Manifest
from bench.store.rows import rows_of, rows_to_bytes
from bench.store.schema import ROW_SCHEMA, SCHEMA_VERSION, StoredInfo

if TYPE_CHECKING:
    import pandas as pd


class RunStore:
    """Reads and writes ``store/run.json`` and ``store/cells/CELL_ID/{rows.parquet,info.json}``.

    Args:
        folder: The run folder; made on the first write.

    Attributes:
        chunks: What is finished of cells that are not.
        examples: Adversarial examples, where they were wanted.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        root = folder / "store" / "cells"
        self._cells = Entries(root, "rows.parquet", StoredInfo, _facts)
        self._manifest = folder / "store" / "run.json"
        self.chunks = ChunkStore(folder)
        self.examples = ExampleStore(folder)

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
        """Stores a cell in one step, replacing an earlier attempt at it, and its chunks.

        Raises:
            ValueError: When the info's id is not that of its spec, or an index occurs twice.
        """
        if info.cell_id != info.spec.cell_id:
            raise ValueError(f"cell_id {info.cell_id} is not that of its spec, {info.spec.cell_id}")
        content = rows_to_bytes(rows)
        digest = hashlib.sha256(content).hexdigest()
        stored = StoredInfo(schema_version=SCHEMA_VERSION, rows_sha256=digest, info=info)
        self._cells.write(info.cell_id, stored, content)
        if info.complete:
            self.chunks.remove(info.cell_id)

    def sweep(self) -> None:
        """Deletes what interrupted writes have left; only for who holds the folder (``locked``)."""
        root = self.folder / "store"
        for path in root.glob("**/.*") if isinstance(root, Path) else ():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != LOCK:
                path.unlink(missing_ok=True)
        for cell_id in self.chunks.cell_ids():
            if self.has(cell_id):
                self.chunks.remove(cell_id)

    def cell_ids(self) -> list[str]:
        """Returns the ids of all stored cells, complete or not, sorted."""
        return self._cells.names()

    def stored(self, cell_id: str) -> bool:
        """Says whether the cell has been stored, complete or not."""
        return self._cells.stored(cell_id)

    def has(self, cell_id: str) -> bool:
        """Says whether the cell is stored, undamaged and complete, so that nothing is to be run.

        Raises:
            UserError: When its files are damaged or of another schema version.
        """
        return self.stored(cell_id) and self._cells.read(cell_id)[0].info.complete

    def read_cell(self, cell_id: str) -> tuple[CellInfo, list[Row]]:
        """Reads a cell, complete or not.

        Raises:
            UserError: When it is missing, damaged, not what its id says, or of another schema
                version.
        """
        stored, content = self._cells.read(cell_id)
        return stored.info, rows_of(self._cells, cell_id, content)

    def frame(self, cell_id: str) -> pd.DataFrame:
        """Reads a cell's rows as a data frame with one column for each field of ``Row``.

        Raises:
            UserError: As ``read_cell`` does.
        """
        import pandas as pd

        _, rows = self.read_cell(cell_id)
        return pd.DataFrame([asdict(row) for row in rows], columns=ROW_SCHEMA.names)


def _facts(stored: StoredInfo) -> Facts:
    return Facts(stored.info.cell_id, stored.info.spec.cell_id, stored.rows_sha256)
