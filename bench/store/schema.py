"""The columns of ``rows.parquet`` and the layout of ``info.json``."""

from __future__ import annotations

import pyarrow as pa
from pydantic import Field

from bench.core.result import CellInfo
from bench.core.spec import Spec

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
