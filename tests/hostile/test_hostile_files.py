"""Every file that means harm gets its one clear message; nothing of it runs or escapes."""

from __future__ import annotations

import re

import hostile_checkpoints
import hostile_data
import hostile_examples
import hostile_stores
import hostile_suites
import pytest
from hostile_place import Hostile, Place, Rbench

PARTS = (hostile_suites, hostile_data, hostile_checkpoints, hostile_stores, hostile_examples)
CASES: list[Hostile] = [case for part in PARTS for case in part.CASES]


def test_the_names_of_the_cases_differ() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 40


SAID_FIRST = re.compile(r"^(?!error: )[\w-]+:? \w[^\n]* \.\.\.\n")
"""What a command does, before it fails."""


@pytest.mark.process
def test_the_folder_is_sound_before_it_is_spoilt(place: Place, rbench: Rbench) -> None:
    assert rbench(["plan", "suite.yaml", "--no-time", "--out", "new"])[0] == 0
    assert rbench(["report", "run"])[0] == 0
    assert rbench(["verify", "run"])[0] in (0, 1)  # the claims are made up


@pytest.mark.process
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_hostile_file_is_refused(case: Hostile, place: Place, rbench: Rbench) -> None:
    arguments = case.make(place)
    code, out, err = rbench(arguments)
    said = " ".join((out + err).split())
    assert code == case.code, said
    assert case.says in said
    if code == 2:
        assert SAID_FIRST.sub("", err, count=1).startswith("error: ") and len(err) < 20_000
    assert "Traceback" not in said
    assert "\x1b" not in out + err and "\x07" not in out + err
    assert not place.canary.exists()
    precious = place.root / "precious"
    assert not precious.exists() or precious.read_text() == "do not lose this"
