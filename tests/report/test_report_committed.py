"""What is committed of a run is what its committed rows say, to the byte."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image
from report_picture import KEY, PICTURE, numbers_hash

from bench.report.papers.index import INDEX, index_text
from bench.report.write import write_reports

REPORTS = Path(__file__).parents[2] / "reports"
RUNS = sorted(path.parents[1].name for path in REPORTS.glob("*/store/run.json"))


def test_rows_are_committed() -> None:
    assert "batch_statistics" in RUNS


@pytest.mark.parametrize("run", RUNS)
def test_tables_are_those_of_the_rows(run: str, tmp_path: Path) -> None:
    shutil.copytree(REPORTS / run / "store", tmp_path / run / "store")
    made = write_reports(tmp_path / run, formats=("md", "tex", "csv"))
    assert made
    for file in made:
        assert file.read_bytes() == (REPORTS / run / file.name).read_bytes(), file.name


def test_the_picture_of_a_page_shows_the_numbers_that_are_committed() -> None:
    with Image.open(PICTURE) as picture:
        assert picture.text[KEY] == numbers_hash(), "run tests/report/report_picture.py"


@pytest.mark.process
def test_the_index_and_its_claims_are_those_of_the_rows() -> None:
    before = (REPORTS / INDEX).read_text()
    assert index_text(REPORTS, before) == before
