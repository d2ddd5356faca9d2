"""What a check says of every kind of change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from made_records import made_facts, made_record, made_recording

from bench.check.compare import Checked, Rules, compare
from bench.check.identity import trained_apart
from bench.core.cell import DataSpec, Surrogate
from bench.core.threat import ThreatModel
from bench.core.weight_sketch import cosine, pack, sketch

RIGHT = [1] * 80 + [0] * 20
NEW = "b" * 64


def _lose(n: int) -> list[int]:
    return [0] * n + RIGHT[n:]


def _gain(n: int) -> list[int]:
    return RIGHT[: 100 - n] + [1] * n


def _one(now: list[int], before: list[int] = RIGHT, rules: Rules | None = None, **changes: Any):
    """Checks one cell whose weights have been changed a little."""
    weights = {"w": np.random.default_rng(0).normal(size=(64, 64))}
    facts = made_facts(sketch=sketch(weights))
    new = {"sha256": NEW} | changes
    check = compare(
        made_recording(made_record(now, **new), facts=facts),
        made_recording(made_record(before), facts=facts),
        rules,
    )
    (cell,) = check.cells
    return check.exit_code, cell


def test_equal_scores_are_the_same() -> None:
    code, cell = _one(RIGHT)
    assert (code, cell.verdict, cell.lost, cell.gained) == (0, "same", (), ())
    assert cell.p == 1.0 and cell.difference is not None and cell.difference.value == 0


def test_a_drop_is_named_with_its_numbers_and_images() -> None:
    code, cell = _one(_lose(12))
    assert (code, cell.verdict, cell.fails) == (1, "regressed", True)
    assert cell.lost == tuple(range(100, 112)) and cell.gained == ()
    assert cell.p == pytest.approx(2 * 0.5**12)
    assert cell.before is not None and cell.now is not None and cell.difference is not None
    assert (cell.before.value, cell.now.value) == pytest.approx((0.8, 0.68))
    assert cell.difference.value == pytest.approx(-0.12)
    assert cell.difference.high is not None and cell.difference.high < 0


def test_a_few_flips_are_noise() -> None:
    code, cell = _one(_lose(4))
    assert (code, cell.verdict) == (0, "same")
    assert cell.lost == (100, 101, 102, 103)


def test_better_weights_improve() -> None:
    code, cell = _one(_gain(15))
    assert (code, cell.verdict) == (0, "improved")


def test_an_attack_that_got_weaker_by_itself_is_a_regression() -> None:
    """Nothing that identifies the cell has changed: the model cannot have got better."""
    code, cell = _one(_gain(15), sha256="a" * 64)
    assert (code, cell.verdict) == (1, "regressed")
    assert "weaker" in cell.reasons[0]


def test_a_real_drop_may_be_too_small_to_count() -> None:
    code, cell = _one(_lose(12), rules=Rules(min_drop=0.2))
    assert (code, cell.verdict, cell.fails) == (0, "small drop", False)
    assert "below 20 points" in cell.reasons[0]
    assert _one(_lose(12), rules=Rules(min_drop=0.12))[0] == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"attack_params": {"n_iter": 5, "alpha": None}}, "n_iter 5, was 20"),
        ({"attack_params": {"n_iter": 20}}, None),
        ({"stats": "batch"}, "stats batch, was none"),
        ({"attack_version": 2}, "attack_version 2, was 1"),
        ({"threat_model": ThreatModel(eps=0.2)}, "threat_model.eps 0.2, was 0.1"),
        ({"data_hash": "e" * 64}, "data_hash eeeeeeeeeeee..., was dddddddddddd..."),
        ({"data": DataSpec(name="made", limit=9)}, "data.limit 9, was none"),
        ({"seed": 1}, "seed 1, was 0"),
        ({"batch_size": 10}, "batch_size 10, was 50"),
        ({"surrogate": Surrogate(checkpoint="s", sha256=NEW, stats=None)}, "surrogate "),
        ({"search": "fast"}, "search fast, was exact"),
    ],
)
def test_what_was_measured_otherwise_is_not_comparable(
    changes: dict[str, Any], said: str | None
) -> None:
    code, cell = _one(_lose(12), **changes)
    if said is None:
        assert cell.verdict == "regressed"  # a parameter that is none is no other parameter
        return
    assert (code, cell.verdict, cell.p) == (3, "not comparable", None)
    assert len(cell.reasons) == 1 and cell.reasons[0].startswith(said)


def test_a_new_alarm_is_a_loss_of_trust() -> None:
    code, cell = _one(RIGHT, alarms=("images_unchanged",))
    assert (code, cell.verdict) == (1, "regressed")
    assert cell.reasons == ("a new alarm: images_unchanged",)
    weakened = {"attack_params": {"n_iter": 1}, "alarms": ("not_converged",)}
    code, cell = _one(RIGHT, **weakened)
    assert (code, cell.verdict) == (1, "regressed")
    assert cell.reasons == ("a new alarm: not_converged", "n_iter 1, was 20")


def test_missing_incomplete_and_new_cells() -> None:
    old = made_recording(made_record(RIGHT, attack="a"), made_record(RIGHT, attack="gone"))
    new = made_recording(
        made_record(RIGHT, attack="a"),
        made_record(RIGHT, attack="extra"),
        missing={("m", "gone"): "incomplete: it raised", ("m", "too"): "not run"},
    )
    check = compare(new, old)
    found = {cell.attack: (cell.verdict, cell.reasons) for cell in check.cells}
    assert found == {
        "a": ("same", ()),
        "extra": ("new", ()),
        "gone": ("missing", ("incomplete: it raised",)),
        "too": ("missing", ("not run",)),
    }
    assert check.exit_code == 3
    assert [cell.verdict for cell in check.cells] == ["missing", "missing", "new", "same"]


def _retrained(now: list[int], rules: Rules | None = None, **changes: Any) -> tuple[int, Checked]:
    check = compare(
        made_recording(made_record(now, sha256=NEW), facts=made_facts(seed=1, **changes)),
        made_recording(made_record(RIGHT), facts=made_facts(seed=0)),
        rules,
    )
    return check.exit_code, check.cells[0]


def test_another_seed_is_never_the_same() -> None:
    code, cell = _retrained(RIGHT)
    assert (code, cell.verdict) == (3, "not comparable")
    assert cell.test.startswith("Fisher") and cell.lost == ()
    assert "seed of the training 1, was 0" in cell.reasons[0]
    code, cell = _retrained(RIGHT, Rules(accept_retrained=True))
    assert (code, cell.verdict) == (0, "not comparable")
    code, cell = _retrained(_lose(40))
    assert (code, cell.verdict) == (1, "regressed")
    # Unpaired, a drop that pairs would show is not shown.
    assert _one(_lose(12))[1].verdict == "regressed"
    assert _retrained(_lose(12))[1].verdict == "not comparable"


def test_weights_tell_whether_two_checkpoints_are_of_one_training() -> None:
    draw = np.random.default_rng(1)
    old = {"conv": draw.normal(size=(16, 16, 3, 3)), "fc": draw.normal(size=(10, 64))}
    tuned = {k: v + 0.3 * draw.normal(size=v.shape) for k, v in old.items()}
    other = {k: draw.normal(size=v.shape) for k, v in old.items()}
    facts = [made_facts(sketch=sketch(weights)) for weights in (old, tuned, other)]
    assert trained_apart(facts[0], facts[1]) == ""
    assert "cosine of about" in trained_apart(facts[0], facts[2])
    assert "nothing is known" in trained_apart(made_facts(), facts[1])
    assert "nothing is known" in trained_apart(None, facts[1])
    assert "norm gn, was bn" in trained_apart(facts[0], made_facts(norm="gn"))
    assert trained_apart(facts[0], made_facts(sketch=pack(np.zeros(128)))) != ""


@pytest.mark.parametrize("size", [1, 7, 8, 9, 4_096])
def test_a_sketch_estimates_the_cosine(size: int) -> None:
    draw = np.random.default_rng(size)
    a = {"w": draw.normal(size=(size, 8))}
    b = {"w": a["w"] + draw.normal(size=(size, 8))}
    true = float((a["w"] * b["w"]).sum() / np.linalg.norm(a["w"]) / np.linalg.norm(b["w"]))
    found = cosine(sketch(a), sketch(b))
    assert found is not None and found == pytest.approx(true, abs=0.35)
    assert cosine(sketch(a), sketch(a)) == pytest.approx(1.0)
    assert cosine(sketch(a), sketch({"w": -a["w"]})) == pytest.approx(-1.0)
    assert sketch({"scale": np.ones(8), "steps": np.ones((4, 4), np.int64)}) == ""


def test_many_cells_are_corrected_together() -> None:
    """Eleven losses are below 1 % in one cell, and not among forty."""
    cells = [made_record(RIGHT, attack=f"a{i}") for i in range(39)]
    old = made_recording(*cells, made_record(RIGHT, attack="b"))
    new = made_recording(*cells, made_record(_lose(11), attack="b"))
    (cell,) = [cell for cell in compare(new, old).cells if cell.attack == "b"]
    assert cell.p == pytest.approx(2 * 0.5**11) and cell.adjusted == pytest.approx(40 * cell.p)
    assert cell.verdict == "same"
    assert _one(_lose(11), sha256="a" * 64)[1].verdict == "regressed"


def test_draws_are_tested_on_their_share() -> None:
    before, now = [20] * 50 + [10] * 50, [17] * 50 + [8] * 50
    check = compare(
        made_recording(made_record(now, n_draws=20)),
        made_recording(made_record(before, n_draws=20)),
    )
    assert check.cells[0].verdict == "regressed"
    assert check.cells[0].test == "signs of 20 draws' means, exact"
    assert check.cells[0].lost[0] == 100  # the largest falls first


def test_one_batch_of_images_that_go_together_cannot_be_tested() -> None:
    shared = {"cluster": "batch", "batch_size": 100}
    old, new = made_record(RIGHT, **shared), made_record(_lose(12), **shared)
    check = compare(made_recording(new), made_recording(old))
    assert (check.cells[0].verdict, check.exit_code) == ("not comparable", 3)
    assert compare(made_recording(old), made_recording(old)).cells[0].verdict == "same"


def test_versions_and_suites_are_noted() -> None:
    old = made_recording(made_record(RIGHT), versions=("python 3.11", "torch 2.7"))
    new = made_recording(made_record(RIGHT), versions=("python 3.11", "torch 2.8"))
    (note,) = compare(new, old).notes
    assert "torch 2.7, torch 2.8" in note and "python" not in note
