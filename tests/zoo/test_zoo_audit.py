"""Where a measured number stops being the card's."""

from __future__ import annotations

from typing import Any

import pytest

from bench.core.model_spec import ModelSpec
from bench.zoo import Card, CleanAccuracy, RobustAccuracy
from bench.zoo.audit import COLUMNS, Audit, judge, passed

SPEC = {"arch": "resnet20", "norm": "bn", "channels": 1, "size": 28, "classes": 10}


def clean(value: float, n: int = 1000, **changes: Any) -> CleanAccuracy:
    return CleanAccuracy(value=value, n=n, split="mnist test", **changes)


def robust(value: float, n: int = 500, **changes: Any) -> RobustAccuracy:
    fields = {"attack": "PGD-20, linf 0.3, alpha 0.075", "split": "mnist test", "protocol": "p"}
    return RobustAccuracy.model_validate({"value": value, "n": n} | fields | changes)


def card(of_clean: CleanAccuracy, of_robust: RobustAccuracy | None = None) -> Card:
    return Card(
        name="a",
        model=ModelSpec.model_validate(SPEC | {"mean": [0.1], "std": [0.3]}),
        dataset="mnist",
        training="natural",
        clean_accuracy=of_clean,
        robust_accuracy=of_robust,
        versions={},
        sha256="0" * 64,
    )


@pytest.mark.parametrize(
    ("claimed", "found", "partial", "verdict", "note"),
    [
        (clean(0.9), clean(0.9), False, "pass", ""),
        (clean(0.9), clean(0.9 + 5e-7), False, "pass", ""),
        (clean(0.9), clean(0.9019), False, "pass", "clean: 0.1900% apart, within 0.20%"),
        (clean(0.9), clean(0.8979), False, "differs", "clean: the card says 90.0000%, found 89"),
        # 3 * sqrt(2 * 0.9 * 0.1 / (1000 * 5)) = 0.018: other draws may be that far apart.
        (clean(0.9, n_draws=5), clean(0.883, n_draws=5), False, "pass", "clean: 1.7000% apart"),
        (clean(0.9, n_draws=5), clean(0.881, n_draws=5), False, "differs", "clean: the card says"),
        (clean(0.9), clean(0.9, n=999), False, "differs", "counts 1000 images, there are 999"),
        (clean(0.9), clean(0.9, n=1001), True, "differs", "counts 1000 images, there are 1001"),
        # Wilson's 99.9 % interval of 80 of 100 is [0.642, 0.899].
        (clean(0.89), clean(0.8, n=100), True, "pass", "clean by interval [64.2%, 89.9%] of 100"),
        (clean(0.90), clean(0.8, n=100), True, "differs", "outside [64.2%, 89.9%] of 100 images"),
    ],
)
def test_clean_accuracy(
    claimed: CleanAccuracy, found: CleanAccuracy, partial: bool, verdict: str, note: str
) -> None:
    audit, changes = judge("a", card(claimed), found, None, partial=partial)
    assert audit.verdict == verdict and note in "; ".join(audit.notes)
    assert bool(audit.notes) == bool(note)
    assert changes == ({} if verdict == "pass" else {"clean_accuracy": found})


@pytest.mark.parametrize(
    ("claimed", "found", "verdict", "note", "written"),
    [
        (robust(0.5), robust(0.5), "pass", "", False),
        (robust(0.5), robust(0.509), "pass", "PGD: 0.9000% apart, within 1.00%", False),
        (robust(0.5), robust(0.489), "differs", "PGD: the card says 50.0000%", True),
        (robust(0.5), robust(0.5, protocol="q"), "differs", "; p; mnist test; found is PGD", True),
        (robust(0.5), robust(0.5, n=499), "differs", "counts 500 images, there are 499", True),
        (None, robust(0.5), "pass", "the card has no PGD-20 number yet", True),
        (robust(0.5), "no attack for it", "pass", "no attack for it", False),
        (robust(0.5), None, "pass", "", False),
    ],
)
def test_robust_accuracy(
    claimed: RobustAccuracy | None,
    found: RobustAccuracy | str | None,
    verdict: str,
    note: str,
    written: bool,
) -> None:
    audit, changes = judge("a", card(clean(0.9), claimed), clean(0.9), found)
    assert audit.verdict == verdict and note in "; ".join(audit.notes)
    assert changes == ({"robust_accuracy": found} if written else {})


def test_a_row_shows_both_numbers_and_one_that_differs_fails_all() -> None:
    good, _ = judge("a", card(clean(0.9), robust(0.5)), clean(0.9), robust(0.5))
    assert len(good.row()) == len(COLUMNS)
    assert good.row() == ("a", "ok", "90.00%", "90.00%", "50.00%", "50.00%", "pass")
    hash_only = Audit("b", "hash only", "ok", notes=("no images",))
    assert hash_only.row() == ("b", "ok", "", "", "", "", "hash only: no images")
    assert passed([good, hash_only])
    assert not passed([good, Audit("c", "differs")])
