"""Numbers as people write them in YAML: ``8/255``, ``1e-3``, ``0.1``."""

from __future__ import annotations

import math
import re
from typing import Annotated

from pydantic import BeforeValidator

_FRACTION = re.compile(r"^\s*([+-]?[0-9.eE+-]+)\s*/\s*([0-9.eE+-]+)\s*$")


def parse_number(value: object) -> float:
    """Reads a finite number; YAML hands ``8/255`` and ``1e-3`` over as strings.

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
