"""A cell's rows as a Parquet file: its columns, writing and reading."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, get_args

import pyarrow as pa

from bench.core.errors import UserError
from bench.core.result import VIOLATIONS, Row, Status
from bench.store.entries import Entries, remedy_for, to_parquet

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
        pa.field("choice", pa.float64()),
    ]
)
"""The fields of ``Row`` but ``target``, in its order and units."""

_TARGETED = ROW_SCHEMA.append(pa.field("target", pa.int32(), nullable=False))
"""Columns of a targeted attack's rows; others have no such column."""

_EARLIER = ROW_SCHEMA.remove(ROW_SCHEMA.get_field_index("choice"))
"""Columns of stores from before rows had a ``choice``."""


def rows_to_bytes(rows: Sequence[Row]) -> bytes:
    """Returns the bytes of a Parquet file with a record for each row.

    Raises:
        ValueError: When an index occurs twice.
    """
    if len({row.index for row in rows}) != len(rows):
        raise ValueError("a cell holds each image once, found an index twice")
    aimed = any(row.target is not None for row in rows)
    schema = _TARGETED if aimed else ROW_SCHEMA
    return to_parquet(pa.Table.from_pylist([asdict(row) for row in rows], schema=schema))


def rows_of(entries: Entries[Any], name: str, content: bytes) -> list[Row]:
    """Reads the rows of an entry from the bytes of its table.

    Raises:
        UserError: When they are not a Parquet file, have other columns, or hold invalid scores.
    """
    table = entries.table(name, content)
    if not any(map(table.schema.equals, (ROW_SCHEMA, _TARGETED, _EARLIER))):
        path, names = entries.table_path(name), ", ".join(table.schema.names) or "none"
        raise UserError(
            f"{path}: expected the columns {', '.join(ROW_SCHEMA.names)} with their types, found "
            f"{names}; {remedy_for(path.parent)}"
        )
    rows = [Row(**record) for record in table.to_pylist()]
    fault = next(filter(None, map(_fault, rows)), "")
    if len({row.index for row in rows}) != len(rows):
        fault = "an index twice"
    if fault:
        path = entries.table_path(name)
        raise UserError(
            f"{path}: expected scores of images, found {fault}; {remedy_for(path.parent)}"
        )
    return rows


def _fault(row: Row) -> str:
    """Returns the first invalid value of a row from an untrusted store; empty if there is none."""
    scores = {"clean_correct": row.clean_correct, "adv_correct": row.adv_correct}
    for field, score in {**scores, "robust": row.robust, "choice": row.choice}.items():
        if score is not None and not 0 <= score <= 1:
            return f"{field} {score}"
    if row.status not in get_args(Status):
        return f"status {row.status[:40]!r}"
    if row.played not in ("adv", "clean"):
        return f"played {row.played[:40]!r}"
    sizes = {"linf": row.linf, "l2": row.l2} if row.status not in VIOLATIONS else {}
    for field, size in {**sizes, "forwards": row.forwards, "backwards": row.backwards}.items():
        if not 0 <= size < math.inf:
            return f"{field} {size}"
    return ""
