"""Finished parts of cells that are not finished."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from bench.core.paths import Folder
from bench.core.result import CellInfo, Row
from bench.core.spec import Spec
from bench.store.entries import Entries, Facts
from bench.store.rows import rows_of, rows_to_bytes
from bench.store.schema import SCHEMA_VERSION


@dataclass(frozen=True)
class Chunk:
    """Some batches of a cell.

    Attributes:
        first: Number of the first.
        last: Number of the one after the last.
        info: As of a cell that had no others.
        rows: Of their images, in order.
    """

    first: int
    last: int
    info: CellInfo
    rows: Sequence[Row]

    @property
    def batches(self) -> range:
        """Their numbers."""
        return range(self.first, self.last)


class StoredChunk(Spec):
    """The content of a chunk's ``info.json``.

    Attributes:
        schema_version: Of the store that wrote it.
        rows_sha256: Of the bytes of ``rows.parquet`` beside it.
        first: Number of its first batch.
        last: Number of the one after its last.
        info: As of a cell that had no others.
    """

    schema_version: int
    rows_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    first: int = Field(ge=0)
    last: int = Field(ge=1)
    info: CellInfo

    @property
    def name(self) -> str:
        """Of its folder."""
        return chunk_name(self.info.spec.cell_id, self.first, self.last)


class ChunkStore:
    """Reads and writes ``store/chunks/CELL_ID.FIRST-LAST/{rows.parquet,info.json}``.

    Chunks are complete; what failed is run again. They go when their cell is stored.

    Args:
        folder: The run folder; made on the first write.
    """

    def __init__(self, folder: Folder) -> None:
        root = folder / "store" / "chunks"
        self._entries = Entries(root, "rows.parquet", StoredChunk, _facts)

    def write(self, chunk: Chunk) -> None:
        """Stores a chunk in one step.

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
            UserError: When one is damaged, not what its name says, or of another schema version.
        """
        return sorted((self._one(name) for name in self._names(cell_id)), key=lambda c: c.first)

    def cell_ids(self) -> list[str]:
        """Returns the ids of the cells that have chunks, sorted."""
        return sorted({name.partition(".")[0] for name in self._entries.names()})

    def remove(self, cell_id: str) -> None:
        """Deletes the chunks of a cell."""
        for name in self._names(cell_id):
            self._entries.remove(name)

    def _names(self, cell_id: str) -> list[str]:
        return [name for name in self._entries.names() if name.startswith(f"{cell_id}.")]

    def _one(self, name: str) -> Chunk:
        stored, content = self._entries.read(name)
        rows = rows_of(self._entries, name, content)
        return Chunk(stored.first, stored.last, stored.info, rows)


def chunk_name(cell_id: str, first: int, last: int) -> str:
    """Returns the name of a chunk's folder: fixed in width, so that names sort as batches do."""
    return f"{cell_id}.{first:06d}-{last:06d}"


def _facts(stored: StoredChunk) -> Facts:
    found = chunk_name(stored.info.cell_id, stored.first, stored.last)
    return Facts(found, stored.name, stored.rows_sha256)
