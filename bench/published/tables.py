"""Loads published tables and looks up their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from bench.core.errors import UserError, did_you_mean
from bench.published.files import papers, read_paper
from bench.published.rows import Key, Keys, all_keys, has_all, in_yaml, with_choices
from bench.published.setting import Setting, resolve


@dataclass(frozen=True)
class PublishedTable:
    """A table of a paper, or the numbers of one of its figures.

    Attributes:
        id: ``PAPER/TABLE``, for example ``rna/table1`` or ``rna/fig5b``.
        title: What it shows, on which data and model.
        columns: Names of the values of a row.
        rows: Keys of each row (``model``, ``norm``, ``stats``, ...), and its values in percent as
            published, by column; ``None`` for a number that the paper does not give.
        unit: Unit of the values.
        protocol: The equivalent protocol of rbench; empty where there is none.
        measured: How the authors measured, in a few sentences.
        attacks: How they configured their attacks; empty where ``measured`` says it.
        training: How they trained.
        settings: For each row, the setting of each column.
    """

    id: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Keys, Mapping[str, float | None]], ...]
    unit: str
    protocol: str
    measured: str
    attacks: str
    training: str
    settings: tuple[Mapping[str, Setting], ...]

    @property
    def keys(self) -> list[Keys]:
        """The keys of each row."""
        return [keys for keys, _ in self.rows]

    def setting(self, row: Mapping[str, object], column: str) -> Setting:
        """Returns the setting of the number in a row, given by all of its keys, and a column."""
        (place,) = [i for i, (keys, _) in enumerate(self.rows) if keys == row]
        return self.settings[place][column]


def table_ids() -> list[str]:
    """Returns the ids of all tables, and of all figures with known numbers, sorted.

    Raises:
        UserError: When a file of the user's own folder is wrong.
    """
    return sorted(
        f"{name}/{table}"
        for name, path in papers().items()
        for table in _contents(read_paper(name, path))
    )


def load_table(table_id: str) -> PublishedTable:
    """Loads a table.

    Raises:
        UserError: When the id is unknown, with the nearest one, or a user's file is wrong.
    """
    known = table_ids()
    if table_id not in known:
        raise UserError(f"unknown published table '{table_id}'{did_you_mean(table_id, known)}")
    name, _, table = table_id.partition("/")
    path = papers()[name]
    paper = read_paper(name, path)
    content = _contents(paper)[table]
    columns = tuple(content["columns"])
    rows = tuple(
        (
            {key: value for key, value in row.items() if key != "values"},
            dict(zip(columns, row["values"], strict=True)),
        )
        for row in content["rows"]
    )
    try:
        settings = tuple(_settings(paper, content, keys) for keys, _ in rows)
    except (ValidationError, LookupError, TypeError, ValueError) as error:
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise UserError(f"{path}: {table}: how its numbers were measured: {why}") from None
    return PublishedTable(
        id=table_id,
        title=content["title"],
        columns=columns,
        rows=rows,
        unit=content.get("unit", "percent accuracy"),
        protocol=paper.get("protocol", ""),
        measured=paper["measured"],
        attacks=paper.get("attacks", ""),
        training=paper["training"],
        settings=settings,
    )


def lookup(
    table_id: str, where: Mapping[str, object], row: Mapping[str, object], column: str
) -> float | None:
    """Finds a published number.

    Args:
        table_id: For example ``rna/table1``.
        where: Keys that all rows of interest share, for example ``{"model": "resnet18"}``.
        row: Keys of the one row, for example ``{"norm": "bn"}``; they win over ``where``.
        column: One of the table's columns.

    Returns:
        Percent, as published; ``None`` where no row matches or the paper gives no number.

    Raises:
        UserError: When the table, a key or the column does not exist, or several rows match.
    """
    table = load_table(table_id)
    if column not in table.columns:
        raise UserError(
            f"published table {table_id} has no column '{column}'"
            f"{did_you_mean(column, table.columns)}"
        )
    found = match_row(table, where, row)
    return None if found is None else found[1][column]


def match_row(
    table: PublishedTable, where: Mapping[str, object], row: Mapping[str, object]
) -> tuple[Keys, Mapping[str, float | None]] | None:
    """Finds the one row that has all the given keys; ``None`` where no row has them.

    Raises:
        UserError: When a key does not exist in the table, or several rows match.
    """
    wanted = {**where, **row}
    keys = all_keys(table.keys)
    for key in wanted:
        if key not in keys:
            raise UserError(
                f"the rows of published table {table.id} have no key '{key}'"
                f"{did_you_mean(key, keys)}"
            )
    matches = [found for found in table.rows if has_all(found[0], wanted)]
    if len(matches) > 1:
        why = f"{len(matches)} rows of published table {table.id} have {in_yaml(wanted)}"
        raise UserError(with_choices(why, [keys for keys, _ in matches], table.keys))
    return matches[0] if matches else None


def _contents(paper: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the tables of a paper, then its figures' numbers, by name."""
    return {**paper["tables"], **paper["figure_tables"]}


def _settings(
    paper: Mapping[str, Any], table: Mapping[str, Any], row: Mapping[str, Key]
) -> dict[str, Setting]:
    """Returns the setting of each number of a row."""
    return {
        column: resolve(
            (paper["setting"], table["setting"]),
            table.get("exceptions", ()),
            row,
            column,
            paper["attack_settings"].get(column),
            paper["test_images"],
        )
        for column in table["columns"]
    }
