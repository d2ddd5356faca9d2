"""SQL over a run, by DuckDB, which can reach nothing but the run's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from bench.core.errors import UserError
from bench.core.paths import Folder
from bench.export.tables import cells_table, published_table, rows_table
from bench.report.run_view import RunView
from bench.untrusted.escape import one_line

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

VIEWS = ("rows", "cells", "published")

_LOCKS = (
    "SET python_enable_replacements = false",  # else SQL could name variables of this program
    "SET temp_directory = ''",  # nothing is written, however large a result is
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)
_OFFLINE: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
_READING = ("SELECT", "EXPLAIN")


def query(run_folder: Folder, sql: str) -> pa.Table:
    """Runs one statement over the views ``rows``, ``cells`` and ``published``.

    The statement can read these views only: no file, no network, no setting.

    Args:
        run_folder: Of the run.
        sql: A SELECT, or what DuckDB reads as one (``DESCRIBE rows``, ``SUMMARIZE cells``).

    Raises:
        UserError: When DuckDB is not installed, the run cannot be read, or the statement is
            wrong, is none, is several, or does more than read.
    """
    connection = _open(RunView(run_folder))
    import duckdb

    try:
        statements = connection.extract_statements(sql)
        kinds = [statement.type.name for statement in statements]
        if len(kinds) != 1 or kinds[0] not in _READING:
            found = ", then ".join(kinds) or "nothing"
            raise UserError(f"query: expected one SELECT, found {found}")
        return connection.sql(sql).to_arrow_table()
    except (duckdb.Error, pa.ArrowException) as error:
        raise UserError(f"query: {_explain(error)}") from None
    finally:
        connection.close()


def _open(view: RunView) -> DuckDBPyConnection:
    """Returns a database in memory that holds a run and is locked."""
    try:
        import duckdb
    except ImportError:
        raise UserError(
            "rbench query needs DuckDB, which is not installed; pip install 'rbench[query]'"
        ) from None
    connection = duckdb.connect(":memory:", config=_OFFLINE)
    connection.register("rows", rows_table(view))
    connection.register("cells", cells_table(view))
    connection.register("published", published_table())
    for lock in _LOCKS:
        connection.execute(lock)
    return connection


def _explain(error: Exception) -> str:
    """Returns DuckDB's message on one line, without the copy of the statement below it."""
    lines = str(error).split("\nLINE ")[0].splitlines()
    return one_line("; ".join(line for line in lines if line.strip()))
