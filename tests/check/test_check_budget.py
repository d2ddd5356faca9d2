"""What a check within a budget chooses: by what, how much, and what it says of it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_records import made_facts, made_record, made_recording

from bench.check.budget import choose
from bench.check.chosen import Choice, Chosen, read_chosen, write_chosen
from bench.check.compare import Rules
from bench.check.nearness import REACH, distances, preferred, preferred_batches
from bench.check.option import Option, detectable
from bench.check.record import Record, Recording
from bench.check.subset import compare_chosen, cut, measured_otherwise
from bench.core.cell import DataSpec
from bench.metrics.power import detectable_drop

ATTACKS = ("fgsm", "pgd", "auto")
STRENGTHS = {"natural": -1.3, "fgsm": -0.5, "pgd": 0.0, "auto": 0.1}


def world(
    seed: int = 0,
    n: int = 300,
    models: int = 2,
    mean: float = 0.3,
    attacks: tuple[str, ...] = ATTACKS,
    **changes: Any,
) -> Recording:
    """Returns a baseline of models under attacks that mostly break the same images."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(mean, 1, n)
    records = []
    for i in range(models):
        own = hard + rng.normal(0, 0.4, n)
        for j, attack in enumerate(("natural", *attacks)):
            right = own + rng.normal(0, 0.1, n) >= STRENGTHS[attack]
            record = made_record(
                right.astype(int).tolist(), f"m{i}", attack, seed=10 * i + j, **changes
            )
            kind = "none" if attack == "natural" else "bounded"
            records.append(replace(record, attack_kind=kind))
    return made_recording(*records)


def costs(baseline: Recording, image: float = 0.01) -> dict[tuple[str, str], float]:
    each = {"natural": 0.02, "fgsm": 0.05, "pgd": 0.5, "auto": 5.0}
    return {key: image * each[key[1]] for key in baseline.records}


def wall(choices: list[Choice], workers: int, size: int = 50) -> float:
    """Returns when the last batch ends at the latest, if any free worker takes the next."""
    batches = [
        choice.seconds * len(choice.index[i : i + size]) / len(choice.index)
        for choice in choices
        for i in range(0, len(choice.index), size)
    ]
    ends = [0.0] * workers
    for batch in sorted(batches):
        ends[ends.index(min(ends))] += batch
    return max(ends)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 5),
    seconds=st.floats(0.001, 100),
    workers=st.integers(1, 4),
    mean=st.sampled_from([-1.5, 0.3, 1.5]),
    cluster=st.sampled_from(["sample", "batch"]),
)
def test_a_choice_never_exceeds_its_budget_and_is_always_the_same(
    seed: int, seconds: float, workers: int, mean: float, cluster: str
) -> None:
    baseline = world(seed, mean=mean, cluster=cluster)
    price = costs(baseline)
    found = choose(baseline, price, seconds, workers=workers, alpha=0.01)
    assert wall(found, workers) <= seconds * (1 + 1e-9)
    assert found == choose(baseline, price, seconds, workers=workers, alpha=0.01)
    assert len({choice.key for choice in found}) == len(found)
    for choice in found:
        record = baseline.records[choice.key]
        assert set(choice.index) <= set(record.index)
        assert list(choice.index) == sorted(choice.index, key=record.index.index)
        assert choice.seconds == pytest.approx(len(choice.index) * price[choice.key])
        assert choice.of == 300 and "300" in choice.text()
        if cluster == "batch":
            _check_whole_batches(record, choice)


def _check_whole_batches(record: Record, choice: Choice) -> None:
    taken = {record.batch[record.index.index(i)] for i in choice.index}
    whole = [i for i, number in zip(record.index, record.batch, strict=True) if number in taken]
    assert list(choice.index) == whole and len(taken) >= 2
    assert choice.alike is None and "not independent" in choice.text()


@given(seed=st.integers(0, 20), attack=st.sampled_from(["natural", *ATTACKS]))
def test_the_outcomes_of_the_cell_itself_are_not_looked_at(seed: int, attack: str) -> None:
    records = list(world(seed, n=120).records.values())
    own = next(r for r in records if r.key == ("m0", attack))
    mixed = tuple(np.random.default_rng(seed + 1).permutation(own.hits).tolist())
    other = replace(own, hits=mixed)
    one = distances(own, records)
    two = distances(other, [other if r.key == own.key else r for r in records])
    assert one is not None and two is not None
    np.testing.assert_array_equal(one, two)
    # Nor are they under another name.
    twin = replace(own, model="copy")
    np.testing.assert_array_equal(one, distances(own, [*records, twin]))


