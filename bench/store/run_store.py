"""The store of one run folder: its manifest, its cells, and finished parts of unfinished cells."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from bench.core.errors import UserError
from bench.core.paths import Folder, suite_called
from bench.core.result import CellInfo, Row, violations
from bench.core.spec import Spec
from bench.store.entries import SCHEMA_VERSION, Declared, Entries, read_json, to_json
from bench.store.example_store import ExampleStore
from bench.store.files import write_atomically
from bench.store.lock import LOCK
from bench.store.manifest import Manifest
from bench.store.rows import ROW_SCHEMA, rows_of, rows_to_bytes

if TYPE_CHECKING:
    import pandas as pd


class StoredCell(Spec):
    """The content of a cell's ``info.json``.

    Attributes:
        schema_version: Of the store that wrote it.
        rows_sha256: Of the bytes of ``rows.parquet`` beside it.
        info: About the cell.
    """

    schema_version: int
    rows_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    info: CellInfo


class RunStore:
    """Reads and writes ``store/run.json`` and ``store/cells/CELL_ID/{rows.parquet,info.json}``.

    Args:
        folder: The run folder; created on the first write.

    Attributes:
        chunks: Finished parts of unfinished cells.
        examples: Adversarial examples of runs with ``--save-adv``.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        root = folder / "store" / "cells"
        self._cells = Entries(root, "rows.parquet", StoredCell, _of_cell)
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
            raise UserError(self._why_no_manifest())
        return read_json(Manifest, self._manifest, remedy)

    def _why_no_manifest(self) -> str:
        """Returns what a folder without ``run.json`` seems to be, and what to do."""
        if not self.folder.is_dir():
            return (
                f"{self.folder}: no such folder; expected the folder of a run, as `rbench run` "
                "makes it"
            )
        if self.cell_ids():
            return (
                f"{self._manifest}: no such file, but there are cells beside it; `rbench repair "
                f"{self.folder}` writes it again"
            )
        name = suite_called(self.folder.name)
        if name is not None:
            return (
                f"{self.folder}: expected the rows of a run in store/run.json, found none: the "
                f"rows of suite '{name}' are not here; run it first: rbench run {name}"
            )
        return (
            f"{self._manifest}: no such file; expected {self.folder} to be the folder of a run, as "
            "`rbench run --out` makes it"
        )

    def write_cell(self, info: CellInfo, rows: Sequence[Row]) -> None:
        """Stores a cell atomically, replacing an earlier attempt and its chunks.

        Raises:
            ValueError: When the info's id is not that of its spec, or an index occurs twice.
        """
        if info.cell_id != info.spec.cell_id:
            raise ValueError(f"cell_id {info.cell_id} is not that of its spec, {info.spec.cell_id}")
        content = rows_to_bytes(rows)
        digest = hashlib.sha256(content).hexdigest()
        stored = StoredCell(schema_version=SCHEMA_VERSION, rows_sha256=digest, info=info)
        self._cells.write(info.cell_id, stored, content)
        if info.complete:
            self.chunks.remove(info.cell_id)

    def sweep(self) -> None:
        """Deletes remains of interrupted writes; the caller must hold the folder (``locked``)."""
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

    def all_ids(self) -> list[str]:
        """Returns the ids of all cells of which anything is stored, if only examples; sorted."""
        parts = (self.cell_ids(), self.chunks.cell_ids(), self.examples.cell_ids())
        return sorted({cell_id for ids in parts for cell_id in ids})

    def parts(self, cell_id: str) -> list[Folder]:
        """Returns the folders that hold a cell, its chunks and its adversarial examples."""
        folders = (
            *([self._cells.folder(cell_id)] if self.stored(cell_id) else []),
            *self.chunks.folders(cell_id),
            self.examples.folder(cell_id),
        )
        return [folder for folder in folders if folder.is_dir()]

    def stored(self, cell_id: str) -> bool:
        """Returns whether the cell is stored, complete or not."""
        return self._cells.stored(cell_id)

    def has(self, cell_id: str) -> bool:
        """Returns whether the cell is stored, undamaged and complete, so that it need not run.

        Raises:
            UserError: When its files are damaged or of another schema version.
        """
        return self.stored(cell_id) and self._cells.read(cell_id)[0].info.complete

    def read_cell(self, cell_id: str) -> tuple[CellInfo, list[Row]]:
        """Reads a cell, complete or not.

        Raises:
            UserError: When it is missing, damaged, stored under another id, or of another schema
                version.
        """
        stored, content = self._cells.read(cell_id)
        return stored.info, rows_of(self._cells, cell_id, content)

    def frame(self, cell_id: str) -> pd.DataFrame:
        """Reads a cell's rows as a data frame with a column for each field of ``Row``.

        Raises:
            UserError: As ``read_cell``.
        """
        import pandas as pd

        _, rows = self.read_cell(cell_id)
        aimed = ["target"] if any(row.target is not None for row in rows) else []
        return pd.DataFrame([asdict(row) for row in rows], columns=[*ROW_SCHEMA.names, *aimed])


def _of_cell(stored: StoredCell) -> Declared:
    return Declared(stored.info.cell_id, stored.info.spec.cell_id, stored.rows_sha256)


