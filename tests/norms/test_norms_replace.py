"""replace_norms and set_stats on networks that are not ours."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from bench.core.errors import UserError
from bench.core.norm_spec import NormSpec, keys_of_label
from bench.norms import find_paths, pinned, replace_norms, set_stats

SPECS: list[Any] = [
    "none",
    "fixup",
    "bn",
    {"name": "bn", "stats": "batch"},
    {"name": "gn", "groups": 32},
    {"name": "gn", "group_size": 2},
    "in",
    "ln",
    {"name": "bgn", "groups": 32},
    {"name": "bgn", "group_size": 1, "stats": "batch"},
    "rn",
    {"name": "rn", "stats": "tracked-mean", "power": 0.5},
    {"name": "rna", "pool": ["bn", "in"]},
    {"name": "rna", "pool": ["bn", "rn", {"name": "gn", "groups": 8}], "per": "sample"},
]


def spec_of(value: Any) -> NormSpec:
    return NormSpec.model_validate(value)


@pytest.fixture(scope="module")
def resnet18() -> nn.Module:
    return torchvision.models.resnet18(weights=None, num_classes=7)


@pytest.mark.parametrize("value", SPECS, ids=lambda v: spec_of(v).label())
def test_every_norm_goes_into_torchvisions_resnet18(value: Any, resnet18: nn.Module) -> None:
    model = copy.deepcopy(resnet18).eval()
    convs = {k: m.weight.clone() for k, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    assert replace_norms(model, spec_of(value)) == 20
    assert not any(type(m) is nn.BatchNorm2d for m in model.modules())
    assert not any(m.training for m in model.modules()), "the new layers left eval mode"
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and spec_of(value).name != "fixup":
            assert torch.equal(module.weight, convs[name])
    y = model(torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert y.shape == (2, 7) and y.isfinite().all()
    paths = find_paths(model)
    assert (paths is not None) == (spec_of(value).name == "rna")
    assert paths is None or len(paths.sizes) == 20


def test_fixup_makes_a_foreign_network_start_at_zero(resnet18: nn.Module) -> None:
    model = copy.deepcopy(resnet18)
    before = torch.get_rng_state()
    replace_norms(model, spec_of("fixup"), seed=1)
    assert torch.equal(torch.get_rng_state(), before), "the global generator moved"
    assert model(torch.rand(2, 3, 32, 32)).abs().max() == 0
    again, other = copy.deepcopy(resnet18), copy.deepcopy(resnet18)
    replace_norms(again, spec_of("fixup"), seed=1)
    replace_norms(other, spec_of("fixup"), seed=2)
    weight = model.layer1[0].conv1.weight
    assert torch.equal(again.layer1[0].conv1.weight, weight)
    assert not torch.equal(other.layer1[0].conv1.weight, weight)


def test_mode_dtype_and_device_of_each_layer_are_kept() -> None:
    model = nn.Sequential(
        nn.BatchNorm2d(4).eval(),
        nn.BatchNorm2d(4).double(),
        nn.BatchNorm2d(4, affine=False).to("meta"),
    )
    replace_norms(model, spec_of("bn"))
    assert [layer.training for layer in model] == [False, True, True]
    assert [layer.weight.dtype for layer in model[:2]] == [torch.float32, torch.float64]
    assert [layer.weight.device.type for layer in model] == ["cpu", "cpu", "meta"]


def test_a_layer_used_in_two_places_stays_one_layer() -> None:
    shared = nn.BatchNorm2d(4)
    model = nn.ModuleDict({"a": shared, "b": nn.Sequential(shared), "c": shared})
    assert replace_norms(model, spec_of("rn")) == 1
    assert model["a"] is model["c"] is model["b"][0]
    assert type(model["a"]).__name__ == "RobustNorm"


def test_a_norm_that_does_not_fit_leaves_the_model_alone() -> None:
    model = nn.Sequential(nn.BatchNorm2d(16), nn.BatchNorm2d(20))
    with pytest.raises(UserError, match="20 channels does not divide into 8 groups"):
        replace_norms(model, spec_of({"name": "gn", "groups": 8}))
    assert [type(m) for m in model] == [nn.BatchNorm2d, nn.BatchNorm2d]


def test_a_model_without_batch_norm_is_refused() -> None:
    with pytest.raises(UserError, match="found no BatchNorm2d"):
        replace_norms(nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4)), spec_of("bn"))


def test_set_stats_switches_to_batch_statistics_and_back(resnet18: nn.Module) -> None:
    model = copy.deepcopy(resnet18)
    replace_norms(model, spec_of("bn"))
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    trained = model.train()(x).detach()
    population = model.eval()(x)
    assert set_stats(model, "batch") == 20
    torch.testing.assert_close(model(x), trained, rtol=1e-4, atol=1e-4)
    assert set_stats(model, "population") == 20
    assert torch.equal(model(x), population)


@pytest.mark.parametrize(
    ("value", "stats", "message"),
    [
        ("gn8", "batch", "no layer has a choice"),
        ("none", "population", "no layer has a choice"),
        ("bn", "tracked-mean", "not one of population, batch$"),
        ("rn", "popular", "not one of batch, tracked-mean, population"),
    ],
)
def test_set_stats_refuses(value: str, stats: str, message: str) -> None:
    value_spec: Any = {"name": "gn", "groups": 8} if value == "gn8" else value
    model = nn.Sequential(nn.BatchNorm2d(8))
    replace_norms(model, spec_of(value_spec))
    with pytest.raises(UserError, match=message):
        set_stats(model, stats)


def test_set_stats_changes_all_layers_or_none() -> None:
    model = nn.Sequential(nn.BatchNorm2d(8))
    replace_norms(model, spec_of({"name": "rna", "pool": ["rn", "bn"]}))
    with pytest.raises(UserError):
        set_stats(model, "tracked-mean")
    assert model[0].branches[0].stats == "batch"


def trained(seed: int = 0) -> nn.Module:
    """Two convolutions whose batch normalization has learned something."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, eps=1e-3, momentum=0.3), nn.ReLU())
    model.append(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)))
    for layer in (model[1], model[3][1]):
        for tensor in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
            tensor.data = torch.rand(4) + 0.5
    return model.eval()


