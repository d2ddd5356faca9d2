"""Entries of a store: folders that hold a Parquet table and a JSON file, under their ids."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from bench.core.errors import UserError, first_line, first_problem
from bench.core.paths import Folder, is_local
from bench.store.files import remove_folder, write_folder

M = TypeVar("M", bound=BaseModel)

SCHEMA_VERSION = 1
"""Of the whole store; raised when the layout of a file or the meaning of a field changes."""


class Declared(NamedTuple):
    """An ``info.json``'s own id, the id computed from its spec, and the table's SHA-256."""

    found: str
    expected: str
    sha256: str


class Entries(Generic[M]):
    """Reads and writes ``ROOT/ID/{TABLE,info.json}``, checking everything that is read.

    An entry appears whole or not at all; a name that starts with a dot is left over from an
    interrupted write and is never read.

    Args:
        root: Folder of the entries; created on the first write.
        table: Name of the table's file.
        kind: Model of ``info.json``.
        declared: Extracts ids and checksum from that model.
    """

    def __init__(
        self, root: Folder, table: str, kind: type[M], declared: Callable[[M], Declared]
    ) -> None:
        self._root, self._table, self._kind, self._declared = root, table, kind, declared

    def write(self, name: str, stored: M, content: bytes) -> None:
        """Stores an entry atomically, replacing an older one of this name."""
        write_folder(self.folder(name), {self._table: content, "info.json": to_json(stored)})

    def names(self) -> list[str]:
        """Returns the ids of all entries, sorted."""
        if not self._root.is_dir():
            return []
        found = sorted(p.name for p in self._root.iterdir() if not p.name.startswith("."))
        return [name for name in found if self.stored(name)]

    def folder(self, name: str) -> Folder:
        """Returns the folder of an entry, whether it exists or not."""
        return self._root / name

    def table_path(self, name: str) -> Folder:
        """Returns the path of an entry's table, whether it exists or not."""
        return self.folder(name) / self._table

    def stored(self, name: str) -> bool:
        """Returns whether there is such an entry, damaged or not."""
        folder = self.folder(name)
        # A local folder appears whole; in an object store its last file marks it as complete.
        return folder.is_dir() if is_local(folder) else (folder / "info.json").is_file()

    def remove(self, name: str) -> None:
        """Deletes an entry if it exists."""
        remove_folder(self.folder(name))

    def read(self, name: str) -> tuple[M, bytes]:
        """Returns an entry's info and the verified bytes of its table.

        Raises:
            UserError: When it is missing, damaged, stored under another id, or of another schema
                version.
        """
        folder = self.folder(name)
        info, table = folder / "info.json", self.table_path(name)
        remedy = remedy_for(folder)
        for path in (info, table):
            if not path.is_file():
                raise UserError(f"{path}: no such file; {remedy}")
        stored = read_json(self._kind, info, remedy)
        declared = self._declared(stored)
        if not name == declared.found == declared.expected:
            raise UserError(
                f"{info}: the folder is named {name}, the file says {declared.found}, and its spec "
                f"has the id {declared.expected}; expected the same three times: {remedy}"
            )
        content = table.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != declared.sha256:
            raise UserError(
                f"{table}: damaged or altered: expected sha256 {declared.sha256[:12]}..., found "
                f"{found[:12]}... ({len(content)} bytes); {remedy}"
            )
        return stored, content

    def table(self, name: str, content: bytes) -> pa.Table:
        """Reads the table of an entry from its bytes.

        Raises:
            UserError: When they are not a Parquet file.
        """
        path = self.table_path(name)
        try:
            return pq.ParquetFile(io.BytesIO(content)).read()
        except (pa.ArrowException, OSError, ValueError) as error:
            raise UserError(
                f"{path}: damaged Parquet file ({first_line(error)}); {remedy_for(path.parent)}"
            ) from None


def remedy_for(folder: Folder) -> str:
    """Returns advice on an entry that cannot be read."""
    return f"delete the folder {folder} and run the suite again"


def to_parquet(table: pa.Table) -> bytes:
    """Returns a table as the bytes of a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def to_json(model: BaseModel) -> bytes:
    """Returns a model as the bytes of an indented JSON file."""
    text = json.dumps(model.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def read_json(kind: type[M], path: Folder, remedy: str) -> M:
    """Reads a JSON file of this schema version into a model.

    Raises:
        UserError: When it is damaged or of another version; the message ends with ``remedy``.
    """
    try:
        value = json.loads(path.read_bytes())
        # Refuses values that cannot be written again: NaN, half of a surrogate pair.
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:  # JSON and UTF-8 errors alike
        raise UserError(f"{path}: damaged JSON ({first_line(error)}); {remedy}") from None
    version = value.get("schema_version") if isinstance(value, dict) else None
    if not isinstance(version, int):
        raise UserError(f"{path}: expected an object with a schema_version; {remedy}")
    if version != SCHEMA_VERSION:
        age, advice = (
            ("a newer", "upgrade rbench")
            if version > SCHEMA_VERSION
            else ("an older", "start anew")
        )
        raise UserError(
            f"{path}: expected schema version {SCHEMA_VERSION}, found {version}, written by {age} "
            f"rbench; {advice} or choose another run folder with --out"
        )
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise UserError(f"{path}: {first_problem(error, 'the file')}; {remedy}") from None
