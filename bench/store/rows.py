"""Rows as the bytes of a Parquet file, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from bench.core.errors import UserError
from bench.core.result import Row
from bench.store.entries import Entries, remedy_for, to_parquet
from bench.store.schema import ROW_SCHEMA


def rows_to_bytes(rows: Sequence[Row]) -> bytes:
    """Returns a Parquet file with a line for each row.

    Raises:
        ValueError: When an index occurs twice.
    """
    if len({row.index for row in rows}) != len(rows):
        raise ValueError("a cell holds each image once, found an index twice")
    return to_parquet(pa.Table.from_pylist([asdict(row) for row in rows], schema=ROW_SCHEMA))


def rows_of(entries: Entries[Any], name: str, content: bytes) -> list[Row]:
    """Reads the rows of an entry from the bytes of its table.

    Raises:
        UserError: When they are no Parquet file, or one of other columns.
    """
    table = entries.table(name, content)
    if not table.schema.equals(ROW_SCHEMA):
        path, names = entries.table_path(name), ", ".join(table.schema.names) or "none"
        raise UserError(
            f"{path}: expected the columns {', '.join(ROW_SCHEMA.names)} with their types, found "
            f"{names}; {remedy_for(path.parent)}"
        )
    return [Row(**record) for record in table.to_pylist()]
