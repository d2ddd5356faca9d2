"""Runs in other people's formats: tables to query, files that other tools read."""

from bench.export.tables import cells_table, published_table, rows_table
from bench.export.write import FORMATS, to_bytes

__all__ = ["FORMATS", "cells_table", "published_table", "rows_table", "to_bytes"]
