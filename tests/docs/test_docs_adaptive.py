"""The script of docs/adaptive.md runs, and prints what the page shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from doc_blocks import ROOT, blocks

PAGE = ROOT / "docs" / "adaptive.md"
TOLERANCE = 10
"""Points by which a number may differ on another machine: it is of 100 images."""


def printed(text: str) -> dict[str, list[int]]:
    """Returns the percentages of each line, by the name that it begins with."""
    lines = (line for line in text.splitlines() if line.strip())
    return {line[:20].strip(): [int(n) for n in re.findall(r"(\d+)%", line)] for line in lines}


@pytest.mark.slow
@pytest.mark.process
def test_the_script_prints_what_the_page_shows(tmp_path: Path) -> None:
    found = blocks(PAGE)
    script = tmp_path / "defences.py"
    script.write_text("\n\n".join(block.code for block in found if block.language == "python"))
    done = subprocess.run(
        [sys.executable, script.name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    shown = printed("\n".join(block.code for block in found if block.language == "text"))
    measured = printed(done.stdout)
    assert list(measured) == list(shown), done.stdout
    for name, numbers in shown.items():
        assert measured[name] == pytest.approx(numbers, abs=TOLERANCE), name
    robust = {name: numbers[-1] for name, numbers in measured.items() if numbers}
    assert measured["purifying"] == [], "an attack that fails gives no number"
    for name in ("quantizing", "random"):
        assert robust[name] > 90 and robust[f"{name}, BPDA"] < 20
    assert robust["purifying, BPDA"] < 50
    assert robust["detecting"] > 85 and robust["detecting, own loss"] < 60
