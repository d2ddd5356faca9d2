"""A table as the bytes of a file."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bench.core.errors import UserError, did_you_mean
from bench.untrusted.escape import markdown


def file_stems(labels: Sequence[str]) -> list[str]:
    """Returns a name for each label, without an ending: plain letters, and no two alike."""
    stems: list[str] = []
    for label in labels:
        plain = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode()
        stem = re.sub(r"[^A-Za-z0-9]+", "-", plain).strip("-")[:80] or "model"
        taken = {name.lower() for name in stems}
        number = 2
        unique = stem
        while unique.lower() in taken:
            unique, number = f"{stem}-{number}", number + 1
        stems.append(unique)
    return stems


def to_bytes(table: pa.Table, format: str) -> bytes:
    """Returns a table as a file; texts are UTF-8, one line a row.

    Args:
        table: Of plain columns, or lists of texts.
        format: One of ``FORMATS``.

    Raises:
        UserError: For an unknown format, or two columns of a name.
    """
    if format not in FORMATS:
        raise UserError(f"unknown format '{format}'{did_you_mean(format, FORMATS)}")
    check_names(table)
    return FORMATS[format](table)


def check_names(table: pa.Table) -> None:
    """Raises ``UserError`` where two columns have one name, which no format can tell apart."""
    twice = [name for name, times in Counter(table.schema.names).items() if times > 1]
    if twice:
        raise UserError(f"two columns are called '{twice[0]}'; name them apart with AS")


def as_text(value: object) -> str:
    """Returns a value as tables show it: empty for null, lists with semicolons."""
    if value is None:
        return ""
    if isinstance(value, list):
        return "; ".join(as_text(one) for one in value)
    return str(value)


def _to_csv(table: pa.Table) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.schema.names)
    for batch in table.to_batches(max_chunksize=10_000):
        columns = [column.to_pylist() for column in batch.columns]
        writer.writerows([as_text(value) for value in line] for line in zip(*columns, strict=True))
    return out.getvalue().encode()


def _to_json(table: pa.Table) -> bytes:
    """Returns a list of objects; what JSON has no word for becomes null or text."""
    lines = [{key: _plain(value) for key, value in line.items()} for line in table.to_pylist()]
    parts = (json.dumps(line, ensure_ascii=False, default=str) for line in lines)
    return ("[" + ",\n ".join(parts) + "]\n").encode()


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _to_markdown(table: pa.Table) -> bytes:
    names = [markdown(name) for name in table.schema.names]
    numeric = [pa.types.is_floating(t) or pa.types.is_integer(t) for t in table.schema.types]
    rule = ["---:" if right else "---" for right in numeric]
    lines = [names, rule]
    for line in table.to_pylist():
        lines.append([markdown(as_text(value)) for value in line.values()])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines).encode()


def _to_parquet(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()


FORMATS: dict[str, Callable[[pa.Table], bytes]] = {
    "csv": _to_csv,
    "json": _to_json,
    "md": _to_markdown,
    "parquet": _to_parquet,
}
"""By the ending of their files."""
