"""The papers' tables as data, to set beside what this project measures, and a user's own."""

from bench.published.files import published_folder
from bench.published.setting import AttackSetting, Setting, share_of_eps
from bench.published.tables import PublishedTable, load_table, lookup, match_row, table_ids

__all__ = [
    "AttackSetting",
    "PublishedTable",
    "Setting",
    "load_table",
    "lookup",
    "match_row",
    "published_folder",
    "share_of_eps",
    "table_ids",
]
