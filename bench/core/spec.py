"""The base of every specification, numbers as YAML has them, and hashes for identities."""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict


def canonical_json(value: object) -> str:
    """Returns JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: object, length: int = 16) -> str:
    """Returns the first ``length`` hex digits of the sha256 of the value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:length]


def sha256_file(path: Path) -> str:
    """Returns the sha256 of a file's bytes as 64 hex digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


_FRACTION = re.compile(r"^\s*([+-]?[0-9.eE+-]+)\s*/\s*([0-9.eE+-]+)\s*$")


def parse_number(value: object) -> float:
    """Reads a finite number; YAML gives ``8/255`` and ``1e-3`` as strings.

    Raises:
        ValueError: For anything that is not a finite number or a fraction of two numbers.
    """
    expected = f"expected a number or a fraction such as 8/255, found {value!r}"
    if isinstance(value, bool):
        raise ValueError(expected)
    if isinstance(value, int | float):
        try:
            number = float(value)
        except OverflowError:
            raise ValueError("expected a finite number, found an integer too large") from None
    elif isinstance(value, str):
        match = _FRACTION.match(value)
        try:
            number = float(match[1]) / float(match[2]) if match else float(value)
        except (ValueError, ZeroDivisionError):
            raise ValueError(expected) from None
    else:
        raise ValueError(expected)
    if not math.isfinite(number):
        raise ValueError(f"expected a finite number, found {value!r}")
    return number


Number = Annotated[float, BeforeValidator(parse_number)]
"""A pydantic field type: float, written in YAML as a number or a fraction."""


class Spec(BaseModel):
    """A frozen pydantic model that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")