def test_batch_normalization_keeps_what_was_learned(recwarn: pytest.WarningsRecorder) -> None:
    model, x = trained(), torch.rand(5, 1, 8, 8)
    z = model(x)
    assert replace_norms(model, "bn") == 2
    assert torch.equal(model(x), z) and not recwarn.list
    assert (model[1].eps, model[1].momentum) == (1e-3, 0.3)
    replace_norms(model[1:], {"name": "bn", "stats": "batch"})
    assert isinstance(model[1], nn.BatchNorm2d)


def test_a_branch_of_batch_normalization_keeps_it_and_the_others_are_said_to_start_anew() -> None:
    model, x = trained(), torch.rand(5, 1, 8, 8)
    z = model(x)
    with pytest.warns(UserWarning, match=r"in, gn2 start anew in place of 2 trained .*bn keeps"):
        replace_norms(model, {"name": "rna", "pool": ["bn", "in", {"name": "gn", "groups": 2}]})
    with pinned(model, torch.zeros(2, dtype=torch.int64)):
        assert torch.equal(model(x), z)
    with pytest.warns(UserWarning, match=r"in start anew .*train the model"):
        replace_norms(trained(), "in")


def test_a_network_that_has_learned_nothing_loses_nothing(
    recwarn: pytest.WarningsRecorder,
) -> None:
    replace_norms(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)), "in")
    assert not recwarn.list


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "rna",
            r"norm: .*needs a pool of norms; for example .*'rna\(bn\+in\)'",
        ),
        ("bm", "norm: name: .*'bn', .*found 'bm'"),
        ("rna(bm+in)", r"norm: pool.0.name: .*'bn', .*found 'bm'"),
        ("rna(bn,in)", r"norm: pool.0.name: .*found 'bn,in'"),
        ("rna()", "norm: pool.0.name: .*found ''"),
        ("bn8", "norm: .*takes no groups"),
        ({"name": "gn", "grups": 4}, "norm: grups: unknown key; did you mean 'groups'"),
        ({"name": "gn"}, "norm: .*needs either groups or group_size"),
        ({"nme": "bn"}, "norm: nme: unknown key; did you mean 'name'"),
        ({"name": "bn", "groups": 4}, "norm: .*takes no groups"),
    ],
)
def test_a_norm_that_is_none_is_refused_in_one_line(value: Any, message: str) -> None:
    model = trained()
    with pytest.raises(UserError, match=message) as found:
        replace_norms(model, value)
    assert "pydantic" not in str(found.value) and "\n" not in str(found.value)
    assert type(model[1]) is nn.BatchNorm2d


@pytest.mark.parametrize("value", SPECS, ids=lambda v: spec_of(v).label())
def test_the_label_of_a_norm_names_it(value: Any) -> None:
    """Labels say family, groups and pool; what they leave out is at its default."""
    spec = spec_of(value)
    told = NormSpec.model_validate(keys_of_label(spec.label()))
    plain = {"stats": None, "power": 0.2, "scope": "layer", "per": "batch"}
    assert told == spec.model_copy(update=plain)


def test_a_pool_is_given_by_name_and_its_batch_normalization_keeps_what_was_learned() -> None:
    by_keys, by_name, x = trained(), trained(), torch.rand(5, 1, 8, 8)
    z = by_name(x)
    with pytest.warns(UserWarning, match="in start anew in place of 2 trained layers"):
        replace_norms(by_keys, {"name": "rna", "pool": ["bn", "in"]})
    with pytest.warns(UserWarning, match=r"start anew.*\(bn keeps them\)"):
        assert replace_norms(by_name, "rna(bn + in)") == 2
    assert str(by_name) == str(by_keys)
    with pinned(by_name, torch.zeros(2, dtype=torch.int64)):
        assert torch.equal(by_name(x), z)
