"""The files that docs/data.md describes are read as it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from doc_blocks import ROOT, blocks
from PIL import Image
from typer.testing import CliRunner

from bench.cli.app import app
from bench.core.errors import UserError
from bench.data.folder import EXTENSIONS
from bench.data.named import get_dataset
from bench.data.slice import open_split

PAGE = ROOT / "docs" / "data.md"
CODE = {block.language: block.code for block in blocks(PAGE)}


def test_the_arrays_and_the_suite_of_the_page_fit_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(CODE["python"], {})
    Path("own.yaml").write_text(CODE["yaml"], encoding="utf-8")
    done = CliRunner().invoke(app, ["plan", "own.yaml", "--no-time"])
    assert done.exit_code == 0, done.output
    assert "2 cells" in done.output


def test_folders_are_read_as_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, size in (("test/cat/001.jpg", (40, 30)), ("test/dog/002.png", (30, 50))):
        Path("photos", name).parent.mkdir(parents=True)
        Image.new("RGB", size, "red").save(Path("photos", name))
    Path("photos/test/ant").mkdir()
    found = get_dataset("folder:photos/{split}?size=24")
    test = open_split("folder:photos/{split}?size=24", "test")
    assert (found.class_names, list(test.y)) == (("ant", "cat", "dog"), [1, 2])
    assert test.take(np.array([0, 1])).x.shape == (2, 3, 24, 24)
    with pytest.raises(UserError, match="to resize and crop every image"):
        open_split("folder:photos/test", "test").take(np.array([0, 1]))


def test_every_format_is_named() -> None:
    text = PAGE.read_text(encoding="utf-8").lower()
    families = {".jpeg": "jpeg", ".jpg": "jpeg", ".tif": "tiff"}
    assert all(families.get(one, one[1:]) in text for one in EXTENSIONS)
