"""What a paired comparison could have seen, against simulation and counting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.metrics.hypothesis import detectable_drop, drop_power, fewest_losses, sign_flip_test


@pytest.mark.parametrize("alpha", [0.05, 0.01, 0.01 / 40])
def test_fewest_losses_is_the_least(alpha: float) -> None:
    k = fewest_losses(alpha)
    assert sign_flip_test([-1] * k) <= alpha < sign_flip_test([-1] * (k - 1))


@pytest.mark.parametrize(("drop", "noise"), [(0.03, 0.0), (0.03, 0.01), (0.05, 0.02), (0.0, 0.05)])
def test_power_is_what_a_simulation_finds(drop: float, noise: float) -> None:
    n, alpha, times = 400, 0.01, 4_000
    draw = np.random.default_rng(7)
    flips = draw.multinomial(n, [drop + noise, noise, 1 - drop - 2 * noise], times)
    known = {
        pair: sign_flip_test([-1] * pair[0] + [1] * pair[1]) <= alpha and pair[0] > pair[1]
        for pair in {(int(lost), int(gained)) for lost, gained, _ in flips}
    }
    found = np.mean([known[int(lost), int(gained)] for lost, gained, _ in flips])
    expected = drop_power(n, drop, noise, alpha)
    assert found == pytest.approx(expected, abs=4 * np.sqrt(max(found * (1 - found), 1e-3) / times))


@pytest.mark.process
@given(st.integers(20, 2_000), st.floats(0, 0.05))
def test_the_detectable_drop_is_detected(n: int, noise: float) -> None:
    alpha = 0.01 / 40
    found = detectable_drop(n, noise, alpha)
    if found is None:
        assert drop_power(n, 1 - 2 * noise, noise, alpha) < 0.9
        return
    assert drop_power(n, found, noise, alpha) >= 0.9
    assert drop_power(n, max(0.0, found - 0.2 / n), noise, alpha) < 0.9


def test_no_change_is_found_by_chance_alone() -> None:
    assert drop_power(1_000, 0.0, 0.0, 0.01) == 0.0
    assert drop_power(1_000, 0.0, 0.02, 0.01) < 0.005
