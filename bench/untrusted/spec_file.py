"""Specifications read from YAML files, with errors that name the file and the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from bench.core.errors import UserError, did_you_mean, key_path, our_words
from bench.core.spec import Spec
from bench.untrusted.yaml_text import YamlError, load, read_limited

S = TypeVar("S", bound=Spec)


def read_spec(path: Path, kind: type[S], expected: str) -> S:
    """Reads a YAML file into a specification.

    Args:
        path: The file.
        kind: The specification.
        expected: Description of the file, for the message if it is missing.

    Raises:
        UserError: In one line, when the file is missing, unreadable, not UTF-8, not YAML within the
            limits of ``bench.untrusted.yaml_text``, or has an invalid key; the first is named.
    """
    return check_spec(read_yaml(path, expected), kind, str(path))


def read_yaml(path: Path, expected: str) -> Any:
    """Reads a YAML file into plain values; ``expected`` and errors as for ``read_spec``."""
    try:
        return load(read_limited(path, expected).decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason})") from None
    except YamlError as error:
        why = str(error).removeprefix("not valid YAML: ")
        raise UserError(f"{path}: not valid YAML (line {error.line}: {why})") from None


def check_spec(data: Any, kind: type[S], where: str) -> S:
    """Turns plain values into a specification.

    Raises:
        UserError: In one line that begins with ``where`` and names the first invalid key.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{where}: {_explain(error, kind)}") from None


def _explain(error: ValidationError, kind: type[Spec]) -> str:
    """Returns one error as ``key.path: message``, an unknown key before a missing one."""
    errors = error.errors()
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    where = key_path(first) or "the whole file"
    if first["type"] == "extra_forbidden":
        names = _fields(kind, first["loc"][:-1])
        return f"{where}: unknown key{did_you_mean(str(first['loc'][-1]), names)}"
    text = our_words(first)
    found = first["input"]
    simple = first["type"] != "value_error" and isinstance(found, str | int | float)
    return f"{where}: {text}" + (f", found {found!r}" if simple else "")


def _fields(kind: type[BaseModel], where: tuple[int | str, ...]) -> list[str]:
    """Returns the known keys at a path inside a specification."""
    for part in where:
        if part in kind.model_fields:
            kind = _nested(kind.model_fields[str(part)].annotation) or kind
    return list(kind.model_fields)


def _nested(annotation: Any) -> type[BaseModel] | None:
    """Returns the model inside an annotation such as ``tuple[NormSpec, ...]`` or ``X | None``."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None
