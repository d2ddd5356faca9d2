"""``gradient_model`` and ``loss`` in suites: cells, labels, ids, and where they are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.core.cell import CellSpec
from bench.core.errors import UserError
from bench.suite.load import load_suite
from bench.suite.plan import Plan, PlannedCell, make_plan
from bench.suite.rebuild import rebuild_manifest
from bench.suite.resolve import Lookup

BN, IN, RNA = "fmnist-resnet20-bn", "fmnist-resnet20-in", "fmnist-resnet20-rna-at"
LOSS = "python:mylosses:unnoticed"


def plan(folder: Path, lookup: Lookup, models: Any, attacks: Any, **changes: Any) -> Plan:
    suite = {
        "suite": "demo",
        "data": {"name": "fashion-mnist", "limit": 64},
        "threat_model": {"norm": "linf", "eps": 0.1},
        "models": models,
        "attacks": attacks,
        **changes,
    }
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump(suite, sort_keys=False), encoding="utf-8")
    return make_plan(load_suite(path, lookup))


def cells(plan: Plan) -> dict[tuple[str, str], PlannedCell]:
    return {(cell.model_label, cell.attack_label): cell for cell in plan.cells}


def test_both_are_part_of_the_cells_of_attacks_that_use_them(
    tmp_path: Path, lookup: Lookup
) -> None:
    models = [
        BN,
        {"checkpoint": BN, "gradient_model": f"zoo:{IN}"},
        {"checkpoint": BN, "loss": LOSS},
    ]
    found = plan(tmp_path, lookup, models, ["natural", "pgd"])
    named = cells(found)
    bpda, aimed = f"{BN} (gradients of {IN})", f"{BN} (loss unnoticed (mylosses))"
    assert list(dict.fromkeys(model for model, _ in named)) == [BN, bpda, aimed]
    ids = {label: named[label, "pgd"].cell_id for label in (BN, bpda, aimed)}
    assert len(set(ids.values())) == 3
    assert len({named[label, "natural"].cell_id for label in ids}) == 1, "the same measurement"
    stand_in = named[bpda, "pgd"].spec.adaptive
    assert stand_in is not None and stand_in.gradient_model is not None
    assert stand_in.gradient_model.name == IN
    assert stand_in.gradient_model.sha256 == lookup.checkpoint(IN).sha256
    searches = [named[label, "pgd"].spec.search for label in (BN, bpda, aimed)]
    assert searches == ["fast", "exact", "fast"], "another backward pass needs the model itself"
    assert set(found.checkpoints) == {BN, IN}
    passes = [named[label, "pgd"].passes or 0 for label in (BN, bpda)]
    assert passes[1] > passes[0]


def test_ids_and_files_of_other_cells_do_not_know_of_it(tmp_path: Path, lookup: Lookup) -> None:
    (cell,) = plan(tmp_path, lookup, [BN], ["pgd"]).cells
    written = cell.spec.model_dump(mode="json")
    assert "adaptive" not in written
    assert CellSpec.model_validate(written).cell_id == cell.cell_id
    found = plan(tmp_path, lookup, [{"checkpoint": BN, "loss": LOSS}], ["pgd"])
    written = found.cells[0].spec.model_dump(mode="json")
    assert CellSpec.model_validate(written).cell_id == found.cells[0].cell_id
    entry = plan(tmp_path, lookup, [BN], ["pgd"]).suite.models[0].model_dump(mode="json")
    assert not {"gradient_model", "loss"} & set(entry)


def test_each_varies_them_and_a_rebuilt_suite_keeps_them(tmp_path: Path, lookup: Lookup) -> None:
    models = [{"checkpoint": BN, "each": {"gradient_model": [None, IN]}}]
    found = plan(tmp_path, lookup, models, ["pgd"])
    assert [cell.model_label for cell in found.cells] == [
        f"{BN}, gradients of default gradient_model",
        f"{BN}, gradients of {IN}",
    ]
    again = rebuild_manifest([cell.spec for cell in found.cells], "demo")
    assert {model.get("gradient_model") for model in again.suite["models"]} == {None, IN}


REFUSED: tuple[tuple[dict[str, Any], list[Any], str], ...] = (
    (
        {"gradient_model": "fmnist-resnet20-inn"},
        ["pgd"],
        f"models[0].gradient_model: unknown checkpoint 'fmnist-resnet20-inn'; did you mean '{IN}'?",
    ),
    ({"gradient_model": BN}, ["pgd"], "models[0].gradient_model: is the model itself"),
    ({"gradient_model": IN}, ["natural"], "models[0].gradient_model: none of its attacks"),
    ({"loss": LOSS}, ["natural"], "models[0].loss: none of its attacks"),
    ({"loss": "mylosses:one"}, ["pgd"], "models[0].loss: 'mylosses:one': expected a loss"),
    (
        {"gradient_model": IN, "protocol": "transfer", "surrogate": IN},
        ["pgd"],
        f"models[0].gradient_model: images are crafted on '{IN}' (in) and follow its own",
    ),
    (
        {"checkpoint": RNA, "gradient_model": IN, "eot": "mean_field"},
        ["pgd"],
        "models[0].gradient_model: eot mean_field has a stand-in of its own",
    ),
    ({"gradient_modell": IN}, ["pgd"], "did you mean 'gradient_model'?"),
)


@pytest.mark.parametrize(("entry", "attacks", "expected"), REFUSED)
def test_what_has_no_meaning_is_refused_with_its_line(
    entry: dict[str, Any], attacks: list[Any], expected: str, tmp_path: Path, lookup: Lookup
) -> None:
    with pytest.raises(UserError) as caught:
        plan(tmp_path, lookup, [{"checkpoint": BN, **entry}], attacks)
    assert expected in str(caught.value)


def test_an_attack_with_losses_of_its_own_is_a_refused_cell(tmp_path: Path, lookup: Lookup) -> None:
    models = [{"checkpoint": BN, "loss": LOSS, "gradient_model": IN}]
    found = plan(tmp_path, lookup, models, ["pgd", "autoattack"])
    assert [bool(cell.refused) for cell in found.cells] == [False, True]
    assert "'autoattack' climbs losses of its own" in found.cells[1].refused


def test_an_analysis_takes_no_entry_with_an_attack_of_its_own(
    tmp_path: Path, lookup: Lookup
) -> None:
    models = [{"checkpoint": BN, "loss": LOSS, "label": "mine"}, IN]
    with pytest.raises(UserError, match="'mine' is attacked with a loss of its own"):
        plan(tmp_path, lookup, models, ["pgd"], analyses=["gradient_similarity"])
