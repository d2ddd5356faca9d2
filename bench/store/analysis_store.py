"""The stored values of analyses, beside a run's cells."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from bench.core.analysis import AnalysisInfo
from bench.core.base import Spec
from bench.core.errors import UserError
from bench.store.documents import read_json, to_json
from bench.store.files import write_folder
from bench.store.schema import SCHEMA_VERSION, first_line

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

    Values are one long table; ``bench.analysis`` says what the columns of each analysis are.

    Args:
        folder: The run folder; made on the first write.
    """

    def __init__(self, folder: Path) -> None:
        self._root = folder / "store" / "analyses"

    def write(self, info: AnalysisInfo, values: pd.DataFrame) -> None:
        """Stores an analysis in one step, replacing an earlier attempt at it.

        Args:
            info: About it.
            values: Columns of int64, float64, str or bytes; none for an incomplete analysis.

        Raises:
            ValueError: When the info's id is not that of its spec, or a column is of another type.
        """
        if info.analysis_id != info.spec.analysis_id:
            found = info.analysis_id
            raise ValueError(f"analysis_id {found} is not that of its spec")
        content = _to_parquet(values)
        digest = hashlib.sha256(content).hexdigest()
        stored = StoredAnalysis(schema_version=SCHEMA_VERSION, values_sha256=digest, info=info)
        files = {"values.parquet": content, "info.json": to_json(stored)}
        write_folder(self._root / info.analysis_id, files)

    def ids(self) -> list[str]:
        """Returns the ids of all stored analyses, complete or not, sorted."""
        if not self._root.is_dir():
            return []
        return sorted(p.name for p in self._root.iterdir() if not p.name.startswith("."))

    def stored(self, analysis_id: str) -> bool:
        """Says whether the analysis has been stored, complete or not."""
        return (self._root / analysis_id).is_dir()

    def has(self, analysis_id: str) -> bool:
        """Says whether it is stored, undamaged and complete, so that nothing is to be run.

        Raises:
            UserError: When its files are damaged or of another schema version.
        """
        return self.stored(analysis_id) and self._read(analysis_id)[0].complete

    def read(self, analysis_id: str) -> tuple[AnalysisInfo, pd.DataFrame]:
        """Reads an analysis, complete or not.

        Raises:
            UserError: When it is missing, damaged, not what its id says, or of another schema
                version.
        """
        info, content = self._read(analysis_id)
        path = self._root / analysis_id / "values.parquet"
        try:
            return info, pq.ParquetFile(io.BytesIO(content)).read().to_pandas()
        except (pa.ArrowException, OSError) as error:
            raise UserError(
                f"{path}: damaged Parquet file ({first_line(error)}); {_remedy(path.parent)}"
            ) from None

    def _read(self, analysis_id: str) -> tuple[AnalysisInfo, bytes]:
        """Returns an analysis' info and the checked bytes of its values."""
        folder = self._root / analysis_id
        remedy = _remedy(folder)
        for path in (folder / "info.json", folder / "values.parquet"):
            if not path.is_file():
                raise UserError(f"{path}: no such file; {remedy}")
        stored = read_json(StoredAnalysis, folder / "info.json", remedy)
        info = stored.info
        if not analysis_id == info.analysis_id == info.spec.analysis_id:
            raise UserError(
                f"{folder / 'info.json'}: the folder is named {analysis_id}, the file says "
                f"{info.analysis_id}, and its spec has the id {info.spec.analysis_id}; expected "
                f"the same three times: {remedy}"
            )
        content = (folder / "values.parquet").read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != stored.values_sha256:
            raise UserError(
                f"{folder / 'values.parquet'}: damaged or altered: expected sha256 "
                f"{stored.values_sha256[:12]}..., found {found[:12]}... ({len(content)} bytes); "
                f"{remedy}"
            )
        return info, content


def _remedy(folder: Path) -> str:
    return f"delete the folder {folder} and run the suite again"


def _to_parquet(values: pd.DataFrame) -> bytes:
    found = pa.Table.from_pandas(values, preserve_index=False)
    # Pandas' versions differ in how wide the offsets of its text are.
    narrow = [field.with_type(_NARROW.get(field.type, field.type)) for field in found.schema]
    table = found.cast(pa.schema(narrow))
    for field in table.schema:
        if field.type not in _TYPES:
            raise ValueError(f"column '{field.name}' is {field.type}, expected one of {_TYPES}")
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()
