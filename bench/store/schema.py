"""The columns of ``rows.parquet`` and the layout of ``info.json``."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from bench.core.base import Spec
from bench.core.errors import UserError
from bench.core.result import CellInfo, Row

SCHEMA_VERSION = 1
"""Of the whole store; raised when a file's layout or the meaning of a field changes."""

ROW_SCHEMA = pa.schema(
    [
        pa.field("index", pa.int64(), nullable=False),
        pa.field("label", pa.int32(), nullable=False),
        pa.field("clean_pred", pa.int32(), nullable=False),
        pa.field("clean_correct", pa.float64(), nullable=False),
        pa.field("adv_pred", pa.int32(), nullable=False),
        pa.field("adv_correct", pa.float64()),
        pa.field("robust", pa.float64()),
        pa.field("played", pa.string(), nullable=False),
        pa.field("linf", pa.float64(), nullable=False),
        pa.field("l2", pa.float64(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("batch", pa.int32(), nullable=False),
        pa.field("forwards", pa.float64(), nullable=False),
        pa.field("backwards", pa.float64(), nullable=False),
    ]
)
"""One field of ``Row`` each, in its order; units are those of ``Row``."""


class StoredInfo(Spec):
    """The content of ``info.json``.

    Attributes:
        schema_version: Of the store that wrote it.
        rows_sha256: Of the bytes of ``rows.parquet`` beside it.
        info: About the cell.
    """

    schema_version: int
    rows_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    info: CellInfo


def rows_to_parquet(rows: Sequence[Row]) -> bytes:
    """Returns rows as a Parquet file; raises ``pyarrow.ArrowException`` for a wrong value."""
    table = pa.Table.from_pylist([asdict(row) for row in rows], schema=ROW_SCHEMA)
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def rows_from_parquet(content: bytes, path: Path) -> list[Row]:
    """Reads rows back.

    Args:
        content: The file's bytes.
        path: Where they come from, for messages.

    Raises:
        UserError: When the bytes are no Parquet file, or one with other columns.
    """
    try:
        table = pq.ParquetFile(io.BytesIO(content)).read()
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path}: damaged Parquet file ({first_line(error)}); delete the folder {path.parent} "
            f"and run the suite again"
        ) from None
    if not table.schema.equals(ROW_SCHEMA):
        names = ", ".join(table.schema.names) or "none"
        raise UserError(
            f"{path}: expected the columns {', '.join(ROW_SCHEMA.names)} with their types, found "
            f"{names}; delete the folder {path.parent} and run the suite again"
        )
    return [Row(**record) for record in table.to_pylist()]


def first_line(error: Exception) -> str:
    """Returns the first line of an error's message, which alone belongs into ours."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
