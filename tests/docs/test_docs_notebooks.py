"""The tutorials run from top to bottom, and show what they printed."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from doc_blocks import NOTEBOOKS


def code_cells(path: Path) -> list[Any]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_it_was_run_in_order_and_without_errors(path: Path) -> None:
    cells = code_cells(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert outputs and not [o for o in outputs if o["output_type"] == "error"]
    for cell in cells:
        ast.parse("".join(cell["source"]))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_its_outputs_hold_no_path_of_a_machine(path: Path) -> None:
    for cell in code_cells(path):
        text = json.dumps(cell["outputs"])
        assert "/tmp/" not in text and "/home/" not in text and "/root/" not in text
        assert "\\u001b" not in text


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_it_runs(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("nbclient", reason="needs nbclient: pip install 'rbench[dev]'")
    pytest.importorskip("ipykernel", reason="needs ipykernel: pip install 'rbench[dev]'")
    from notebooks import executed

    book = executed(path, tmp_path)
    shown = [output for cell in book.cells for output in cell.get("outputs", [])]
    assert shown and not [output for output in shown if output.output_type == "error"]
