"""Runs the tutorials and keeps what they print: ``make notebooks``, or with names of files."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))


def executed(path: Path, folder: Path) -> Any:
    """Returns a notebook with its outputs, run in a folder; its kernel imports this checkout."""
    os.environ["PYTHONPATH"] = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
    book = nbformat.read(path, as_version=4)
    client = NotebookClient(
        book,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()
    return book


def main() -> None:
    """Executes the notebooks in place."""
    for path in [Path(name) for name in sys.argv[1:]] or TUTORIALS:
        started = time.monotonic()
        book = executed(path, path.parent)
        book.metadata = {k: book.metadata[k] for k in ("kernelspec",) if k in book.metadata}
        book.metadata["language_info"] = {"name": "python"}
        for cell in book.cells:
            if cell.cell_type == "code":
                cell.outputs = [kept for kept in map(_plain, cell.outputs) if kept]
        path.write_text(nbformat.writes(book) + "\n", encoding="utf-8")
        print(f"{path.name}: {time.monotonic() - started:.0f} s")


def _plain(output: Any) -> Any:
    """Returns an output without what changes from run to run: warnings and HTML."""
    if output.output_type == "stream" and output.name == "stderr":
        return None
    if "data" in output and "text/html" in output.data:
        del output.data["text/html"]
    return output


if __name__ == "__main__":
    main()
