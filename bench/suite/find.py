"""Finds a suite file by path or name, and writes a first one."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from bench.core.errors import UserError, closest, did_you_mean

SUFFIX = ".yaml"


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
    name = name_or_path.removesuffix(SUFFIX)
    if name in suites:
        return suites[name]
    if path.suffix == SUFFIX:
        raise UserError(_no_such_file(path, suites))
    written = path.with_name(path.name + SUFFIX) if path.name else path
    hint = f"; did you mean the file '{written}'?" if written.is_file() else ""
    raise UserError(f"no suite '{name}', as a file or by name{hint or did_you_mean(name, suites)}")


def _no_such_file(path: Path, suites: Iterable[str]) -> str:
    """Returns the message for the path of a suite at which there is no file."""
    told = f"no suite file '{path}'" + ("" if path.is_absolute() else f" in {Path.cwd()}")
    beside = path.parent.glob(f"*{SUFFIX}") if path.parent.is_dir() else ()
    near = closest(str(path), map(str, beside))
    if near is not None:
        return f"{told}; did you mean '{near}'?"
    parts = path.with_suffix("").parts
    names = ["/".join(parts[i:]) for i in range(len(parts))]
    known = next((name for name in names if name in suites), None)
    if known is not None:
        return f"{told}; a suite '{known}' is found by its name alone: give '{known}'"
    return f"{told}; expected a suite file, or a name that rbench list suites shows"


NAME = "mine"


def starter_suite() -> str:
    """Returns the text of a small suite of shipped checkpoints, each line explained."""
    template = resources.files("bench.suite").joinpath("starter.yaml").read_text("utf-8")
    return template.format(name=NAME)