@given(seed=st.integers(0, 20), attack=st.sampled_from(["natural", *ATTACKS]))
def test_right_and_wrong_are_alike(seed: int, attack: str) -> None:
    records = list(world(seed, n=120).records.values())
    turned = [replace(r, hits=tuple(1 - hit for hit in r.hits)) for r in records]
    place = next(i for i, r in enumerate(records) if r.key == ("m0", attack))
    one, two = distances(records[place], records), distances(turned[place], turned)
    assert one is not None and two is not None
    np.testing.assert_allclose(one, two, atol=1e-8)


def test_near_images_are_those_that_a_drop_takes_first() -> None:
    baseline = world(n=2000, models=4)
    own = baseline.records["m0", "pgd"]
    away = distances(own, baseline.records.values())
    assert away is not None
    near = preferred(away, 2000)[:300]
    assert (away[near] < REACH).all()
    lost = np.array(baseline.records["m0", "auto"].hits) < np.array(own.hits)
    # The images that the stronger attack adds are twice as frequent among the near ones.
    assert lost[near].mean() > 2 * lost.mean() > 0


def test_without_other_cells_images_come_as_they_are() -> None:
    alone = world(models=1, attacks=("pgd",))
    only = made_recording(alone.records["m0", "pgd"])
    (choice,) = choose(only, costs(only), 0.5, alpha=0.01)
    assert choice.how == "first" and choice.index == tuple(range(100, 100 + len(choice.index)))
    assert "in the slice's own order" in choice.text()
    assert distances(only.records["m0", "pgd"], only.records.values()) is None


def test_images_of_a_model_that_was_trained_anew_come_as_they_are() -> None:
    baseline = world()
    found = choose(baseline, costs(baseline), 0.2, alpha=0.01, apart={"m1"})
    assert {choice.model: choice.how for choice in found if choice.attack != "natural"} == {
        "m0": "near",
        "m1": "first",
    }


def test_every_model_is_guarded_and_drops_are_about_equal() -> None:
    baseline = world(models=5, n=1000)
    found = choose(baseline, costs(baseline), 2.0, alpha=0.01)
    attacked = [choice for choice in found if choice.attack != "natural"]
    assert [choice.model for choice in attacked] == [f"m{i}" for i in range(5)]
    assert len(found) == 10
    sizes = [len(choice.index) for choice in attacked]
    assert max(sizes) < 1.3 * min(sizes) < 1300
    assert sum(choice.seconds for choice in found) > 1.9


def test_the_attack_is_the_one_with_most_power_for_its_time() -> None:
    baseline = world(models=1, n=1000)
    price = costs(baseline)
    assert choose(baseline, price, 0.5, alpha=0.01)[-1].attack == "fgsm"
    # An attack at the same price that breaks more is better.
    dear = price | {("m0", "fgsm"): price["m0", "pgd"]}
    assert choose(baseline, dear, 2.0, alpha=0.01)[-1].attack == "pgd"
    # One that leaves nothing to lose shows no drop, however strong it is.
    broken = baseline.records["m0", "pgd"]
    nothing = replace(broken, hits=(0,) * 1000)
    hopeless = replace(baseline, records={**baseline.records, nothing.key: nothing})
    assert ("m0", "pgd") not in {c.key for c in choose(hopeless, dear, 2.0, alpha=0.01)}


def test_time_that_is_left_goes_to_further_attacks() -> None:
    baseline = world(models=2, n=200)
    found = choose(baseline, costs(baseline), 1e6, alpha=0.01)
    assert [choice.key for choice in found] == list(baseline.records)
    assert all(choice.how == "all" for choice in found)
    assert all(choice.alike == choice.nearest for choice in found)


@pytest.mark.parametrize("seconds", [0.3, 1.0, 6.0, 12.0])
def test_no_time_is_left_while_there_is_something_to_run(seconds: float) -> None:
    baseline = world(models=2, n=200)
    found = choose(baseline, costs(baseline), seconds, alpha=0.01)
    assert sum(choice.seconds for choice in found) > 0.8 * seconds


