"""From a suite to cells: defaults, ids, refusals, cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.core.cell import CellSpec
from bench.suite.load import load_suite
from bench.suite.plan import Plan, make_plan
from bench.suite.resolve import Lookup

SUITE: dict[str, Any] = {
    "suite": "demo",
    "data": {"name": "fashion-mnist", "limit": 64, "seed": 0, "stratified": True},
    "threat_model": {"norm": "linf", "eps": "8/255"},
    "batch_size": 32,
    "n_draws": 5,
    "seed": 3,
    "models": [
        "fmnist-resnet20-bn",
        {"checkpoint": "fmnist-resnet20-bn", "stats": "batch", "batch_size": 16},
        {"checkpoint": "fmnist-resnet20-rn"},
        {"checkpoint": "fmnist-resnet20-rna-at", "protocol": "fixed_path"},
    ],
    "attacks": [
        "natural",
        {"attack": "torchattacks:PGD", "params": {"n_iter": 20}},
        "autoattack",
    ],
}


def _plan(folder: Path, lookup: Lookup, **changes: Any) -> Plan:
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump({**SUITE, **changes}, sort_keys=False), encoding="utf-8")
    return make_plan(load_suite(path, lookup))


def test_defaults_are_resolved(tmp_path: Path, lookup: Lookup) -> None:
    cells = _plan(tmp_path, lookup).cells[1::3]
    resolved = [(c.spec.stats, c.spec.protocol, c.spec.batch_size, c.spec.n_draws) for c in cells]
    assert resolved == [
        ("population", "white_box", 32, 1),
        ("batch", "white_box", 16, 1),
        ("batch", "white_box", 32, 1),
        (None, "fixed_path", 32, 5),
    ]
    assert cells[0].spec.attack_params == {"n_iter": 20, "alpha": 0.01, "random_start": True}
    assert cells[0].spec.threat_model.eps == pytest.approx(8 / 255)
    assert [c.model_label for c in cells] == [
        "fmnist-resnet20-bn",
        "fmnist-resnet20-bn (batch)",
        "fmnist-resnet20-rn",
        "fmnist-resnet20-rna-at (fixed_path)",
    ]
    assert {c.attack_label for c in cells} == {"PGD"}


def test_cells_come_model_by_model(tmp_path: Path, lookup: Lookup) -> None:
    cells = _plan(tmp_path, lookup).cells
    assert [(c.model_index, c.attack_index) for c in cells] == [
        (i, j) for i in range(4) for j in range(3)
    ]


def test_attack_that_drops_samples_is_refused_on_batch_dependent_models_only(
    tmp_path: Path, lookup: Lookup
) -> None:
    plan = _plan(tmp_path, lookup)
    refused = {(c.model_index, c.attack_label) for c in plan.cells if c.refused}
    assert refused == {(1, "autoattack"), (2, "autoattack")}
    reason = "drops samples from the batch, which changes a batch-dependent model"
    assert {c.refused for c in plan.cells} == {"", reason}
    assert not {c.cell_id for c in plan.to_run} & {c.cell_id for c in plan.cells if c.refused}


def test_rn_on_population_statistics_may_be_attacked_by_anything(
    tmp_path: Path, lookup: Lookup
) -> None:
    models = [
        {"checkpoint": "fmnist-resnet20-rn", "stats": stats}
        for stats in ("population", "tracked-mean")
    ]
    plan = _plan(tmp_path, lookup, models=models)
    assert [bool(c.refused) for c in plan.cells if c.attack_label == "autoattack"] == [False, True]


def test_cost_counts_attack_and_scoring_passes(tmp_path: Path, lookup: Lookup) -> None:
    plan = _plan(tmp_path, lookup)
    natural, pgd, auto = plan.cells[-3:]
    # 20 steps of a forward and a backward pass, then 5 draws of the clean and of the adversarial
    # image; the clean image alone needs its 5 draws only.
    assert (natural.passes, pgd.passes, auto.passes) == (64 * 5, 64 * (40 + 10), None)
    deterministic = 3 * (64 * 1 + 64 * (40 + 2))
    passes = [cell.passes for cell in plan.to_run]
    assert sum(filter(None, passes)) == deterministic + 64 * 5 + 64 * 50
    assert passes.count(None) == 2


BN, BN_AT, RNA = "fmnist-resnet20-bn", "fmnist-resnet20-bn-at", "fmnist-resnet20-rna-at"
STATS_TRANSFER = {
    "checkpoint": BN,
    "stats": "batch",
    "protocol": "stats_transfer",
    "surrogate": {"stats": "population"},
}


def _pgd_specs(plan: Plan) -> list[CellSpec]:
    return [c.spec for c in plan.cells if c.attack_label == "PGD"]


def test_surrogates_are_resolved_to_their_weights_and_statistics(
    tmp_path: Path, lookup: Lookup
) -> None:
    transfer = {"checkpoint": BN_AT, "protocol": "transfer", "surrogate": "fmnist-resnet20-rn"}
    other = {**transfer, "surrogate": {"checkpoint": BN, "stats": "batch"}}
    plan = _plan(tmp_path, lookup, models=[transfer, other, STATS_TRANSFER])
    specs = _pgd_specs(plan)
    found = [(s.surrogate.checkpoint, s.surrogate.stats, s.stats) for s in specs if s.surrogate]
    assert found == [
        ("fmnist-resnet20-rn", "batch", "population"),
        (BN, "batch", "population"),
        (BN, "population", "batch"),
    ]
    assert [s.surrogate and s.surrogate.sha256 for s in specs] == [
        lookup.checkpoint(name).sha256 for name in ("fmnist-resnet20-rn", BN, BN)
    ]
    # What an attack may do to the batch is decided by the model that it is crafted on.
    assert [bool(c.refused) for c in plan.cells if c.attack_label == "autoattack"] == [
        True,
        True,
        False,
    ]


def test_draws_count_for_stochastic_models_only_and_the_column_decides(
    tmp_path: Path, lookup: Lookup
) -> None:
    models = [
        {"checkpoint": RNA, "eot_iter": 5},
        {"checkpoint": RNA},
        {"checkpoint": RNA, "protocol": "fixed_path"},
        {"checkpoint": BN, "protocol": "transfer", "surrogate": RNA},
        {"checkpoint": RNA, "protocol": "transfer", "surrogate": BN},
    ]
    pgd = {"attack": "torchattacks:PGD"}
    plan = _plan(tmp_path, lookup, models=models, attacks=[pgd, {**pgd, "eot_iter": 20}])
    assert [c.attack_label for c in plan.cells[:2]] == ["PGD", "PGD EOT-20"]
    draws = [(c.spec.eot_iter, c.spec.n_draws) for c in plan.cells]
    assert draws == [
        (5, 5),
        (20, 5),
        (1, 5),
        (20, 5),
        (1, 5),
        (1, 5),
        (1, 1),
        (20, 1),
        *[(1, 5)] * 2,
    ]
    plan = _plan(tmp_path, lookup, models=models, attacks=[pgd], eot_iter=3)
    assert [c.spec.eot_iter for c in plan.cells] == [5, 3, 1, 3, 1]


def test_batches_are_small_where_images_may_share_a_draw_unless_a_size_is_said(
    tmp_path: Path, lookup: Lookup
) -> None:
    """Images that share a draw stand or fall together: two batches of them decide nothing."""
    surrogate = {"protocol": "transfer", "surrogate": "foreign-random"}
    models = [BN, RNA, "foreign-random", {"checkpoint": BN, "label": "t", **surrogate}]
    attacks = ["fgsm", {"attack": "fgsm", "label": "few", "limit": 24}]
    plan = _plan(tmp_path, lookup, models=models, attacks=attacks, batch_size=None)
    sizes = [c.spec.batch_size for c in plan.cells]
    assert sizes == [128, 128, 128, 128, 5, 2, 5, 2]
    plan = _plan(tmp_path, lookup, models=models, attacks=attacks)
    assert {c.spec.batch_size for c in plan.cells} == {32}


def test_a_lone_adversary_is_for_models_that_share_statistics(
    tmp_path: Path, lookup: Lookup
) -> None:
    models = [
        {"checkpoint": BN, "stats": "batch", "adversary": "single"},
        {**STATS_TRANSFER, "adversary": "single"},
    ]
    plan = _plan(tmp_path, lookup, models=models)
    assert [s.adversary for s in _pgd_specs(plan)] == ["single"] * 2
    mixed = {"adversary": "single", "each": {"checkpoint": {"rn": "fmnist-resnet20-rn", "bn": BN}}}
    plan = _plan(tmp_path, lookup, models=[mixed])
    assert [s.adversary for s in _pgd_specs(plan)] == ["single", "joint"]


def test_default_labels_name_what_differs(tmp_path: Path, lookup: Lookup) -> None:
    models = [
        {"checkpoint": RNA, "eot_iter": 20},
        {"checkpoint": BN, "stats": "batch", "adversary": "single"},
        STATS_TRANSFER,
        {"checkpoint": BN, "protocol": "transfer", "surrogate": BN_AT},
    ]
    cells = _plan(tmp_path, lookup, models=models).cells
    assert [c.model_label for c in cells[::3]] == [
        f"{RNA} (eot 20)",
        f"{BN} (batch, single)",
        f"{BN} (batch, stats_transfer from population)",
        f"{BN} (transfer from {BN_AT})",
    ]


def test_cost_grows_with_draws_and_with_the_batch_of_a_lone_adversary(
    tmp_path: Path, lookup: Lookup
) -> None:
    models = [
        {"checkpoint": RNA, "eot_iter": 20},
        {"checkpoint": BN, "stats": "batch", "adversary": "single"},
        {**STATS_TRANSFER, "adversary": "single"},
    ]
    pgd = {"attack": "torchattacks:PGD", "params": {"n_iter": 20}}
    plan = _plan(tmp_path, lookup, models=models, attacks=[pgd])
    assert [c.passes for c in plan.cells] == [
        64 * (20 * 40 + 2 * 5),  # 5 draws score the clean and the adversarial image
        64 * (32 * 40 + 1 + 32),  # in batches of 32
        64 * (40 + 1 + 32),  # crafted image by image, on population statistics
    ]


def test_equal_cells_under_two_labels_are_run_once(tmp_path: Path, lookup: Lookup) -> None:
    models = ["fmnist-resnet20-bn", {"checkpoint": "fmnist-resnet20-bn", "label": "again"}]
    plan = _plan(tmp_path, lookup, models=models)
    assert len(plan.cells) == 6
    assert [c.model_label for c in plan.to_run] == ["fmnist-resnet20-bn"] * 3


def test_ids_do_not_depend_on_the_order_of_keys(tmp_path: Path, lookup: Lookup) -> None:
    def reversed_keys(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: reversed_keys(value[key]) for key in reversed(value)}
        return [reversed_keys(item) for item in value] if isinstance(value, list) else value

    path = tmp_path / "reversed.yaml"
    path.write_text(yaml.safe_dump(reversed_keys(SUITE), sort_keys=False), encoding="utf-8")
    other = make_plan(load_suite(path, lookup))
    assert [c.cell_id for c in _plan(tmp_path, lookup).cells] == [c.cell_id for c in other.cells]


BASE = CellSpec.model_validate(
    {
        "checkpoint": "a",
        "sha256": "0" * 64,
        "stats": "population",
        "data": {"name": "fashion-mnist", "limit": 64},
        "data_hash": "1" * 64,
        "threat_model": {"norm": "linf", "eps": 0.1},
        "attack": "torchattacks:PGD",
        "attack_version": 1,
        "attack_params": {"n_iter": 20, "alpha": 0.025},
        "protocol": "white_box",
        "batch_size": 64,
        "n_draws": 1,
        "seed": 0,
    }
)
CHANGES: dict[str, Any] = {
    "checkpoint": "b",
    "sha256": "2" * 64,
    "stats": "batch",
    "data": {"name": "fashion-mnist", "limit": 65},
    "data_hash": "3" * 64,
    "threat_model": {"norm": "linf", "eps": 0.1, "eps_space": "normalized"},
    "attack": "torchattacks:BIM",
    "attack_version": 2,
    "library": "torchattacks 3.5.1",
    "attack_params": {"n_iter": 21, "alpha": 0.025},
    "protocol": "fixed_path",
    "surrogate": {"checkpoint": "b", "sha256": "2" * 64, "stats": None},
    "adversary": "single",
    "eot_iter": 20,
    "eot": "stratified",
    "batch_size": 32,
    "n_draws": 20,
    "search": "fast",
    "seed": 1,
    "y_target": "random",
    "adaptive": {"gradient_model": {"name": "b", "sha256": "2" * 64}},
}


def test_an_id_is_the_same_in_every_run_and_release() -> None:
    assert BASE.cell_id == "07a0f80bee0b72fc"


def test_changes_cover_every_identity_field() -> None:
    assert set(CHANGES) == set(CellSpec.model_fields)


@pytest.mark.parametrize("field", CHANGES)
def test_an_id_changes_with_every_identity_field(field: str) -> None:
    changed = CellSpec.model_validate({**BASE.model_dump(), field: CHANGES[field]})
    assert changed.cell_id != BASE.cell_id


def test_ids_change_when_code_weights_or_data_change(
    tmp_path: Path, lookup: Lookup, changed_lookup: Lookup
) -> None:
    before = {c.cell_id for c in _plan(tmp_path, lookup).cells}
    after = {c.cell_id for c in _plan(tmp_path, changed_lookup).cells}
    assert not before & after


def test_only_bounded_attacks_of_this_project_may_search_fast(
    tmp_path: Path, lookup: Lookup
) -> None:
    names = ["natural", "autoattack", "pyautoattack", "torchattacks:PGD", "cw"]
    attacks = [{"attack": name, "label": name} for name in names]
    fast = _plan(tmp_path, lookup, attacks=attacks, reports=["leaderboard"])
    found = {cell.attack_label: cell.spec.search for cell in fast.cells}
    assert found == {name: "fast" if name == "autoattack" else "exact" for name in names}
    exact = _plan(tmp_path, lookup, attacks=attacks, reports=["leaderboard"], search="exact")
    assert {cell.spec.search for cell in exact.cells} == {"exact"}


def test_each_name_is_looked_up_once(tmp_path: Path, lookup: Lookup) -> None:
    asked: list[object] = []

    def counted(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda name: (asked.append(name), function(name))[1]

    counting = replace(
        lookup,
        dataset=counted(lookup.dataset),
        images=counted(lookup.images),
        checkpoint=counted(lookup.checkpoint),
    )
    attacks = ["natural", {"attack": "autoattack", "limit": 16}]
    plan = _plan(tmp_path, counting, attacks=attacks, reports=["leaderboard"])
    assert plan.cells and len(asked) == len(set(asked))


def test_a_model_meets_only_the_attacks_that_it_lists(tmp_path: Path, lookup: Lookup) -> None:
    name = "fmnist-resnet20-bn"
    models = [name, {"checkpoint": name, "label": "some", "attacks": ["natural"]}]
    attacks = ["natural", "torchattacks:FGSM"]
    plan = _plan(tmp_path, lookup, models=models, attacks=attacks, reports=["leaderboard"])
    places = [(cell.model_label, cell.attack_label) for cell in plan.cells]
    assert places == [(name, "natural"), (name, "FGSM"), ("some", "natural")]


def test_an_attack_may_be_run_on_the_first_images_only(tmp_path: Path, lookup: Lookup) -> None:
    attacks = ["natural", {"attack": "autoattack", "limit": 16}]
    plan = _plan(tmp_path, lookup, attacks=attacks, models=SUITE["models"][:2])
    all_of, few = plan.cells[:2]
    assert (plan.n_images, all_of.n_images, few.n_images) == (64, 64, 16)
    assert few.spec.data == all_of.spec.data.first(16) and all_of.spec.data.limit == 64
    assert few.n_batches == 1 and plan.cells[3].n_batches == 1
    whole = _plan(tmp_path, lookup, attacks=["natural", "autoattack"])
    assert few.cell_id != whole.cells[1].cell_id


def test_labels_and_title_leave_ids_alone(tmp_path: Path, lookup: Lookup) -> None:
    before = [c.cell_id for c in _plan(tmp_path, lookup).cells]
    models = [{"checkpoint": m} if isinstance(m, str) else m for m in SUITE["models"]]
    models = [{**m, "label": f"model {i}"} for i, m in enumerate(models)]
    after = _plan(tmp_path, lookup, models=models, title="Another", suite="other").cells
    assert [c.cell_id for c in after] == before


def test_manifest_holds_every_cell_and_the_whole_suite(tmp_path: Path, lookup: Lookup) -> None:
    plan = _plan(tmp_path, lookup)
    manifest = plan.manifest()
    assert [c.cell_id for c in manifest.cells] == [c.cell_id for c in plan.cells]
    assert [bool(c.refused) for c in manifest.cells] == [bool(c.refused) for c in plan.cells]
    assert manifest.suite["n_draws"] == 5
    assert manifest.suite["models"][1]["stats"] == "batch"


def test_a_slice_from_one_end_of_a_sorted_split_is_said(tmp_path: Path, lookup: Lookup) -> None:
    """A folder of images is sorted by class, and its first 64 may all be of one."""

    def of(classes: int) -> Lookup:
        return replace(lookup, images=lambda data: lookup.images(data)._replace(classes=classes))

    plain = {"name": "fashion-mnist", "limit": 64}
    (note,) = _plan(tmp_path, of(1), data=plain).notes
    assert "of 1 of the 10 classes" in note and "seed: 0 or stratified: true" in note
    assert not _plan(tmp_path, of(6), data=plain).notes
    assert not _plan(tmp_path, of(1), data={**plain, "seed": 0}).notes, "it is what there is"
    assert not _plan(tmp_path, lookup, data=plain).notes
