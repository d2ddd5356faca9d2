from __future__ import annotations

from fractions import Fraction

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.core.spec import parse_number

finite = st.floats(allow_nan=False, allow_infinity=False)


@settings(deadline=None)
@given(finite)
def test_floats_pass_through_as_numbers_and_as_text(value: float) -> None:
    assert parse_number(value) == value
    assert parse_number(repr(value)) == value


@settings(deadline=None)
@given(st.integers(-(10**9), 10**9), st.integers(1, 10**9), st.sampled_from(["/", " / ", "/ "]))
def test_a_fraction_is_the_nearest_float(top: int, bottom: int, slash: str) -> None:
    assert parse_number(f"{top}{slash}{bottom}") == float(Fraction(top, bottom))


@settings(deadline=None)
@given(st.text(max_size=12) | st.integers() | st.floats() | st.none() | st.booleans())
def test_anything_else_is_a_value_error_and_nothing_more(value: object) -> None:
    try:
        number = parse_number(value)
    except ValueError:
        return
    assert isinstance(number, float) and abs(number) < float("inf")


@pytest.mark.parametrize(
    ("text", "value"),
    [("8/255", 8 / 255), ("1e-3", 1e-3), ("-1/2", -0.5), ("0.1", 0.1), ("1e-2/4", 0.0025)],
)
def test_what_yaml_hands_over(text: str, value: float) -> None:
    assert parse_number(yaml.safe_load(text)) == value


@pytest.mark.parametrize(
    "value",
    ["8/0", "8/255/2", "/255", "8/", "", "eps", "nan", "inf", "1e999", True, False, None, [], {}],
)
def test_what_is_no_number(value: object) -> None:
    with pytest.raises(ValueError, match=r"expected a (finite )?number"):
        parse_number(value)


def test_an_integer_beyond_floats_is_refused() -> None:
    with pytest.raises(ValueError, match="too large"):
        parse_number(10**400)
