"""The state of an unfinished training: written after each epoch, read when it goes on."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from bench.core.errors import UserError
from bench.core.spec import digest
from bench.store import write_atomically
from bench.train.recipe import Recipe
from bench.untrusted.pickle_depth import check_torch_file


def read_state(path: Path, recipe: Recipe, device: torch.device) -> dict[str, Any] | None:
    """Returns the state that was written last, or ``None`` when there is none.

    Raises:
        UserError: When the file is damaged or belongs to another recipe; nothing that it may ask
            for is executed.
    """
    if not path.is_file():
        return None
    try:
        check_torch_file(path)
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        found = state["recipe"]
    except Exception:  # a damaged pickle raises whatever its bytes make of it
        raise unreadable(path) from None
    if found != recipe_digest(recipe):
        raise UserError(f"{path}: belongs to another recipe; delete it to train anew")
    return state


def unreadable(path: Path) -> UserError:
    """Returns what is said of a file that is no state of a training."""
    return UserError(f"{path}: not a readable training state; delete it to train anew")


def write_state(path: Path, recipe: Recipe, state: dict[str, Any]) -> None:
    """Writes the state, in one step."""
    content = BytesIO()
    torch.save({"recipe": recipe_digest(recipe), **state}, content)
    write_atomically(path, content.getvalue())


def recipe_digest(recipe: Recipe) -> str:
    """Returns what tells one recipe from another; texts for people do not count."""
    return digest(recipe.model_dump(mode="json", exclude={"source", "notes"}))
