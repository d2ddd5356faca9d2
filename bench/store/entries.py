"""Folders of a table and of what is known about it, under their ids."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from bench.core.errors import UserError, first_line
from bench.core.paths import Folder, is_local
from bench.store.documents import read_json, to_json
from bench.store.files import remove_folder, write_folder

M = TypeVar("M", bound=BaseModel)


class Facts(NamedTuple):
    """What an ``info.json`` says of itself: two ids that must be one, and the table's SHA-256."""

    found: str
    expected: str
    sha256: str


class Entries(Generic[M]):
    """Reads and writes ``ROOT/ID/{TABLE,info.json}``, checking what is read.

    An entry appears whole or not at all; a name that starts with a dot is the remains of an
    interrupted write and is never read.

    Args:
        root: The folder of all of them; made on the first write.
        table: The name of the table's file.
        kind: The model of an ``info.json``.
        facts: Reads the facts from one.
    """

    def __init__(
        self, root: Folder, table: str, kind: type[M], facts: Callable[[M], Facts]
    ) -> None:
        self._root, self._table, self._kind, self._facts = root, table, kind, facts

    def write(self, name: str, stored: M, content: bytes) -> None:
        """Stores an entry in one step, replacing an older one of this name."""
        write_folder(self.folder(name), {self._table: content, "info.json": to_json(stored)})

    def names(self) -> list[str]:
        """Returns the ids of all entries, sorted."""
        if not self._root.is_dir():
            return []
        found = sorted(p.name for p in self._root.iterdir() if not p.name.startswith("."))
        return [name for name in found if self.stored(name)]

    def folder(self, name: str) -> Folder:
        """Returns where an entry is, or would be."""
        return self._root / name

    def table_path(self, name: str) -> Folder:
        """Returns where the table of an entry is, or would be."""
        return self.folder(name) / self._table

    def stored(self, name: str) -> bool:
        """Says whether there is such an entry, be it damaged."""
        folder = self.folder(name)
        # A local folder appears whole; in an object store its last file says that it is.
        return folder.is_dir() if is_local(folder) else (folder / "info.json").is_file()

    def remove(self, name: str) -> None:
        """Deletes an entry, if it is there."""
        remove_folder(self.folder(name))

    def read(self, name: str) -> tuple[M, bytes]:
        """Returns what is known about an entry, and the checked bytes of its table.

        Raises:
            UserError: When it is missing, damaged, not what its id says, or of another schema
                version.
        """
        folder = self.folder(name)
        info, table = folder / "info.json", self.table_path(name)
        remedy = remedy_for(folder)
        for path in (info, table):
            if not path.is_file():
                raise UserError(f"{path}: no such file; {remedy}")
        stored = read_json(self._kind, info, remedy)
        facts = self._facts(stored)
        if not name == facts.found == facts.expected:
            raise UserError(
                f"{info}: the folder is named {name}, the file says {facts.found}, and its spec "
                f"has the id {facts.expected}; expected the same three times: {remedy}"
            )
        content = table.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != facts.sha256:
            raise UserError(
                f"{table}: damaged or altered: expected sha256 {facts.sha256[:12]}..., found "
                f"{found[:12]}... ({len(content)} bytes); {remedy}"
            )
        return stored, content

    def table(self, name: str, content: bytes) -> pa.Table:
        """Reads the table of an entry from its bytes.

        Raises:
            UserError: When they are no Parquet file.
        """
        path = self.table_path(name)
        try:
            return pq.ParquetFile(io.BytesIO(content)).read()
        except (pa.ArrowException, OSError, ValueError) as error:
            raise UserError(
                f"{path}: damaged Parquet file ({first_line(error)}); {remedy_for(path.parent)}"
            ) from None


def remedy_for(folder: Folder) -> str:
    """Returns what to do about an entry that cannot be read."""
    return f"delete the folder {folder} and run the suite again"


def to_parquet(table: pa.Table) -> bytes:
    """Returns a table as a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()
