"""Recipe files: one recipe, or a book of recipes that have most in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from bench.core.errors import UserError, did_you_mean
from bench.core.spec import Spec
from bench.train.recipe import Recipe
from bench.untrusted.spec_file import check_spec, read_yaml


class Book(Spec):
    """Recipes that share a data set, a network or a schedule.

    Attributes:
        title: What they are for.
        common: What each recipe has unless it says otherwise; keys as in a recipe.
        recipes: What each has of its own, in the order in which they are trained. A mapping is
            laid over the common one key by key, anything else replaces it.
    """

    title: str
    common: dict[str, Any] = Field(default_factory=dict)
    recipes: tuple[dict[str, Any], ...] = Field(min_length=1)


def read_recipes(path: Path) -> list[Recipe]:
    """Reads a file that holds one recipe or a book of them.

    Raises:
        UserError: When the file is missing or wrong, naming the recipe and the key, or when two
            recipes have the same name.
    """
    data = read_yaml(path, "a training recipe, or a book of recipes")
    if not isinstance(data, Mapping) or "recipes" not in data:
        return [check_spec(data, Recipe, str(path))]
    book = check_spec(data, Book, str(path))
    recipes = []
    for i, own in enumerate(book.recipes):
        where = f"{path}: recipe {own.get('name', i + 1)}"
        recipes.append(check_spec(_laid_over(book.common, own), Recipe, where))
    _refuse_twins(recipes, str(path))
    return recipes


def list_recipes(folder: Path) -> list[Recipe]:
    """Returns all recipes under a folder, files in order of their names.

    Raises:
        UserError: When a file is wrong, or two recipes have the same name.
    """
    recipes = [recipe for path in sorted(folder.rglob("*.yaml")) for recipe in read_recipes(path)]
    _refuse_twins(recipes, str(folder))
    return recipes


def find_recipes(what: str, folder: Path) -> list[Recipe]:
    """Returns the recipes of a file, or the one in a folder's files that has this name.

    Args:
        what: Path of a recipe file, name of a file in the folder without ``.yaml``, or name of a
            recipe.
        folder: Where names are looked up.

    Raises:
        UserError: When there is no such thing, with the nearest names, or a file is wrong.
    """
    for path in (Path(what), folder / f"{what}.yaml"):
        if path.is_file():
            return read_recipes(path)
    if what.endswith((".yaml", ".yml")):
        raise UserError(f"{what}: no such file; expected a training recipe, or a book of recipes")
    known = {recipe.name: recipe for recipe in list_recipes(folder)}
    if what not in known:
        hint = did_you_mean(what, sorted(known))
        raise UserError(f"{what}: no recipe file, and no recipe of that name in {folder}{hint}")
    return [known[what]]


def _laid_over(common: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(common)
    for key, value in own.items():
        base = merged.get(key)
        both = isinstance(base, Mapping) and isinstance(value, Mapping)
        merged[key] = _laid_over(base, value) if both else value  # type: ignore[arg-type]
    return merged


def _refuse_twins(recipes: list[Recipe], where: str) -> None:
    names = [recipe.name for recipe in recipes]
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        raise UserError(f"{where}: more than one recipe is named {', '.join(twins)}")
