"""A check as JSON, for programs that go on from there."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict
from typing import Any

from bench.check.compare import Check
from bench.check.say import headline

SCHEMA_VERSION = 1
"""Of the JSON; a change that a reader must know of raises it."""

_NUMBERS = re.compile(r"\[\n\s+([0-9]+(?:,\n\s+[0-9]+)*)\n\s+\]")
"""An array of whole numbers, one on each line."""


def to_json(check: Check) -> str:
    """Returns all of a check: accuracies and differences in [0, 1], images as positions.

    The text is ASCII, so that no terminal or pipe can spoil it.
    """
    value = {
        "schema_version": SCHEMA_VERSION,
        "exit_code": check.exit_code,
        "headline": headline(check),
        "tested": check.tested,
        **asdict(check),
    }
    text = json.dumps(_plain(value), indent=1, sort_keys=True, allow_nan=False)
    # No string holds a line feed as such, so that only arrays are found.
    return _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text) + "\n"


def _plain(value: Any) -> Any:
    """Returns a value without what JSON does not have: numbers that are not finite are null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
