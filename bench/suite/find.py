"""Finds a suite file by path or name, and writes a first one."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from bench.core.errors import UserError, did_you_mean


def list_suites(folders: Iterable[Path]) -> dict[str, Path]:
    """Returns the suites below some folders by name, sorted; the first folder to have a name wins.

    A suite's name is its path inside the folder without ``.yaml``, for example ``papers/rna``.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        for path in folder.rglob("*.yaml"):
            found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), path)
    return dict(sorted(found.items()))


def find_suite(name_or_path: str, folders: Iterable[Path]) -> Path:
    """Returns the suite file of a path, or of the name of a suite in the folders.

    Raises:
        UserError: When there is no such file or name; the message holds the nearest one.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    suites = list_suites(folders)
    name = name_or_path.removesuffix(".yaml")
    if name in suites:
        return suites[name]
    if path.parent != Path() and path.parent.is_dir():
        siblings = [str(file) for file in path.parent.glob("*.yaml")]
        raise UserError(f"no suite file '{path}'{did_you_mean(str(path), siblings)}")
    raise UserError(f"no suite '{name}', as a file or by name{did_you_mean(name, suites)}")


NAME = "mine"


def starter_suite() -> str:
    """Returns the text of a small suite of shipped checkpoints, each line explained."""
    template = resources.files("bench.suite").joinpath("starter.yaml").read_text("utf-8")
    return template.format(name=NAME)
