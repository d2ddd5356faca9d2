"""Where published tables lie: those that come with this package, and those of a user's folder."""

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
"""Of files and tables: they become parts of the names of reports' files."""


class TableFile(Spec):
    """One table of a file.

    Attributes:
        title: What it shows, on which data and model.
        columns: Names of the values in each row.
        rows: Each row's keys, and ``values``: one a column, or null where there is none.
        setting: What holds for all of it, as ``Setting`` has it.
        exceptions: What holds instead for some rows (``where``) and ``columns``.
        unit: Of the values.
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
    """The content of ``NAME.yaml``: the tables of one source, and how their numbers were made.

    Attributes:
        paper: The source.
        tables: By name.
        figure_tables: Numbers of figures, likewise.
        measured: How its authors measured, in a few sentences.
        attacks: How they set their attacks, likewise.
        training: How they trained, likewise.
        protocol: The one of ours that names theirs, or empty.
        test_images: Number of images that were scored, by data set.
        setting: What holds for all of it, as ``Setting`` has it.
        attack_settings: By column, the attack behind it, as ``AttackSetting`` has it.
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
    """Returns the folder of a user's own tables: ``RBENCH_PUBLISHED``, or ``./published``."""
    return Path(os.environ.get("RBENCH_PUBLISHED", "published"))


def papers() -> dict[str, Path | None]:
    """Returns the names of all files without their ending; ``None`` for those of this package.

    Raises:
        UserError: When a user's file has a name that is taken, or none for a file.
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
    """Returns the content of a file as plain values, every default filled in.

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
    """Reads a user's file, again once it has changed."""
    content = read_spec(path, PaperFile, "a file of published tables")
    for table in (*content.tables, *content.figure_tables):
        _check_name(table, path)
    return content.model_dump()


def _check_name(name: str, path: Path) -> None:
    if not re.match(NAME, name):
        raise UserError(f"{path}: expected a name of letters, digits, _ . and -, found '{name}'")
