"""How attacks search, as alarms, sweeps, time estimates and comparisons with papers see it."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch
from attack_cases import NATIVE
from torch import nn

from bench.attacks import Traits, get_attack, parse_params
from bench.attacks.base import Attack, Budget
from bench.attacks.declared_libraries import FACTS
from bench.attacks.params import NoParams
from bench.attacks.registry import LIBRARIES, adapter, traits_of
from bench.core.cell import CellSpec, DataSpec
from bench.core.result import CellInfo
from bench.core.threat import ThreatModel
from bench.oracle import Oracle, QueryRules

MODULES = {"torchattacks": "torchattacks", "foolbox": "foolbox", "advlib": "adv_lib", "art": "art"}

# name, steps, gradients
SEARCHES: list[tuple[str, str, str]] = [
    ("natural", "none", "never"),
    ("fgsm", "one", "only"),
    ("pgd", "many", "only"),
    ("cw", "none", "only"),
    ("fab_t", "none", "only"),
    ("noise", "none", "never"),
    ("square", "none", "never"),
    ("autoattack", "many", "partly"),
    ("auto", "many", "partly"),
    ("pyautoattack", "many", "partly"),
    ("torchattacks:FGSM", "one", "only"),
    ("torchattacks:FFGSM", "one", "only"),
    ("torchattacks:PGD", "many", "only"),
    ("torchattacks:TIFGSM", "many", "only"),
    ("torchattacks:APGDT", "many", "only"),
    ("torchattacks:CW", "none", "only"),
    ("torchattacks:SPSA", "none", "never"),
    ("torchattacks:OnePixel", "none", "never"),
    ("torchattacks:AutoAttack", "many", "partly"),
    ("foolbox:LinfPGD", "many", "only"),
    ("foolbox:PGD", "many", "only"),
    ("foolbox:L2AdamPGD", "many", "only"),
    ("foolbox:LinfBasicIterativeAttack", "many", "only"),
    ("foolbox:MIFGSM", "many", "only"),
    ("foolbox:FGSM", "one", "only"),
    ("foolbox:LinfFastGradientAttack", "one", "only"),
    ("foolbox:LinfDeepFoolAttack", "none", "only"),
    ("foolbox:LInfFMNAttack", "none", "only"),
    ("foolbox:LinfAdditiveUniformNoiseAttack", "none", "never"),
    ("foolbox:L2RepeatedAdditiveGaussianNoiseAttack", "none", "never"),
    ("foolbox:HopSkipJumpAttack", "none", "never"),
    ("foolbox:GaussianBlurAttack", "none", "never"),
    ("advlib:pgd_linf", "many", "only"),
    ("advlib:apgd", "many", "only"),
    ("advlib:ddn", "none", "only"),
    ("art:FastGradientMethod", "one", "only"),
    ("art:ProjectedGradientDescent", "many", "only"),
    ("art:SquareAttack", "none", "never"),
    ("art:HopSkipJump", "none", "never"),
    ("art:DeepFool", "none", "only"),
]


def installed(name: str) -> None:
    prefix, colon, _ = name.partition(":")
    if colon:
        pytest.importorskip(MODULES[prefix])


@pytest.mark.parametrize(("name", "steps", "gradients"), SEARCHES)
def test_the_way_an_attack_searches_is_declared(name: str, steps: str, gradients: str) -> None:
    installed(name)
    traits = get_attack(name).traits
    assert (traits.steps, traits.gradients) == (steps, gradients)


@pytest.mark.parametrize("name", ["art:SquareAttack", "foolbox:LinfAdditiveUniformNoiseAttack"])
def test_an_attack_that_never_asks_for_gradients_spends_no_backward_pass(name: str) -> None:
    installed(name)
    attack, x = get_attack(name), torch.full((2, 1, 8, 8), 0.5)
    model, y = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), torch.zeros(2, dtype=torch.long)
    oracle = Oracle(model, x, 3, QueryRules())
    few = {"n_iter": 5} if "n_iter" in attack.params.model_fields else {}
    attack.run(oracle, x, y, Budget("linf", (0.01,)), parse_params(attack, few), 0)
    assert oracle.passes.forwards.sum() > 0
    assert oracle.passes.backwards.sum() == 0


@pytest.mark.parametrize("prefix", LIBRARIES)
def test_every_attack_of_a_library_that_climbs_has_a_number_of_steps_to_sweep(prefix: str) -> None:
    if importlib.util.find_spec(MODULES[prefix]) is None:
        pytest.skip(f"needs {prefix}")
    found = adapter(prefix)
    usable = [name for name, why in found.library_names().items() if not why]
    assert set(FACTS.get(prefix, {})) <= {*usable, *found.library_names()}
    for name in usable:
        attack = found.named_attack(name)
        traits = attack.traits
        if traits.steps == "many" and traits.gradients == "only":
            assert "n_iter" in attack.params.model_fields, name
        if traits.steps != "none":
            assert attack.kind == "bounded" and traits.gradients != "never", name
        if prefix in FACTS:
            assert traits == FACTS[prefix][name].traits, name


def test_natives_that_climb_are_bounded_and_follow_gradients() -> None:
    for name in NATIVE:
        attack = get_attack(name)
        if attack.traits.steps != "none":
            assert attack.kind == "bounded" and attack.traits.gradients != "never"


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("pgd", "pgd"),
        ("torchattacks:PGD", "pgd"),
        ("torchattacks:MIFGSM", "mim"),
        ("torchattacks:EOTPGD", "eotpgd"),
        ("pyautoattack", "autoattack"),
        ("foolbox:LinfPGD", "pgd"),
        ("foolbox:MIFGSM", "mifgsm"),  # it adds up signs of gradients, which MIM does not
        ("advlib:pgd_linf", "pgd"),
        ("art:FastGradientMethod", "fgsm"),
    ],
)
def test_the_family_is_the_native_attack_that_it_stands_for(name: str, family: str) -> None:
    installed(name)
    assert get_attack(name).traits_under({}).family == family


@pytest.mark.parametrize(
    ("name", "params", "needed"),
    [
        ("pgd", {"loss": "dlr"}, 3),
        ("pgd", {"loss": "ce"}, 2),
        ("apgd_t", {}, 4),
        ("autoattack", {"version": "standard"}, 4),
        ("autoattack", {"version": "rand"}, 3),
        ("autoattack", {"version": "custom", "components": ["square"]}, 2),
        ("pyautoattack", {"version": "rand"}, 3),
        ("pyautoattack", {"version": "custom", "attacks_to_run": ["apgd-t"]}, 4),
        ("torchattacks:APGD", {"loss": "dlr"}, 3),
        ("advlib:apgd", {"loss_function": "dlr"}, 3),
        ("natural", {}, 2),
    ],
)
def test_the_classes_that_its_losses_need(name: str, params: dict[str, Any], needed: int) -> None:
    installed(name)
    assert get_attack(name).traits_under(params).min_classes == needed


def info(attack: str, traits: Traits | None = None, **params: Any) -> CellInfo:
    spec = CellSpec(
        checkpoint="model",
        sha256="0" * 64,
        stats=None,
        data=DataSpec(name="toy"),
        data_hash="h",
        threat_model=ThreatModel(eps=0.1),
        attack=attack,
        attack_version=1,
        attack_params=params,
        protocol="white_box",
        batch_size=20,
        n_draws=1,
        seed=0,
    )
    return CellInfo(
        cell_id=spec.cell_id,
        spec=spec,
        complete=True,
        attack_kind="bounded",
        traits=traits,
        cluster="sample",
        seconds=0,
        machine="m",
        versions={},
        date="d",
    )


@pytest.mark.parametrize(
    "name",
    [*NATIVE, "pyautoattack", "torchattacks:PGD", "torchattacks:PGDL2", "torchattacks:SPSA"],
)
def test_a_cell_from_before_traits_were_stored_has_those_of_its_attack(name: str) -> None:
    assert traits_of(info(name)) == get_attack(name).traits_under({})


def test_stored_traits_come_before_those_of_the_name() -> None:
    stored = Traits(family="theirs", steps="one")
    assert traits_of(info("pgd", stored)) == stored
    again = CellInfo.model_validate_json(info("pgd", stored).model_dump_json())
    assert again.traits == stored


def test_an_unknown_attack_of_an_old_store_has_no_traits_but_its_name() -> None:
    assert traits_of(info("somebodys:Attack", loss="dlr")) == Traits(family="attack", min_classes=3)


def test_a_plugin_says_how_it_searches() -> None:
    def run(*_: Any) -> Any:
        raise AssertionError

    theirs = Attack("Mine", 1, "bounded", ("linf",), NoParams, run, "", "")
    assert theirs.traits_under({}) == Traits(family="mine")
    climbing = Attack(
        "mine", 1, "bounded", ("linf",), NoParams, run, "", "", traits=Traits(steps="many")
    )
    assert climbing.traits_under({"loss": "dlr"}).min_classes == 3
