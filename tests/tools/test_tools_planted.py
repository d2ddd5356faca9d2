"""The table of planted models."""

from __future__ import annotations

import pytest

from bench.selftest import CASES
from bench.selftest.alone import Alone, Reading
from bench.selftest.planted import LIMITS, PLANTS, SOUND, Plant
from bench.selftest.planted_models import Hot
from tools.planted import WRONG, cell, plant_row, table


def test_a_number_that_is_neither_true_nor_doubted_is_marked() -> None:
    assert cell(Reading(0.5, ()), right=False) == f"{WRONG}50.0 % (no alarm)"
    assert cell(Reading(0.5, ("weak_attack",)), right=True) == "50.0 % (weak_attack)"
    assert cell(Reading(0.5, (), True), right=True) == "50.0 % (no alarm; does not average)"


def test_the_table_shows_the_plants_of_the_selftest() -> None:
    cases = {case.id for case in CASES}
    assert {plant.name for plant in PLANTS} | set(SOUND) <= cases
    assert not {plant.name for plant in LIMITS} & cases


@pytest.mark.process
def test_a_line_holds_truth_number_and_alarms() -> None:
    row = plant_row(Plant("hot", 7, "logits", lambda _: Hot()), [Alone("FGSM", "fgsm", False)])
    assert row[:2] == ["`hot`: logits", "37.7 %"] and "probe_saturated_logits" in row[2]
    assert table([row], ("planted", "truth", "FGSM")).startswith("| planted")
