"""The sentences of a check."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_checks import HOSTILE, accuracy, change, every_verdict, nothing_changed

from bench.check import text as wording
from bench.check.compare import Check, Checked


def cell_of(check: Check, model: str, attack: str) -> Checked:
    (found,) = [c for c in check.cells if (c.model, c.attack) == (model, attack)]
    return found


def test_a_line_holds_all_that_is_known() -> None:
    cell = cell_of(every_verdict(), "bn", "pgd20")
    assert wording.line(cell, 12) == (
        "bn / pgd20: regressed; 52.1 % before, 47.2 % now, -4.9 [-6.9, -2.9] points, n = 1,000; "
        "p = 0.0003 after Holm over 12 cells (McNemar, exact); lost: images 17, 18, 19, 20, 21, "
        "22, 23, 24, 25, 26, ... (57 in all); gained: 8 images; weights, data and attack are those "
        "of the baseline"
    )


def test_a_line_is_one_line() -> None:
    text = wording.line(replace(nothing_changed().cells[0], model=HOSTILE, reasons=(HOSTILE,)), 1)
    assert len(text.splitlines()) == 1 and text.isprintable()


def test_a_cell_that_is_the_same_says_what_would_have_been_seen() -> None:
    text = wording.line(nothing_changed().cells[0], 1)
    assert "a drop of 1.1 points would have been detected with probability 90 %" in text
    assert "p = 1 (McNemar, exact)" in text and "Holm" not in text


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (None, ""),
        (0.0, "< 0.0001"),
        (9.9e-5, "< 0.0001"),
        (0.0003, "0.0003"),
        (0.01234, "0.012"),
        (0.998, "1"),
        (1.0, "1"),
    ],
)
def test_p_values(p: float | None, text: str) -> None:
    assert wording.p_value(p) == text


@pytest.mark.parametrize(
    ("value", "n", "text"),
    [
        (-0.049, 1_000, "-4.9 [-6.9, -2.9]"),
        (0.0, 1_000, "0.0 [-2.0, +2.0]"),
        (-0.0001, 1_000, "0.0 [-2.0, +2.0]"),
        (-0.0001, 10_000, "-0.01 [-2.01, +1.99]"),
    ],
)
def test_differences_have_their_sign(value: float, n: int, text: str) -> None:
    assert wording.points(change(value, n)) == text


def test_without_an_interval_there_is_none() -> None:
    assert wording.points(replace(change(0.02), low=None, high=None)) == "+2.0"


@pytest.mark.parametrize(
    ("lost", "gained", "difference", "text"),
    [
        ((), (), 0.0, ""),
        ((17,), (), -0.1, "lost: image 17"),
        ((17, 3), (4,), -0.1, "lost: images 17, 3; gained: 1 image"),
        ((5,), (1, 2), 0.1, "gained: images 1, 2; lost: 1 image"),
        ((), (1, 2), -0.1, "gained: images 1, 2"),
        ((5,), (), 0.1, "lost: image 5"),
        (tuple(range(10)), (), -0.1, "lost: images 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        (
            tuple(range(1_234)),
            (),
            -0.1,
            "lost: images 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ... (1,234 in all)",
        ),
    ],
)
def test_flips(
    lost: tuple[int, ...], gained: tuple[int, ...], difference: float, text: str
) -> None:
    cell = Checked("m", "a", "same", difference=change(difference), lost=lost, gained=gained)
    assert wording.flips(cell) == text


def test_headlines() -> None:
    assert wording.headline(every_verdict()) == (
        "2 of 11 cells regressed, 1 fell by less than 2 points, 1 is missing, 2 are not "
        "comparable, 1 improved, 1 is new, 3 show no change: exit code 1"
    )
    assert wording.headline(nothing_changed()) == (
        "0 of 1 cells regressed, 1 shows no change: exit code 0"
    )
    missing = Checked("m", "a", "missing", leaves_open=True)
    assert wording.headline(replace(nothing_changed(), cells=(missing, missing))) == (
        "0 of 2 cells regressed, 2 are missing: exit code 3"
    )


def test_sensitivity() -> None:
    assert wording.sensitivity(every_verdict()) == (
        "cells without a significant change: drops of 1.80 to 3.41 points would have been detected "
        "with probability 90 %; for 1 cell the detectable drop could not be computed"
    )
    assert wording.sensitivity(nothing_changed()).endswith(
        "a drop of 1.1 points would have been detected with probability 90 %"
    )
    assert wording.sensitivity(replace(nothing_changed(), cells=())) == ""


def test_numbers_of_one_side() -> None:
    only = Checked("m", "a", "new", now=accuracy(0.5))
    assert wording.numbers(only) == "50.0 % now, no number before, n = 1,000"
    assert wording.numbers(Checked("m", "a", "missing")) == ""
