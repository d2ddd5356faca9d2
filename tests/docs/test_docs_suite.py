"""docs/suite.md has every key of a suite, as the models have it."""

from __future__ import annotations

import re

import pytest
from doc_blocks import ROOT
from pydantic import BaseModel

from bench.suite.entry import AnalysisEntry, ReportEntry
from bench.suite.report_kinds import REPORT_KINDS
from bench.suite.spec import AttackEntry, ModelEntry, SuiteSpec
from tools import suite_keys

PAGE = (ROOT / "docs" / "suite.md").read_text(encoding="utf-8")


def test_the_page_is_up_to_date() -> None:
    _, begin, rest = PAGE.partition(suite_keys.BEGIN)
    written, end, _ = rest.partition(suite_keys.END)
    assert begin and end
    assert written.strip() == suite_keys.tables().strip(), "run python -m tools.suite_keys"


@pytest.mark.parametrize("model", [SuiteSpec, ModelEntry, AttackEntry, AnalysisEntry, ReportEntry])
def test_every_key_is_in_the_section_of_its_model(model: type[BaseModel]) -> None:
    heading = f"### {suite_keys.SECTIONS[model]}\n"
    section = PAGE.partition(heading)[2].split("\n### ")[0]
    listed = re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]*\| [^|]+ \|$", section, re.M)
    assert set(listed) == set(model.model_fields) - suite_keys.NOT_IN_A_FILE


def test_every_kind_of_report_is_listed() -> None:
    section = PAGE.partition("### Kinds of report\n")[2]
    assert re.findall(r"^\| `(\w+)` \|", section, re.M) == list(REPORT_KINDS)


def test_a_field_without_a_description_cannot_be_written() -> None:
    class Undescribed(BaseModel):
        """A model.

        Attributes:
            known: Is described.
        """

        known: int = 0
        unknown: int = 0

    assert set(suite_keys.descriptions(Undescribed)) == {"known"}
