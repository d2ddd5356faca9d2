from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.core.errors import UserError
from bench.train.recipe import Recipe, read_recipes

WRONG: list[tuple[dict[str, Any], str]] = [
    (
        {"kind": "adverserial"},
        "kind: .*'natural', 'mixed', 'adversarial' or 'black-box'.*'adverserial'",
    ),
    ({"kind": "adversarial"}, "other kinds need one"),
    ({"attack": "ATTACK"}, "kind 'natural' takes no attack"),
    ({"kind": "black-box", "attack": "ATTACK"}, "needs norm 'rna'"),
    ({"epochs": 0}, "epochs: .*greater than or equal to 1, found 0"),
    ({"batch_size": 0}, "batch_size: .*greater than or equal to 1"),
    ({"lr": 0}, "lr: .*greater than 0"),
    ({"lr": "fast"}, "lr: expected a number"),
    ({"lr": float("nan")}, "lr: expected a finite number"),
    ({"momentum": 1}, "momentum: .*less than 1"),
    ({"schedule": {"warmup": -0.1}}, "schedule.warmup: .*greater than or equal to 0"),
    ({"schedule": {"warmup": 1}}, "schedule.warmup: .*less than 1"),
    ({"schedule": {"name": "piecewise"}}, "schedule: .*'piecewise' needs milestones"),
    ({"schedule": {"milestones": [1]}}, "schedule: .*only it takes them"),
    (
        {"schedule": {"name": "piecewise", "milestones": [1, 1]}},
        "schedule: milestones must rise",
    ),
    (
        {"schedule": {"name": "piecewise", "milestones": [1, 2]}},
        "a milestone at epoch 2 lies past the last of 2",
    ),
    ({"weight_decay": -1e-4}, "weight_decay: .*greater than or equal to 0"),
    ({"clip": 0}, "clip: .*greater than 0"),
    ({"clip": -1}, "clip: .*greater than 0"),
    ({"limit": 0}, "limit: .*greater than or equal to 1"),
    ({"name": "../evil"}, "name: .*pattern.*'../evil'"),
    ({"name": "Has Space"}, "name: .*pattern"),
    ({"epoch": 3}, "epoch: unknown key; did you mean 'epochs'"),
    ({"augment": {"flips": True}}, "augment.flips: unknown key; did you mean 'flip'"),
    ({"augment": {"pad": -1}}, "augment.pad: .*greater than or equal to 0"),
    ({"kind": "adversarial", "attack": {"n_iter": 0}}, "attack.n_iter: .*equal to 1"),
    ({"kind": "adversarial", "attack": {"alpha": 0}}, "attack.alpha: .*greater than 0"),
    (
        {"kind": "adversarial", "attack": {"threat_model": {"norm": "l2", "eps": 1}}},
        "attack.threat_model: training attacks know only norm linf",
    ),
    (
        {"kind": "adversarial", "attack": {"threat_model": {"eps": 8}}},
        "attack.threat_model: .*8/255",
    ),
    ({"model": {"arch": "resnet20"}}, "model.norm: Field required"),
]
ATTACK: dict[str, Any] = {"threat_model": {"eps": 0.1}, "alpha": 0.05, "n_iter": 2}


@pytest.mark.parametrize(("change", "message"), WRONG, ids=[str(i) for i in range(len(WRONG))])
def test_a_wrong_recipe_is_refused(
    tmp_path: Path, make_recipe: Callable[..., Recipe], change: dict[str, Any], message: str
) -> None:
    data = make_recipe().model_dump(mode="json", exclude_none=True)
    if change.get("attack") == "ATTACK":
        change = change | {"attack": ATTACK}
    elif "attack" in change:
        change = change | {"attack": ATTACK | change["attack"]}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(data | change), encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        read_recipes(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml: no such file; expected a training recipe"):
        read_recipes(tmp_path / "none.yaml")
