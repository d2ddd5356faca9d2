"""Names and parameters of attacks: what is found, and what a wrong suite is told."""

from __future__ import annotations

import importlib
import subprocess
import sys
from functools import partial

import pytest
import torch

from bench.attacks import Budget, get_attack, parse_params
from bench.attacks.registry import DECLARED
from bench.core.errors import UserError
from bench.oracle import Oracle, QueryRules

LIBRARIES_OF_ATTACKS = {"torch", "torchattacks", "pyautoattack", "foolbox", "adv_lib", "art"}


def imported_by(code: str) -> set[str]:
    """The libraries that a fresh process has imported after some lines."""
    lines = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", lines], check=True, capture_output=True, text=True)
    return LIBRARIES_OF_ATTACKS & set(done.stdout.split())


@pytest.mark.process
def test_registered_attacks_are_listed_and_parsed_without_torch() -> None:
    code = """
from bench.attacks import ATTACKS, get_attack, parse_params
for name in ATTACKS:
    attack = get_attack(name)
    params = parse_params(attack, {})
    assert attack.passes(params) >= 0 and attack.traits_under(params.model_dump()).family
"""
    assert imported_by(code) == set()


@pytest.mark.process
def test_traits_of_stored_cells_and_facts_of_norms_are_known_without_torch() -> None:
    code = """
from bench.alarms import convergence, rules
from bench.attacks.registry import traits_of
from bench.core.ball import NORMS, norm_facts
from bench.report.papers import mismatches
assert all(norm_facts(norm).capital for norm in NORMS)
"""
    assert imported_by(code) == set()


@pytest.mark.parametrize("name", list(DECLARED))
def test_a_declaration_names_its_attack_and_a_function_that_is_there(name: str) -> None:
    attack = get_attack(name)
    run = attack.run.func if isinstance(attack.run, partial) else attack.run
    module, _, function = run.target.partition(":")
    assert attack.name == name and callable(getattr(importlib.import_module(module), function))


def test_natural_returns_the_clean_image_without_asking_the_model() -> None:
    attack, x = get_attack("natural"), torch.rand(3, 1, 4, 4)
    oracle = Oracle(torch.nn.Flatten(), x, 16, QueryRules())
    x_adv = attack.run(oracle, x, torch.zeros(3).long(), Budget("l2", (1.0,)), attack.params(), 0)
    assert attack.kind == "none" and torch.equal(x_adv, x) and x_adv is not x
    assert oracle.passes.forwards.sum() == 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("autoatack", "did you mean 'autoattack'?"),
        ("PGD", "did you mean 'pgd'?"),
        ("torchattacks:pgd", "did you mean 'torchattacks:PGD'?"),
        ("torchattacks:pgdl2", "did you mean 'torchattacks:PGDL2'?"),
        ("torchattacks:MIFGMS", "did you mean 'torchattacks:MIFGSM'?"),
        ("torchattacks:Attack", "unknown attack"),
        ("torchattacks:VANILA", "use 'natural'"),
        ("torchattacks:GN", "neither knows eps nor minimizes"),
        ("torchattacks:MultiAttack", "takes 'attacks' instead of a model"),
        ("torchattacks:LGV", "needs 'trainloader'"),
    ],
)
def test_an_unknown_or_unusable_attack_is_refused(name: str, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        get_attack(name)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("torchattacks:PGD", {"n_itr": 3}, "did you mean 'n_iter'?"),
        ("torchattacks:PGD", {"steps": 3}, "did you mean 'n_iter'?"),
        ("torchattacks:PGD", {"step_size": 3}, "did you mean 'alpha'?"),
        ("torchattacks:PGD", {"eps": 0.1}, "its value comes from the threat model"),
        ("torchattacks:FGSM", {"alpha": 0.1}, "this attack has no parameters"),
        ("torchattacks:PGD", {"n_iter": 0}, "greater than or equal to 1, found 0"),
        ("torchattacks:PGD", {"n_iter": "10"}, "valid integer, found '10'"),
        ("torchattacks:PGD", {"n_iter": True}, "valid integer, found True"),
        ("torchattacks:PGD", {"alpha": "2/0"}, "a fraction such as 8/255, found '2/0'"),
        ("torchattacks:PGD", {"alpha": -0.1}, "greater than 0, found -0.1"),
        ("torchattacks:CW", {"c": "much"}, "expected a number"),
        ("torchattacks:DeepFool", {"overshot": 0.1}, "did you mean 'overshoot'?"),
        ("torchattacks:UPGD", {"losses": "ce"}, "did you mean 'loss'?"),
        ("torchattacks:UPGD", {"random_start": 1}, "valid boolean, found 1"),
        ("torchattacks:APGD", {"seed": 1}, "its value comes from the suite"),
        ("pyautoattack", {"version": "fast"}, "'standard', 'plus', 'rand' or 'custom'"),
        ("pyautoattack", {"version": "custom"}, "'custom' needs attacks_to_run"),
        ("pyautoattack", {"attacks_to_run": ["square"]}, "only 'custom' takes it"),
        ("pyautoattack", {"version": "custom", "attacks_to_run": ["apgd"]}, "'apgd-ce'"),
        ("pyautoattack", {"version": "custom", "attacks_to_run": ["fab", "fab"]}, "twice"),
        ("autoattack", {"version": "fast"}, "'standard', 'plus', 'rand', 'eot' or 'custom'"),
        ("autoattack", {"version": "custom"}, "'custom' needs components"),
        ("autoattack", {"components": ["square"]}, "only 'custom' takes it"),
        ("autoattack", {"version": "custom", "components": ["apgd-ce"]}, "'apgd_ce'"),
        ("autoattack", {"version": "custom", "components": ["fab", "fab"]}, "twice"),
        ("square", {"p_init": 2}, "less than or equal to 1, found 2"),
        ("fab_t", {"eta": 0.5}, "greater than or equal to 1"),
        ("auto", {"n_passes": 20}, "greater than or equal to 50, found 20"),
        ("auto", {"n_targets": 3}, "did you mean 'n_target_classes'?"),
    ],
)
def test_a_wrong_parameter_is_refused_with_its_path(
    name: str, values: dict[str, object], expected: str
) -> None:
    with pytest.raises(UserError) as caught:
        parse_params(get_attack(name), values, where="attacks[2].params")
    assert str(caught.value).startswith("attacks[2].params")
    assert name in str(caught.value) and expected in str(caught.value)


def test_the_path_of_a_wrong_parameter_names_its_key() -> None:
    with pytest.raises(UserError, match=r"^attacks\[0\]\.params\.alpha: "):
        parse_params(get_attack("torchattacks:BIM"), {"alpha": []}, where="attacks[0].params")


def test_numbers_are_read_as_yaml_hands_them_over() -> None:
    params = parse_params(get_attack("torchattacks:PGD"), {"alpha": "2/255", "n_iter": 20})
    assert params.model_dump() == {"n_iter": 20, "alpha": 2 / 255, "random_start": True}
    assert parse_params(get_attack("torchattacks:CW"), {"c": "1e-4"}).model_dump()["c"] == 1e-4
