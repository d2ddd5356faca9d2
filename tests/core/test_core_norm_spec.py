from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from bench.core.errors import UserError
from bench.core.model_spec import ModelSpec
from bench.core.norm_spec import FAMILIES, NormSpec

REFUSED: list[tuple[Any, str]] = [
    ("batchnorm", "none.*fixup.*bn"),
    ({"name": "gn"}, "needs either groups or group_size"),
    ({"name": "bgn"}, "needs either groups or group_size"),
    ({"name": "gn", "groups": 2, "group_size": 2}, "needs either groups or group_size"),
    ({"name": "gn", "groups": 0}, "greater than or equal to 1"),
    ({"name": "bn", "groups": 2}, "takes no groups; only 'bgn' and 'gn' do"),
    ({"name": "in", "group_size": 1}, "takes no group_size; only 'bgn' and 'gn' do"),
    ({"name": "rna"}, "needs a pool"),
    ({"name": "bn", "pool": ["in"]}, "takes no pool; only 'rna' does"),
    ({"name": "rna", "pool": ["bn", "fixup"]}, "cannot hold"),
    ({"name": "rna", "pool": ["bn", {"name": "rna", "pool": ["in"]}]}, "cannot hold"),
    ({"name": "rna", "pool": ["bn", "gn"]}, "needs either groups"),
    ({"name": "gn", "groups": 2, "stats": "batch"}, "no choice of statistics"),
    ({"name": "rna", "pool": ["bn", "in"], "stats": "batch"}, "no choice of statistics"),
    ({"name": "bn", "stats": "tracked-mean"}, "has only population, batch"),
    ({"name": "bn", "stats": "running"}, "population"),
    ({"name": "rn", "power": 0}, r"power must be in \(0, 1\]"),
    ({"name": "rn", "power": 1.5}, r"power must be in \(0, 1\]"),
    ({"name": "rn", "power": "one"}, "expected a number"),
    ({"name": "bn", "power": 0.5}, "only 'rn' does"),
    ({"name": "bn", "per": "sample"}, "only 'rna' does"),
    ({"name": "in", "scope": "network"}, "only 'rna' does"),
    ({"name": "bn", "momentum": 0.1}, "momentum"),
    ({}, "name"),
    (7, "dictionary"),
]


@pytest.mark.parametrize(("value", "message"), REFUSED)
def test_what_is_refused(value: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        NormSpec.model_validate(value)


@pytest.mark.parametrize(
    ("value", "label", "stats", "stochastic", "batch_dependent"),
    [
        ("none", "none", None, False, False),
        ("fixup", "fixup", None, False, False),
        ("bn", "bn", "population", False, False),
        ({"name": "bn", "stats": "batch"}, "bn", "batch", False, True),
        ({"name": "gn", "groups": 8}, "gn8", None, False, False),
        ({"name": "bgn", "group_size": 2}, "bgn[2]", "population", False, False),
        ({"name": "bgn", "groups": 2, "stats": "batch"}, "bgn2", "batch", False, True),
        ("rn", "rn", "batch", False, True),
        ({"name": "rn", "stats": "tracked-mean"}, "rn", "tracked-mean", False, True),
        ({"name": "rn", "stats": "population"}, "rn", "population", False, False),
        ({"name": "rna", "pool": ["bn", "in"]}, "rna(bn+in)", None, True, False),
        ({"name": "rna", "pool": ["rn", "in"]}, "rna(rn+in)", None, True, True),
        ({"name": "rna", "pool": ["in"]}, "rna(in)", None, False, False),
    ],
)
def test_what_a_spec_says_of_the_model(
    value: Any, label: str, stats: str | None, stochastic: bool, batch_dependent: bool
) -> None:
    spec = NormSpec.model_validate(value)
    assert spec.label() == label and spec.inference_stats == stats
    assert (spec.stochastic, spec.batch_dependent) == (stochastic, batch_dependent)
    assert NormSpec.model_validate(spec.model_dump(mode="json")) == spec


def test_a_parameter_is_taken_by_the_families_that_list_it() -> None:
    for name, family in FAMILIES.items():
        assert set(family.parameters) < set(NormSpec.model_fields)
        assert bool(family.stats) == ("stats" in family.parameters), name
        for stats in family.stats:
            groups = {"groups": 2} if "groups" in family.parameters else {}
            spec = NormSpec.model_validate({"name": name, "stats": stats, **groups})
            assert spec.inference_stats == stats
        assert family.summary


def test_other_statistics_make_another_spec() -> None:
    spec = NormSpec.model_validate("bn")
    assert spec.with_stats("batch").batch_dependent and not spec.batch_dependent
    assert spec.with_stats("population").inference_stats == "population"
    assert (
        NormSpec.model_validate("rn").with_stats("tracked-mean").inference_stats == "tracked-mean"
    )


@pytest.mark.parametrize(
    ("value", "stats", "message"),
    [
        ("bn", "tracked-mean", "has only population, batch"),
        ("rn", "mean", "has only batch, tracked-mean, population"),
        ("ln", "batch", "norm 'ln' has no choice"),
        ({"name": "rna", "pool": ["in", "ln"]}, "batch", "no choice"),
        ({"name": "rna", "pool": ["bn", "in"]}, "batch", r"norm 'rna\(bn\+in\)' has no choice"),
    ],
)
def test_statistics_that_a_norm_lacks(value: Any, stats: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        NormSpec.model_validate(value).with_stats(stats)


MODEL: dict[str, Any] = {
    "arch": "resnet20",
    "norm": "bn",
    "channels": 1,
    "size": 28,
    "classes": 10,
    "mean": [0.1],
    "std": [0.3],
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arch": "resnet21"}, "resnet20"),
        ({"channels": 3}, "need 3 values"),
        ({"std": [0.0]}, "greater than 0"),
        ({"std": [float("nan")]}, "finite"),
        ({"mean": [float("inf")]}, "finite"),
        ({"classes": 1}, "greater than or equal to 2"),
        ({"shortcut": "none"}, "pad or conv"),
        ({"depth": 20}, "depth"),
    ],
)
def test_models_that_are_refused(change: dict[str, Any], message: str) -> None:
    ModelSpec.model_validate(MODEL)
    with pytest.raises(ValidationError, match=message):
        ModelSpec.model_validate(MODEL | change)