def test_too_short_a_budget_guards_nothing() -> None:
    baseline = world()
    assert choose(baseline, costs(baseline), 1e-6, alpha=0.01) == []
    assert choose(baseline, {}, 1.0, alpha=0.01) == []


def test_few_batches_show_little() -> None:
    record = world(models=1, cluster="batch", batch_size=20).records["m0", "fgsm"]
    single = replace(record, cluster="sample")
    few, some = Option(record, 1.0, 1.0, 0.7), Option(single, 1.0, 1.0, 0.7)
    assert few.detectable(20, 0.01) == math.inf  # one batch allows no test at all
    assert few.detectable(40, 0.01) > 0.9 > 0.5 > some.detectable(40, 0.01)
    assert few.detectable(300, 0.01) == some.detectable(300, 0.01)
    need = few.need(100.0, 0.01)
    assert need is not None and need % 20 == 0 and need > 40
    lone = replace(record, spec=record.spec.model_copy(update={"batch_size": 300}))
    assert Option(lone, 1.0, 1.0, 0.7).need(100.0, 0.01) is None


@pytest.mark.parametrize("n", [9, 10, 40, 400, 5000])
@pytest.mark.parametrize("alpha", [0.01, 0.001])
def test_the_closed_form_is_the_search_without_noise(n: int, alpha: float) -> None:
    found = detectable_drop(n, 0.0, alpha)
    exact = detectable(n, alpha)
    if found is None:
        assert exact == math.inf or exact > 1 - 0.1 / n
    else:
        assert exact <= found <= exact + 0.1 / n


def test_what_is_said_of_the_drop_is_of_the_whole_slice() -> None:
    baseline = world(models=1, n=1000)
    choice = choose(baseline, costs(baseline), 0.5, alpha=0.01)[-1]
    record, n = baseline.records[choice.key], len(choice.index)
    drop = detectable_drop(n, 0.0, 0.005)
    right = np.mean(
        [hit for i, hit in zip(record.index, record.hits, strict=True) if i in set(choice.index)]
    )
    assert drop is not None and choice.alike is not None and n < 1000
    assert choice.nearest == pytest.approx(drop * n / 1000)
    assert choice.alike == pytest.approx(drop * record.accuracy.value / right)
    assert f"of {100 * choice.nearest:.1f} if these are lost first" in choice.text()


def test_batches_with_most_near_images_come_first() -> None:
    away = np.array([0.5, 0.5, 0.0, 0.5, 0.0, 0.0])
    assert preferred_batches(away, [0, 0, 1, 1, 2, 2]) == [2, 1, 0]
    assert preferred_batches(None, [0, 0, 1, 1, 2, 2]) == [0, 1, 2]


def test_choices_are_read_back(tmp_path: Any) -> None:
    baseline = world()
    chosen = Chosen(key="k", choices=tuple(choose(baseline, costs(baseline), 1.0, alpha=0.01)))
    assert read_chosen(tmp_path) is None
    write_chosen(tmp_path, chosen)
    assert read_chosen(tmp_path) == chosen


def run_of(baseline: Recording, choices: list[Choice], lose: int = 0) -> Recording:
    """Returns what a run of some choices gives, which loses one right image in so many."""
    records = []
    for choice in choices:
        data = DataSpec(name="made", index=choice.index)
        like = baseline.records[choice.key].spec.model_copy(
            update={"data": data, "data_hash": "e" * 64}
        )
        part = cut(baseline.records[choice.key], choice.index, like)
        hits = np.array(part.hits)
        if lose:
            hits[np.flatnonzero(hits)[::lose]] = 0
        records.append(replace(part, hits=tuple(hits.tolist())))
    return made_recording(*records)


