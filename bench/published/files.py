"""Files of published tables: those of this package, and those of a user's folder."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, model_validator

from bench.core.errors import UserError
from bench.core.spec import Number, Spec
from bench.untrusted.spec_file import read_spec

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
"""Pattern of names of files and tables, which become parts of file names of reports."""


class TableFile(Spec):
    """One table of a file.

    Attributes:
        title: What it shows, on which data and model.
        columns: Names of the values of a row.
        rows: Keys of each row, and ``values``: one for each column, or null.
        setting: Fields of ``Setting`` that hold for the whole table.
        exceptions: Fields of ``Setting`` that hold for some rows (``where``) and ``columns``.
        unit: Unit of the values.
    """

    title: str
    columns: tuple[str, ...] = Field(min_length=1)
    rows: tuple[dict[str, str | bool | int | float | tuple[Number | None, ...]], ...]
    setting: dict[str, Any] = Field(default_factory=dict)
    exceptions: tuple[dict[str, Any], ...] = ()
    unit: str = "percent accuracy"

    @model_validator(mode="after")
    def _a_value_a_column(self) -> TableFile:
        for i, row in enumerate(self.rows):
            values = row.get("values")
            if not isinstance(values, tuple) or len(values) != len(self.columns):
                raise ValueError(f"rows[{i}]: expected values, one for each column")
            if any(isinstance(value, tuple) for key, value in row.items() if key != "values"):
                raise ValueError(f"rows[{i}]: expected a word or a number under each key")
        return self

    @model_validator(mode="after")
    def _exceptions_say_where(self) -> TableFile:
        for i, one in enumerate(self.exceptions):
            sound = isinstance(one.get("where", {}), dict) and isinstance(
                one.get("columns", []), list
            )
            if not sound:
                raise ValueError(f"exceptions[{i}]: expected a mapping where and a list columns")
        return self


class PaperFile(Spec):
    """The content of ``NAME.yaml``: the tables of one source, and how their numbers were measured.

    Attributes:
        paper: The source.
        tables: Tables by name.
        figure_tables: Numbers of figures, by name.
        measured: How the authors measured, in a few sentences.
        attacks: How they configured their attacks.
        training: How they trained.
        protocol: The equivalent protocol of rbench, or empty.
        test_images: Number of scored images, by data set.
        setting: Fields of ``Setting`` that hold for the whole source.
        attack_settings: Fields of ``AttackSetting``, by column.
    """

    paper: str
    tables: dict[str, TableFile]
    figure_tables: dict[str, TableFile] = Field(default_factory=dict)
    measured: str = ""
    attacks: str = ""
    training: str = ""
    protocol: str = ""
    test_images: dict[str, int] = Field(default_factory=dict)
    setting: dict[str, Any] = Field(default_factory=dict)
    attack_settings: dict[str, dict[str, Any]] = Field(default_factory=dict)


def published_folder() -> Path:
    """Returns the folder of the user's own tables: ``RBENCH_PUBLISHED``, or ``./published``."""
    return Path(os.environ.get("RBENCH_PUBLISHED", "published"))


def papers() -> dict[str, Path | None]:
    """Returns the path of each file by its name; ``None`` for those of this package.

    Raises:
        UserError: When the name of a user's file is taken or not allowed.
    """
    packaged = resources.files("bench.published").iterdir()
    found: dict[str, Path | None] = {
        file.name.removesuffix(".yaml"): None for file in packaged if file.name.endswith(".yaml")
    }
    for path in sorted(published_folder().glob("*.yaml")):
        if path.stem in found:
            raise UserError(
                f"{path}: rbench has published tables called '{path.stem}' already; rename the file"
            )
        _check_name(path.stem, path)
        found[path.stem] = path
    return found


def read_paper(name: str, path: Path | None) -> Mapping[str, Any]:
    """Returns the content of a file as plain values, with every default filled in.

    Raises:
        UserError: When a user's file is wrong, naming the key.
    """
    if path is None:
        return _packaged(name)
    stat = path.stat()
    return _own(path, stat.st_mtime_ns, stat.st_size)


@cache
def _packaged(name: str) -> dict[str, Any]:
    text = resources.files("bench.published").joinpath(f"{name}.yaml").read_text("utf-8")
    content: dict[str, Any] = yaml.safe_load(text)
    return content


@lru_cache(maxsize=32)
def _own(path: Path, changed: int, size: int) -> dict[str, Any]:
    """Reads a user's file; the cache is by its time of change and size."""
    content = read_spec(path, PaperFile, "a file of published tables")
    for table in (*content.tables, *content.figure_tables):
        _check_name(table, path)
    return content.model_dump()


def _check_name(name: str, path: Path) -> None:
    if not re.match(NAME, name):
        raise UserError(f"{path}: expected a name of letters, digits, _ . and -, found '{name}'")
