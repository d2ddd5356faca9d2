"""The papers' tables as data, to set beside what this project measures."""

from bench.published.tables import PublishedTable, load_table, lookup, match_row, table_ids

__all__ = ["PublishedTable", "load_table", "lookup", "match_row", "table_ids"]