@pytest.mark.parametrize("cluster", ["sample", "batch"])
def test_a_run_of_chosen_images_is_compared_with_the_same_images(cluster: Any) -> None:
    baseline = world(models=1, cluster=cluster, batch_size=5)
    choices = choose(baseline, costs(baseline), 0.1, alpha=0.01)
    assert any(choice.how != "all" for choice in choices)
    for lose, verdict, code in ((0, "same", 0), (2, "regressed", 1)):
        check = compare_chosen(run_of(baseline, choices, lose), baseline, choices, {}, Rules())
        assert [cell.verdict for cell in check.cells] == [verdict] * len(choices)
        assert check.exit_code == code
        assert {choice.text() for choice in choices} <= set(check.notes)
        assert any(f"{4 - len(choices)} more cells" in note for note in check.notes)


def test_batches_are_numbered_anew_as_the_run_numbers_them() -> None:
    record = world(cluster="batch", batch_size=20).records["m0", "pgd"]
    index = record.index[40:60] + record.index[280:300]
    part = cut(record, index, record.spec)
    assert part.batch == (0,) * 20 + (1,) * 20 and part.index == index
    assert part.hits == record.hits[40:60] + record.hits[280:300]
    single = world(batch_size=20).records["m0", "pgd"]
    assert cut(single, single.index[35:65], single.spec).batch == (0,) * 20 + (1,) * 10


def test_what_was_not_finished_or_cannot_be_compared_leaves_a_check_open() -> None:
    baseline = world(models=2)
    choices = [c for c in choose(baseline, costs(baseline), 0.4, alpha=0.01) if c.model == "m0"]
    run = run_of(baseline, choices[:1])
    check = compare_chosen(run, baseline, choices, {("m1", "auto"): ("n_iter 5, was 9",)}, Rules())
    found = {cell.name: (cell.verdict, cell.reasons) for cell in check.cells}
    assert found[f"m0 / {choices[0].attack}"][0] == "same"
    assert "budget was used up" in found[f"m0 / {choices[1].attack}"][1][0]
    assert found["m1 / auto"] == ("not comparable", ("n_iter 5, was 9",))
    assert check.exit_code == 3


def test_a_model_of_which_nothing_is_chosen_leaves_a_check_open() -> None:
    baseline = world(models=2)
    choices = [c for c in choose(baseline, costs(baseline), 0.4, alpha=0.01) if c.model == "m0"]
    check = compare_chosen(run_of(baseline, choices), baseline, choices, {}, Rules())
    (cell,) = [cell for cell in check.cells if cell.model == "m1"]
    assert cell.verdict == "missing" and "too small" in cell.reasons[0]
    assert check.exit_code == 3


def test_other_measurements_are_found_before_anything_is_run() -> None:
    record = world(models=1).records["m0", "pgd"]
    assert measured_otherwise(record, record.spec) == ()
    changes: dict[str, Any] = {"data": DataSpec(name="made", limit=5), "data_hash": "0" * 64}
    assert measured_otherwise(record, record.spec.model_copy(update=changes)) == ()
    stronger = record.spec.model_copy(update={"eot_iter": 4})
    assert measured_otherwise(record, stronger) == ("eot_iter 4, was 1",)
    elsewhere = record.spec.model_copy(update={"data": DataSpec(name="made", split="train")})
    assert "data.split" in " ".join(measured_otherwise(record, elsewhere))


def test_a_run_on_another_split_is_not_comparable() -> None:
    baseline = world(models=1)
    choices = choose(baseline, costs(baseline), 0.4, alpha=0.01)
    run = run_of(baseline, choices)
    moved = {
        key: replace(
            record,
            spec=record.spec.model_copy(
                update={"data": record.spec.data.model_copy(update={"split": "train"})}
            ),
        )
        for key, record in run.records.items()
    }
    check = compare_chosen(replace(run, records=moved), baseline, choices, {}, Rules())
    assert {cell.verdict for cell in check.cells} == {"not comparable"}
    assert check.exit_code == 3


def test_weights_that_moved_are_compared_and_other_trainings_are_not() -> None:
    baseline = world(models=1)
    choices = choose(baseline, costs(baseline), 0.4, alpha=0.01)
    run = run_of(baseline, choices)
    moved = {
        key: replace(record, spec=record.spec.model_copy(update={"sha256": "b" * 64}))
        for key, record in run.records.items()
    }
    facts = {"net": made_facts()}
    check = compare_chosen(
        replace(run, records=moved, checkpoints=facts), baseline, choices, {}, Rules()
    )
    assert {cell.verdict for cell in check.cells} == {"not comparable"}
