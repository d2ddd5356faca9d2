"""Picks rows of published tables by their keys, and says which rows there are to pick from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import yaml

from bench.core.errors import did_you_mean

Key = str | float | bool
Keys = Mapping[str, Key]
"""The keys of a row, for example ``{"model": "resnet18", "norm": "bn"}``."""

MOST = 24
"""Rows that a message lists."""


def has_all(row: Keys, wanted: Mapping[str, object]) -> bool:
    """Returns whether a row has all the keys; a number and its text are the same, as in YAML."""
    return all(key in row and _same(row[key], value) for key, value in wanted.items())


def why_none(rows: Sequence[Keys], wanted: Mapping[str, object], of: str) -> tuple[str | None, str]:
    """Says why no row has all the keys.

    Args:
        rows: The rows, of which none has them all.
        wanted: The keys.
        of: What the rows belong to, as in ``no row of rna/table1``.

    Returns:
        The first key to blame, ``None`` where only all of them together are wrong; and the message,
        with the nearest key or value.
    """
    for key, value in wanted.items():
        keys = {key for row in rows for key in row}
        if key not in keys:
            return key, f"no row {of} has the key '{key}'{did_you_mean(key, keys)}"
        values = {str(row[key]): row[key] for row in rows if key in row}
        if not any(_same(one, value) for one in values.values()):
            return key, f"no row {of} has {key} '{value}'{did_you_mean(str(value), values)}"
    return None, f"no row {of} has all of {in_yaml(wanted)} together"


def shortest(row: Keys, rows: Sequence[Keys]) -> dict[str, Key]:
    """Returns the first keys of a row that no other row shares, all of them where none suffice."""
    taken: dict[str, Key] = {}
    for key, value in row.items():
        taken[key] = value
        if sum(has_all(other, taken) for other in rows) == 1:
            break
    return taken


def choices(rows: Sequence[Keys], among: Sequence[Keys] | None = None) -> str:
    """Returns what picks each row, as it is written in a suite; the first ``MOST`` of many.

    Args:
        rows: The rows to list.
        among: All rows of their table; ``rows`` by default.
    """
    shown = [in_yaml(shortest(row, among or rows)) for row in rows[:MOST]]
    more = [f"and {len(rows) - MOST} more"] * (len(rows) > MOST)
    return ", ".join((*shown, *more))


def with_choices(why: str, rows: Sequence[Keys], among: Sequence[Keys] | None = None) -> str:
    """Returns a message about rows that ends with those to choose from; see ``choices``."""
    return f"{why}{' ' if why.endswith('?') else '; '}choose one of {choices(rows, among)}"


def in_yaml(value: Mapping[str, object]) -> str:
    """Returns a mapping as it is written on one line of a suite."""
    text: str = yaml.safe_dump(
        dict(value), default_flow_style=True, sort_keys=False, allow_unicode=True, width=10_000
    )
    return text.strip()


def all_keys(rows: Iterable[Keys]) -> list[str]:
    """Returns the keys of rows, each once."""
    return list(dict.fromkeys(key for row in rows for key in row))


def _same(published: Key, wanted: object) -> bool:
    return published == wanted or str(published) == str(wanted)
