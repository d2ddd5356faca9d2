"""``eot`` in suites: what a cell gets of it, which ids it leaves alone, where it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.alarms.convergence import convergence_sweep
from bench.core.cell import RULES, CellSpec
from bench.core.errors import UserError
from bench.core.spec import digest
from bench.suite.load import load_suite
from bench.suite.plan import Plan, make_plan
from bench.suite.resolve import Lookup

BN, RNA = "fmnist-resnet20-bn", "fmnist-resnet20-rna-at"
PGD = {"attack": "pgd"}
CELL: dict[str, Any] = {
    "checkpoint": "rna",
    "sha256": "0" * 64,
    "stats": None,
    "data": {"name": "fashion-mnist", "limit": 64},
    "data_hash": "1" * 64,
    "threat_model": {"norm": "linf", "eps": 0.1},
    "attack": "torchattacks:PGD",
    "attack_version": 1,
    "attack_params": {"n_iter": 20, "alpha": 0.025},
    "protocol": "white_box",
    "eot_iter": 20,
    "batch_size": 64,
    "n_draws": 20,
    "seed": 0,
}


def plan(folder: Path, lookup: Lookup, models: Any, attacks: Any, **changes: Any) -> Plan:
    suite = {
        "suite": "demo",
        "data": {"name": "fashion-mnist", "limit": 64},
        "threat_model": {"norm": "linf", "eps": 0.1},
        "n_draws": 5,
        "models": models,
        "attacks": attacks,
        **changes,
    }
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump(suite, sort_keys=False), encoding="utf-8")
    return make_plan(load_suite(path, lookup))


def averages(plan: Plan) -> list[tuple[str, int]]:
    return [(cell.spec.eot, cell.spec.eot_iter) for cell in plan.cells]


def test_ids_from_before_there_was_a_choice_stay() -> None:
    assert CellSpec.model_validate(CELL).cell_id == "a3b51baecfa386e1"
    spec = CellSpec.model_validate({**CELL, "eot": "plain"})
    assert spec.cell_id == "a3b51baecfa386e1"
    without = {key: value for key, value in spec.model_dump(mode="json").items() if key != "eot"}
    assert spec.cell_id == digest(without | {"rules": RULES})
    others = {
        CellSpec.model_validate({**CELL, "eot": eot}).cell_id
        for eot in ("plain", "mean_field", "stratified")
    }
    assert len(others) == 3


def test_column_model_and_suite_decide_in_this_order(tmp_path: Path, lookup: Lookup) -> None:
    models = [{"checkpoint": RNA, "eot": "stratified"}, {"checkpoint": RNA}, BN]
    attacks = [PGD, {**PGD, "eot": "plain"}, {**PGD, "eot": "mean_field"}]
    found = plan(tmp_path, lookup, models, attacks, eot_iter=4)
    assert averages(found) == [
        *[("stratified", 4), ("plain", 4), ("mean_field", 1)],
        *[("plain", 4), ("plain", 4), ("mean_field", 1)],
        *[("plain", 1)] * 3,
    ]
    found = plan(tmp_path, lookup, models, [PGD], eot="mean_field")
    assert averages(found) == [("plain", 1), ("mean_field", 1), ("plain", 1)]
    # The one pass of the surrogate costs what one draw does.
    assert [cell.passes for cell in found.cells] == [64 * (40 + 10), 64 * (40 + 10), 64 * (40 + 2)]


def test_over_one_draw_there_is_nothing_to_stratify(tmp_path: Path, lookup: Lookup) -> None:
    attacks = [{**PGD, "eot": "stratified", "eot_iter": k} for k in (1, 2)]
    found = plan(tmp_path, lookup, [RNA], [{**PGD, "eot_iter": 1}, *attacks])
    assert averages(found) == [("plain", 1), ("plain", 1), ("stratified", 2)]
    assert len(found.to_run) == 2


def test_draws_of_the_attacked_model_count(tmp_path: Path, lookup: Lookup) -> None:
    models = [
        {"checkpoint": BN, "protocol": "transfer", "surrogate": RNA, "eot": "mean_field"},
        {"checkpoint": RNA, "protocol": "transfer", "surrogate": BN},
        {"checkpoint": RNA, "protocol": "fixed_path"},
    ]
    attacks = [PGD, {**PGD, "eot": "stratified", "eot_iter": 4}]
    assert averages(plan(tmp_path, lookup, models, attacks)) == [
        *[("mean_field", 1), ("stratified", 4)],
        *[("plain", 1)] * 4,
    ]


def test_default_labels_say_how(tmp_path: Path, lookup: Lookup) -> None:
    models = [{"checkpoint": RNA, "eot": "stratified", "eot_iter": 4}]
    attacks = [
        {**PGD, "eot": "stratified", "eot_iter": 2},
        {**PGD, "eot": "mean_field"},
        {**PGD, "eot_iter": 2},
    ]
    cells = plan(tmp_path, lookup, models, attacks).cells
    assert cells[0].model_label == f"{RNA} (eot 4, stratified)"
    labels = ["pgd EOT-2 stratified", "pgd mean_field", "pgd EOT-2"]
    assert [cell.attack_label for cell in cells] == labels


DRAWS_NOTHING = "models[0].eot: 'fmnist-resnet20-bn' (bn) draws nothing at random; remove eot"
NO_DRAWS = "eot mean_field is one pass without draws, found eot_iter 5; remove eot_iter"
CHOICES = "eot: expected 'plain', 'stratified' or 'mean_field', found"
PGD_5, PGD_FAST = {**PGD, "eot_iter": 5}, {**PGD, "eot": "mean_field", "eot_iter": 5}
FAST = {"checkpoint": RNA, "eot": "mean_field"}
HELD = {**FAST, "protocol": "fixed_path"}


@pytest.mark.parametrize(
    ("model", "attack", "suite", "message"),
    [
        ({"checkpoint": BN, "eot": "stratified"}, PGD, {}, DRAWS_NOTHING),
        ({"checkpoint": BN, "eot": "mean_field"}, PGD, {}, DRAWS_NOTHING),
        (HELD, PGD, {}, "models[0].eot: fixed_path attacks one path"),
        ({**FAST, "eot_iter": 5}, PGD, {}, f"models[0]: {NO_DRAWS}"),
        (RNA, PGD_FAST, {}, f"attacks[0]: {NO_DRAWS}"),
        (FAST, PGD_5, {}, f"attacks[0].eot_iter: '{RNA} (mean_field)' is attacked with eot mean"),
        (RNA, PGD_5, {"eot": "mean_field"}, f"attacks[0].eot_iter: '{RNA}' is attacked with eot"),
        (
            {"checkpoint": RNA, "eot_iter": 5},
            PGD,
            {"eot": "mean_field"},
            "models[0].eot_iter: the suite's eot is mean_field",
        ),
        (RNA, {**PGD, "eot": "mean-field"}, {}, f"attacks[0].{CHOICES} 'mean-field'; did you mean"),
        (RNA, PGD, {"eot": "stratifed"}, f"{CHOICES} 'stratifed'; did you mean 'stratified'?"),
    ],
)
def test_what_means_nothing_is_refused(
    model: Any, attack: Any, suite: Any, message: str, tmp_path: Path, lookup: Lookup
) -> None:
    with pytest.raises(UserError) as error:
        plan(tmp_path, lookup, [model], [attack], **suite)
    assert message in str(error.value)


def test_an_attack_that_the_model_does_not_meet_may_ask_for_draws(
    tmp_path: Path, lookup: Lookup
) -> None:
    models = [
        {"checkpoint": RNA, "eot": "mean_field", "attacks": ["fast"]},
        {"checkpoint": RNA},
    ]
    attacks = [{**PGD, "label": "fast"}, {**PGD, "label": "slow", "eot_iter": 20}]
    found = plan(tmp_path, lookup, models, attacks)
    assert averages(found) == [("mean_field", 1), ("plain", 1), ("plain", 20)]


def test_convergence_is_asked_in_the_cells_own_way() -> None:
    data = CellSpec.model_validate(CELL).data
    spec = CellSpec.model_validate({**CELL, "eot": "stratified", "eot_iter": 4})
    sweep = convergence_sweep(spec, data, "h", stochastic=True)
    assert [(c.eot, c.eot_iter) for c in sweep.draws] == [
        ("plain", 1),
        *[("stratified", k) for k in (4, 5, 20, 50)],
    ]
    assert {(c.eot, c.eot_iter) for c in sweep.iterations} == {("stratified", 4)}
    spec = CellSpec.model_validate({**CELL, "eot": "mean_field", "eot_iter": 1})
    sweep = convergence_sweep(spec, data, "h", stochastic=True)
    assert not sweep.draws and {c.eot for c in sweep.iterations} == {"mean_field"}