@dataclass(frozen=True)
class Chunk:
    """Consecutive batches of a cell that have been evaluated.

    Attributes:
        first: Number of the first batch.
        last: Number of the last batch plus 1.
        info: Info of the cell as if these were all its batches.
        rows: Rows of their images, in order.
    """

    first: int
    last: int
    info: CellInfo
    rows: Sequence[Row]

    @property
    def batches(self) -> range:
        """Numbers of the batches."""
        return range(self.first, self.last)


class StoredChunk(StoredCell):
    """The content of a chunk's ``info.json``; ``first`` and ``last`` as in ``Chunk``."""

    first: int = Field(ge=0)
    last: int = Field(ge=1)

    @property
    def name(self) -> str:
        """Name of its folder."""
        return chunk_name(self.info.spec.cell_id, self.first, self.last)


class ChunkStore:
    """Reads and writes ``store/chunks/CELL_ID.FIRST-LAST/{rows.parquet,info.json}``.

    Only complete chunks are stored; failed ones run again. They are deleted once their cell is
    stored.

    Args:
        folder: The run folder; created on the first write.
    """

    def __init__(self, folder: Folder) -> None:
        root = folder / "store" / "chunks"
        self._entries = Entries(root, "rows.parquet", StoredChunk, _of_chunk)

    def write(self, chunk: Chunk) -> None:
        """Stores a chunk atomically.

        Raises:
            ValueError: When it is not complete, or an index occurs twice.
        """
        if not chunk.info.complete:
            raise ValueError("a chunk is stored when it is complete")
        content = rows_to_bytes(chunk.rows)
        stored = StoredChunk(
            schema_version=SCHEMA_VERSION,
            rows_sha256=hashlib.sha256(content).hexdigest(),
            first=chunk.first,
            last=chunk.last,
            info=chunk.info,
        )
        self._entries.write(stored.name, stored, content)

    def read(self, cell_id: str) -> list[Chunk]:
        """Returns the chunks of a cell, in the order of their batches.

        Raises:
            UserError: When one is damaged, stored under another id, or of another schema version.
        """
        return sorted((self._one(name) for name in self._names(cell_id)), key=lambda c: c.first)

    def cell_ids(self) -> list[str]:
        """Returns the ids of the cells that have chunks, sorted."""
        return sorted({name.partition(".")[0] for name in self._entries.names()})

    def remove(self, cell_id: str) -> None:
        """Deletes the chunks of a cell."""
        for name in self._names(cell_id):
            self._entries.remove(name)

    def folders(self, cell_id: str) -> list[Folder]:
        """Returns the folders of a cell's chunks."""
        return [self._entries.folder(name) for name in self._names(cell_id)]

    def _names(self, cell_id: str) -> list[str]:
        return [name for name in self._entries.names() if name.startswith(f"{cell_id}.")]

    def _one(self, name: str) -> Chunk:
        stored, content = self._entries.read(name)
        rows = rows_of(self._entries, name, content)
        return Chunk(stored.first, stored.last, stored.info, rows)


def chunk_name(cell_id: str, first: int, last: int) -> str:
    """Returns the name of a chunk's folder; numbers have a fixed width, so that names sort."""
    return f"{cell_id}.{first:06d}-{last:06d}"


def _of_chunk(stored: StoredChunk) -> Declared:
    found = chunk_name(stored.info.cell_id, stored.first, stored.last)
    return Declared(found, stored.name, stored.rows_sha256)


def join(chunks: Sequence[Chunk]) -> tuple[CellInfo, list[Row]]:
    """Returns the cell that chunks make up, as if it had run in one piece.

    Args:
        chunks: At least one; together they cover every batch, failed ones included.
    """
    ordered = _once(sorted(chunks, key=lambda chunk: chunk.first))
    infos = [chunk.info for chunk in ordered]
    rows = [row for chunk in ordered for row in chunk.rows]
    errors = [chunk.info.error for chunk in ordered]
    broken = [e for chunk, e in zip(ordered, errors, strict=True) if e != violations(chunk.rows)]
    error = broken[0] if broken else violations(rows)
    # A chunk that failed before it had rows does not know their cluster.
    sound = [info for info in infos if info.complete] or infos[:1]
    info = sound[0].model_copy(
        update={
            "complete": not error,
            "error": error,
            "zero_gradients": _added(info.zero_gradients for info in infos),
            "seconds": round(sum(info.seconds for info in infos), 3),
            "precision": _named(info.precision for info in sound),
            "machine": _named(info.machine for info in sound),
            "date": max(info.date for info in infos),
        }
    )
    return info, rows


def _once(chunks: Sequence[Chunk]) -> list[Chunk]:
    """Drops batches that an earlier chunk covers; chunk borders may differ between runs."""
    taken: set[int] = set()
    found = []
    for chunk in chunks:
        rows = [row for row in chunk.rows if row.batch not in taken]
        if not taken.issuperset(chunk.batches):
            found.append(replace(chunk, rows=rows))
        taken.update(chunk.batches)
    return found


def _added(counts: Iterable[int | None]) -> int | None:
    """Returns the sum of counts; ``None`` where one of them was not counted."""
    known = list(counts)
    return sum(n for n in known if n is not None) if None not in known else None


def _named(names: Iterable[str]) -> str:
    return " / ".join(dict.fromkeys(names))
