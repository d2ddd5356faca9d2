"""``y_target`` in suites: cells, labels, ids, the worst case, and where it is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.attacks.registry import attack_info
from bench.core.errors import UserError
from bench.suite.load import load_suite
from bench.suite.plan import Plan, make_plan
from bench.suite.rebuild import rebuild_manifest
from bench.suite.resolve import Lookup
from bench.suite.spec import SuiteSpec


def plan(folder: Path, lookup: Lookup, *attacks: Any) -> Plan:
    suite = {
        "suite": "demo",
        "data": {"name": "fashion-mnist", "limit": 4},
        "threat_model": {"norm": "linf", "eps": 0.1},
        "models": ["fmnist-resnet20-bn"],
        "attacks": list(attacks),
    }
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump(suite, sort_keys=False), encoding="utf-8")
    return make_plan(load_suite(path, replace(lookup, attack=attack_info)))


def test_a_target_is_part_of_the_cell_and_of_its_name(tmp_path: Path, lookup: Lookup) -> None:
    goals: list[Any] = ["least_likely", "random", 3, [1, 2, 3, 4]]
    varied = {"attack": "bim", "each": {"y_target": ["random", 0]}}
    entries = [{"attack": "pgd", "y_target": goal} for goal in goals]
    found = plan(tmp_path, lookup, "pgd", *entries, varied)
    assert {cell.attack_label: cell.spec.y_target for cell in found.cells} == {
        "pgd": None,
        "pgd to least likely": "least_likely",
        "pgd to random": "random",
        "pgd to class 3": 3,
        "pgd to given classes": (1, 2, 3, 4),
        "bim, to random": "random",
        "bim, to 0": 0,
    }
    assert len({cell.cell_id for cell in found.cells}) == 7
    alone = plan(tmp_path, lookup, "pgd").cells[0]
    assert alone.cell_id == found.cells[0].cell_id and "y_target" not in alone.spec.model_dump()
    inside = [a.label for a in found.suite.attacks if a.in_worst_case(found.suite.threat_model)]
    assert inside == ["pgd"]


def test_a_stored_or_rebuilt_suite_keeps_it(tmp_path: Path, lookup: Lookup) -> None:
    found = plan(tmp_path, lookup, "bim", {"attack": "pgd", "y_target": [1, 2, 3, 4]})
    stored = found.manifest().suite
    assert "y_target" not in stored["attacks"][0]
    assert SuiteSpec.model_validate(stored).attacks[1].y_target == (1, 2, 3, 4)
    again = SuiteSpec.model_validate(rebuild_manifest([c.spec for c in found.cells], "x").suite)
    assert {(a.attack, a.y_target) for a in again.attacks} == {("bim", None), ("pgd", (1, 2, 3, 4))}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"attack": "auto", "y_target": "random"}, "y_target: 'auto' cannot be given a target"),
        ({"attack": "natural", "y_target": "random"}, "'natural' cannot be given a target class"),
        ({"attack": "pgd", "params": {"loss": "dlr"}, "y_target": 1}, "y_target: 'pgd' climbs the"),
        ({"attack": "pgd", "y_target": 10}, "y_target: expected classes from 0 to 9, found 10"),
        ({"attack": "pgd", "y_target": [1, 2]}, "y_target: expected 4 classes, one for each image"),
        ({"attack": "pgd", "y_target": "likely"}, "suite.yaml:12: attacks[0].y_target"),
        ({"attack": "pgd", "y_target": -1}, "attacks[0].y_target"),
        ({"attack": "pgd", "y_target": True}, "attacks[0].y_target"),
    ],
)
def test_what_cannot_be_a_target_is_said_where_it_stands(
    tmp_path: Path, lookup: Lookup, entry: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError) as error:
        plan(tmp_path, lookup, entry)
    print(error.value)
    assert said in str(error.value)
