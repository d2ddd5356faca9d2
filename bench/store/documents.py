"""JSON files of the store: written in one way, and read with the remedy in every message."""

from __future__ import annotations

import json
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from bench.core.errors import UserError, first_line, first_problem
from bench.core.paths import Folder
from bench.store.schema import SCHEMA_VERSION

M = TypeVar("M", bound=BaseModel)


def to_json(model: BaseModel) -> bytes:
    """Returns a model as an indented JSON file."""
    text = json.dumps(model.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def read_json(kind: type[M], path: Folder, remedy: str) -> M:
    """Reads a JSON file of this store's schema version into a model.

    Raises:
        UserError: When it is damaged or of another version; the message ends with ``remedy``.
    """
    try:
        value = json.loads(path.read_bytes())
        # What cannot be written cannot be identified: NaN, half of a surrogate pair.
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:  # JSON and UTF-8 errors alike
        raise UserError(f"{path}: damaged JSON ({first_line(error)}); {remedy}") from None
    version = value.get("schema_version") if isinstance(value, dict) else None
    if not isinstance(version, int):
        raise UserError(f"{path}: expected an object with a schema_version; {remedy}")
    if version != SCHEMA_VERSION:
        age, advice = (
            ("a newer", "upgrade rbench")
            if version > SCHEMA_VERSION
            else ("an older", "start anew")
        )
        raise UserError(
            f"{path}: expected schema version {SCHEMA_VERSION}, found {version}, written by {age} "
            f"rbench; {advice} or choose another run folder with --out"
        )
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise UserError(f"{path}: {first_problem(error, 'the file')}; {remedy}") from None
