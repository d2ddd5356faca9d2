from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from bench.core.threat import ThreatModel


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"eps": "8/255"}, "linf 8/255"),
        ({"eps": 8 / 255}, "linf 8/255"),
        ({"eps": 0.1}, "linf 0.1"),
        ({"eps": 0.2}, "linf 0.2"),
        ({"eps": 1}, "linf 1"),
        ({"eps": 0.06, "eps_space": "normalized"}, "linf 0.06 (normalized)"),
        ({"eps": 0.2, "eps_space": "normalized"}, "linf 0.2 (normalized)"),
        ({"eps": 0.5, "norm": "l2"}, "l2 0.5"),
        ({"eps": 2, "norm": "l2"}, "l2 2"),
    ],
)
def test_it_describes_itself_as_people_write_it(given: dict[str, Any], text: str) -> None:
    assert ThreatModel.model_validate(given).describe() == text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"eps": -0.1}, "greater than 0"),
        ({"eps": "-8/255"}, "greater than 0"),
        ({"eps": "8/0"}, "expected a number"),
        ({"eps": ".nan"}, "expected a number"),
        ({"eps": 8}, "8/255 for levels of 8-bit images"),
        ({"eps": 0.1, "norm": "l7"}, "linf"),
        ({"eps": 0.1, "epsilon": 1}, "epsilon"),
        ({"eps": 0.1, "eps_space": "normalized", "norm": "l2"}, "linf"),
        ({}, "eps"),
    ],
)
def test_what_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ThreatModel.model_validate(given)


def test_the_radius_in_pixels() -> None:
    std = (0.25, 0.5)
    assert ThreatModel(eps=0.06).pixel_eps(std) == (0.06, 0.06)
    normalized = ThreatModel(eps=0.06, eps_space="normalized")
    assert normalized.pixel_eps(std) == (0.06 * 0.25, 0.06 * 0.5)
    large = ThreatModel(eps=2, eps_space="normalized")
    assert large.pixel_eps(std) == (0.5, 1.0), "normalized units may exceed 1"
