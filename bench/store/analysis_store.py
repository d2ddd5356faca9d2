"""Stored results of analyses, beside a run's cells."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pyarrow as pa
from pydantic import Field

from bench.core.analysis import AnalysisInfo
from bench.core.paths import Folder
from bench.core.spec import Spec
from bench.store.entries import SCHEMA_VERSION, Declared, Entries, to_parquet

if TYPE_CHECKING:
    import pandas as pd

_TYPES = {pa.int64(), pa.float64(), pa.string(), pa.binary()}
_NARROW = {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}


class StoredAnalysis(Spec):
    """The content of an analysis' ``info.json``.

    Attributes:
        schema_version: Of the store that wrote it.
        values_sha256: Of the bytes of ``values.parquet`` beside it.
        info: About the analysis.
    """

    schema_version: int
    values_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    info: AnalysisInfo


class AnalysisStore:
    """Reads and writes ``store/analyses/ANALYSIS_ID/{values.parquet,info.json}``.

    Values are one long table; ``bench.analysis`` documents the columns of each analysis.

    Args:
        folder: The run folder; created on the first write.
    """

    def __init__(self, folder: Folder) -> None:
        root = folder / "store" / "analyses"
        self._entries = Entries(root, "values.parquet", StoredAnalysis, _declared)

    def write(self, info: AnalysisInfo, values: pd.DataFrame) -> None:
        """Stores an analysis atomically, replacing an earlier attempt.

        Args:
            info: About the analysis.
            values: Columns of int64, float64, str or bytes; none for an incomplete analysis.

        Raises:
            ValueError: When the info's id is not that of its spec, or a column is of another type.
        """
        if info.analysis_id != info.spec.analysis_id:
            found = info.analysis_id
            raise ValueError(f"analysis_id {found} is not that of its spec")
        content = _parquet_of(values)
        digest = hashlib.sha256(content).hexdigest()
        stored = StoredAnalysis(schema_version=SCHEMA_VERSION, values_sha256=digest, info=info)
        self._entries.write(info.analysis_id, stored, content)

    def ids(self) -> list[str]:
        """Returns the ids of all stored analyses, complete or not, sorted."""
        return self._entries.names()

    def folder(self, analysis_id: str) -> Folder:
        """Returns the folder of an analysis, whether it exists or not."""
        return self._entries.folder(analysis_id)

    def stored(self, analysis_id: str) -> bool:
        """Returns whether the analysis is stored, complete or not."""
        return self._entries.stored(analysis_id)

    def has(self, analysis_id: str) -> bool:
        """Returns whether it is stored, undamaged and complete, so that it need not run.

        Raises:
            UserError: When its files are damaged or of another schema version.
        """
        return self.stored(analysis_id) and self._entries.read(analysis_id)[0].info.complete

    def read(self, analysis_id: str) -> tuple[AnalysisInfo, pd.DataFrame]:
        """Reads an analysis, complete or not.

        Raises:
            UserError: When it is missing, damaged, stored under another id, or of another schema
                version.
        """
        stored, content = self._entries.read(analysis_id)
        table = self._entries.table(analysis_id, content)
        # Drops the file's metadata for pandas, which would be trusted.
        return stored.info, table.replace_schema_metadata(None).to_pandas()


def _declared(stored: StoredAnalysis) -> Declared:
    found, spec = stored.info.analysis_id, stored.info.spec
    expected = found if found == spec.former_id else spec.analysis_id
    return Declared(found, expected, stored.values_sha256)


def _parquet_of(values: pd.DataFrame) -> bytes:
    found = pa.Table.from_pandas(values, preserve_index=False)
    # Versions of pandas differ in the width of string offsets.
    narrow = [field.with_type(_NARROW.get(field.type, field.type)) for field in found.schema]
    table = found.cast(pa.schema(narrow))
    for field in table.schema:
        if field.type not in _TYPES:
            raise ValueError(f"column '{field.name}' is {field.type}, expected one of {_TYPES}")
    return to_parquet(table)
