"""The numbers in docs/security.md are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.version import Version

from bench.core import model_spec, norm_spec
from bench.data import named
from bench.suite import grid
from bench.untrusted import pickles, pictures, yaml_text

PAGE = Path(__file__).parents[2] / "docs" / "security.md"


def upper(kind: type, field: str) -> int:
    found = kind.model_fields[field].metadata  # type: ignore[attr-defined]
    (limit,) = [m for m in found if hasattr(m, "le") or hasattr(m, "max_length")]
    return int(getattr(limit, "le", None) or limit.max_length)


LIMITS = {
    "{:,} bytes,": yaml_text.MAX_BYTES,
    "{} levels, ": yaml_text.MAX_DEPTH,
    "{} aliases": yaml_text.MAX_ALIASES,
    "{:,} values": yaml_text.MAX_NODES,
    "{:,} characters": yaml_text.MAX_DIGITS,
    "{:,} entries": grid.MAX_ENTRIES,
    "deeper than {:,} levels": pickles.MAX_DEPTH,
    "{:,} classes": upper(model_spec.ModelSpec, "classes"),
    "{:,} channels": upper(model_spec.ModelSpec, "channels"),
    "{:,} pixels a side": model_spec.MAX_SIZE,
    "{} norms in a pool": upper(norm_spec.NormSpec, "pool"),
    "{:,} bytes once unpacked": named.MAX_BYTES,
    "{:,} pixels, a stored": pictures.MAX_PIXELS,
    "a stored picture {:,} a side": pictures.MAX_SIDE,
}


@pytest.mark.parametrize("words", LIMITS)
def test_the_page_states_the_limits_of_the_code(words: str) -> None:
    assert words.format(LIMITS[words]) in " ".join(PAGE.read_text().split())


def test_the_page_states_the_versions_of_the_setup() -> None:
    page = PAGE.read_text()
    setup = (PAGE.parents[1] / "setup.cfg").read_text()
    for name, version in (("pyarrow", "14.0.1"), ("pillow", "10.3"), ("filelock", "3.20.1")):
        (least,) = re.findall(rf"^    {name} >= (\S+)$", setup, re.MULTILINE)
        assert Version(least) >= Version(version) and version in page
