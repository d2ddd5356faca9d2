"""Attacks of Foolbox, adversarial-library and ART: each against closed forms and its own claims."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.attacks import Budget, get_attack, parse_params
from bench.attacks.registry import LIBRARIES, adapter
from bench.core.errors import UserError
from bench.evaluation.api import evaluate
from bench.oracle import Oracle, QueryRules, frozen

MODULES = {
    "torchattacks": "torchattacks",
    "foolbox": "foolbox",
    "advlib": "adv_lib",
    "art": "art",
}
LISTED = {
    "torchattacks": "TORCHATTACKS",
    "foolbox": "FOOLBOX",
    "advlib": "ADV_LIB",
    "art": "ART",
}
HERE = [prefix for prefix, module in MODULES.items() if importlib.util.find_spec(module)]
WHOLE = {
    "foolbox": ("LinfPGD", "L2PGD", "MIFGSM", "L2DeepFoolAttack", "LInfFMNAttack", "DDNAttack"),
    "advlib": ("alma", "carlini_wagner_l2", "ddn", "fab", "fmn", "pdgd", "pdpgd"),
    "art": ("DeepFool", "FastGradientMethod", "NewtonFool", "ProjectedGradientDescent"),
}
SHORT: dict[str, dict[str, object]] = {
    "advlib:carlini_wagner_l2": {"n_iter": 10, "binary_search_steps": 2},
    "advlib:alma": {"n_iter": 20},
    "advlib:fab": {"n_iter": 5},
    "advlib:pdgd": {"n_iter": 20},
    "advlib:pdpgd": {"n_iter": 20},
}


def installed(name: str) -> None:
    pytest.importorskip(MODULES[name.partition(":")[0]])


def attack(name: str, case: Any, budget: Budget, model: Any = None, **values: object) -> Tensor:
    entry = get_attack(name)
    with frozen(case.model):
        oracle = Oracle(model or case.model, case.x, case.n_classes, QueryRules())
        params = parse_params(entry, values)
        return entry.run(oracle, case.x.clone(), case.y.clone(), budget, params, 3)


@pytest.mark.parametrize(
    "name",
    [
        "foolbox:LinfPGD",
        "foolbox:FGSM",
        "foolbox:LinfBasicIterativeAttack",
        "art:ProjectedGradientDescent",
        "art:FastGradientMethod",
        "art:BasicIterativeMethod",
        "art:MomentumIterativeMethod",
    ],
)
def test_sign_attacks_reach_the_closed_form_of_a_linear_model(
    name: str, linear: Callable[..., Any]
) -> None:
    installed(name)
    case, eps = linear(2), 0.05
    weight = case.model[1].weight
    away = torch.stack([weight[1 - y] - weight[y] for y in case.y]).sign().view_as(case.x)
    loss = nn.CrossEntropyLoss(reduction="none")
    best = loss(case.model(case.x + eps * away), case.y)
    # The 40 steps of LinfPGD do not cross the ball.
    more = {"random_start": False} if name == "foolbox:LinfPGD" else {}
    x_adv = attack(name, case, Budget("linf", (eps,)), **more)
    found = loss(case.model(x_adv), case.y)
    assert bool((found >= 0.95 * best).all()) and bool((found <= 1.001 * best + 1e-5).all())
    assert float((x_adv - case.x).abs().max()) <= eps + 1e-6


def nearest_boundary(case: Any, norm: str) -> Tensor:
    logits, weight = case.model(case.x), case.model[1].weight
    gaps = logits.gather(1, case.y[:, None]) - logits
    slopes = (weight[None] - weight[case.y][:, None]).norm(2 if norm == "l2" else 1, dim=2)
    return torch.as_tensor((gaps / slopes).masked_fill(gaps == 0, float("inf")).amin(1))


@pytest.mark.parametrize(
    ("name", "values"),
    [("advlib:pgd_linf", {"random_init": False}), ("advlib:apgd", {"loss_function": "ce"})],
)
def test_an_attack_that_returns_broken_images_breaks_a_linear_model_where_it_can_be(
    name: str, values: dict[str, Any], linear: Callable[..., Any]
) -> None:
    installed(name)
    case = linear(2)
    eps = 1.1 * float(nearest_boundary(case, "linf").median())
    x_adv = attack(name, case, Budget("linf", (eps,)), **values)
    broken = case.model(x_adv).argmax(1) != case.y
    possible = nearest_boundary(case, "linf") <= eps
    assert torch.equal(broken, possible) and bool(broken.any())


@pytest.mark.parametrize(
    ("name", "norm", "values", "slack"),
    [
        ("foolbox:L2DeepFoolAttack", "l2", {}, 1.03),
        ("foolbox:LinfDeepFoolAttack", "linf", {}, 1.06),
        ("foolbox:LInfFMNAttack", "linf", {}, 1.05),
        ("foolbox:DDNAttack", "l2", {}, 1.2),
        ("advlib:df", "l2", {}, 1.03),
        ("advlib:df", "linf", {}, 1.06),
        ("advlib:fab", "l2", {"n_iter": 10}, 1.03),
        ("advlib:fmn", "linf", {"n_iter": 100}, 1.05),
        ("advlib:sdf", "l2", {}, 1.03),
        ("art:DeepFool", "l2", {}, 1.1),
        ("art:CarliniL2Method", "l2", {"n_iter": 30}, 1.3),
    ],
)
def test_minimum_norm_attacks_find_the_nearest_boundary_of_a_linear_model(
    name: str, norm: str, values: dict[str, Any], slack: float, linear: Callable[..., Any]
) -> None:
    installed(name)
    case = linear(4)
    order, nearest = 2 if norm == "l2" else float("inf"), nearest_boundary(case, norm)
    x_adv = attack(name, case, Budget(norm, (10.0,)), **values)
    found = torch.linalg.vector_norm((x_adv - case.x).flatten(1), order, dim=1)
    assert bool((case.model(x_adv).argmax(1) != case.y).all())
    assert bool((found >= nearest * 0.999).all()) and bool((found <= nearest * slack).all())


@pytest.mark.parametrize(
    "name", [f"{lib}:{name}" for lib, names in WHOLE.items() for name in names]
)
def test_an_attack_that_claims_to_keep_the_batch_passes_it_whole(
    name: str, conv: Callable[..., Any], watch: Any
) -> None:
    installed(name)
    case = conv()
    watched = watch(case.model)
    norm = get_attack(name).norms[0]
    budget = Budget(norm, (0.02 if norm == "linf" else 0.2,))
    attack(name, case, budget, watched, **SHORT.get(name, {}))
    assert get_attack(name).keeps_batch
    assert {len(batch) for batch in watched.batches} == {len(case.x)}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("advlib:df", {}),
        ("advlib:tr", {}),
        ("advlib:sdf", {}),
        ("advlib:apgd_targeted", {"n_iter": 5}),
        ("advlib:pgd_linf", {"n_restarts": 3, "n_iter": 5}),
        ("art:AutoProjectedGradientDescent", {"n_iter": 5}),
        ("art:SquareAttack", {"n_iter": 20}),
    ],
)
def test_an_attack_that_drops_samples_does_not_claim_to_keep_the_batch(
    name: str, values: dict[str, Any], conv: Callable[..., Any], watch: Any
) -> None:
    installed(name)
    case = conv()
    watched = watch(case.model)
    attack(name, case, Budget("linf", (0.02,)), watched, **values)
    assert not get_attack(name).keeps_batch
    assert {len(batch) for batch in watched.batches} > {len(case.x)}


@pytest.mark.parametrize(
    "name", ["foolbox:LinfPGD", "advlib:pgd_linf", "art:SquareAttack", "art:HopSkipJump"]
)
def test_the_seed_alone_decides_and_global_state_stays(name: str, conv: Callable[..., Any]) -> None:
    installed(name)
    case, before = conv(), torch.get_rng_state()
    first = attack(name, case, Budget("linf", (0.02,)), n_iter=3)
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(5)
    assert torch.equal(first, attack(name, case, Budget("linf", (0.02,)), n_iter=3))


@pytest.mark.parametrize(
    ("name", "n_iter", "forwards"),
    [("foolbox:LinfPGD", 7, 8), ("advlib:pgd_linf", 7, 7), ("art:FastGradientMethod", None, 1)],
)
def test_the_oracle_counts_passes(
    name: str, n_iter: int | None, forwards: int, conv: Callable[..., Any]
) -> None:
    installed(name)
    case, entry = conv(), get_attack(name)
    oracle = Oracle(case.model, case.x, 10, QueryRules())
    params = parse_params(entry, {"n_iter": n_iter} if n_iter else {})
    entry.run(oracle, case.x, case.y, Budget("linf", (0.02,)), params, 0)
    assert oracle.passes.forwards.tolist() == [forwards] * len(case.x)
    assert oracle.passes.backwards.tolist() == [n_iter or 1] * len(case.x)


@pytest.mark.parametrize("prefix", HERE)
def test_kinds_norms_and_parameters_agree_with_the_library(prefix: str) -> None:
    names = adapter(prefix).library_names()
    assert len(names) > 15
    for name, why in names.items():
        if why:
            with pytest.raises(UserError, match="cannot be used"):
                get_attack(f"{prefix}:{name}")
            continue
        entry = get_attack(f"{prefix}:{name}")
        library = getattr(importlib.import_module(LIBRARIES[prefix].module), LISTED[prefix])
        found = getattr(library.attacks(name), name)
        takes = {library.words.get(p, p) for p in inspect.signature(found).parameters}
        assert set(entry.params.model_fields) <= takes, name
        assert not {"norm", "targeted", "batch_size", "distance"} & set(entry.params.model_fields)
        if not any(field.is_required() for field in entry.params.model_fields.values()):
            defaults = entry.params()  # a stored cell holds them all, and is read again
            assert parse_params(entry, defaults.model_dump(mode="json")) == defaults, name
        assert set(entry.norms) <= {"linf", "l2"} and entry.version == 1 and entry.library


@pytest.mark.parametrize(
    ("name", "kind", "norms"),
    [
        ("foolbox:LinfPGD", "bounded", ("linf",)),
        ("foolbox:L2PGD", "bounded", ("l2",)),
        ("foolbox:L2CarliniWagnerAttack", "minimum-norm", ("linf", "l2")),
        ("advlib:apgd", "bounded", ("linf", "l2")),
        ("advlib:pgd_linf", "bounded", ("linf",)),
        ("advlib:fmn", "minimum-norm", ("linf", "l2")),
        ("art:ProjectedGradientDescent", "bounded", ("linf", "l2")),
        ("art:BasicIterativeMethod", "bounded", ("linf",)),
        ("art:CarliniL2Method", "minimum-norm", ("linf", "l2")),
    ],
)
def test_the_declared_kind_and_norms(name: str, kind: str, norms: tuple[str, ...]) -> None:
    installed(name)
    entry = get_attack(name)
    assert (entry.kind, entry.norms) == (kind, norms)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("foolbox:LinfPGD", {"n_itre": 3}, "did you mean 'n_iter'?"),
        ("foolbox:LinfPGD", {"steps": 3}, "did you mean 'n_iter'?"),
        ("foolbox:LinfPGD", {"abs_stepsize": 3}, "did you mean 'alpha'?"),
        ("foolbox:LinfPGD", {"eps": 0.1}, "comes from the threat model"),
        ("foolbox:LinfPGD", {"n_iter": "40"}, "valid integer, found '40'"),
        ("foolbox:L2DeepFoolAttack", {"loss": "x"}, "'logits' or 'crossentropy', found 'x'"),
        ("foolbox:VirtualAdversarialAttack", {}, "n_iter"),
        ("advlib:fmn", {"norm": 2}, "comes from the threat model"),
        ("advlib:fmn", {"gama_init": 0.1}, "did you mean 'gamma_init'?"),
        ("art:ProjectedGradientDescent", {"max_iter": 3}, "did you mean 'n_iter'?"),
        ("art:ProjectedGradientDescent", {"eps_step": 3}, "did you mean 'alpha'?"),
        ("art:ProjectedGradientDescent", {"random_eps": 1}, "valid boolean, found 1"),
    ],
)
def test_a_wrong_parameter_is_refused(name: str, values: dict[str, Any], expected: str) -> None:
    installed(name)
    with pytest.raises(UserError) as caught:
        parse_params(get_attack(name), values)
    assert name in str(caught.value) and expected in str(caught.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("foolbox:linfpgd", "did you mean 'foolbox:LinfPGD'?"),
        ("foolbox:L1PGD", "l1; attacks of libraries serve linf or l2"),
        ("foolbox:GenAttack", "targeted attacks only"),
        ("advlib:fnm", "did you mean 'advlib:fmn'?"),
        ("advlib:sigma_zero", "minimizes l0"),
        ("art:ProjectedGradientDecent", "did you mean 'art:ProjectedGradientDescent'?"),
        ("art:Wasserstein", "no ball of linf or l2"),
    ],
)
def test_an_unknown_or_unusable_attack_is_refused(name: str, expected: str) -> None:
    installed(name)
    with pytest.raises(UserError) as caught:
        get_attack(name)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("prefix", "module", "distribution", "install"),
    [
        ("torchattacks", "torchattacks", "torchattacks", "torchattacks"),
        ("foolbox", "foolbox", "foolbox", "rbench[foolbox]"),
        ("advlib", "adv_lib", "adv-lib", "rbench[advlib]"),
        ("art", "art", "adversarial-robustness-toolbox", "rbench[art]"),
    ],
)
def test_a_missing_library_is_said_in_one_line(
    prefix: str, module: str, distribution: str, install: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Absent:
        def find_spec(self, name: str, *_: object) -> None:
            if name.partition(".")[0] == module:
                raise ModuleNotFoundError(f"No module named '{module}'", name=module)

    for known in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, known)
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    with pytest.raises(UserError) as caught:
        get_attack(f"{prefix}:Anything")
    assert str(caught.value) == f"{prefix}:Anything needs {distribution}: pip install {install}"


@pytest.mark.parametrize("name", ["foolbox:LinfPGD", "advlib:fmn", "art:ProjectedGradientDescent"])
def test_a_stochastic_model_is_served_with_eot_and_fresh_draws(
    name: str, conv: Callable[..., Any]
) -> None:
    installed(name)

    class Noisy(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor) -> Tensor:
            return torch.as_tensor(self.model(x + 0.01 * torch.randn_like(x)))

    case = conv()
    found = evaluate(
        Noisy(case.model),
        case.x,
        case.y,
        "linf:0.02",
        [{"attack": name, "params": {"n_iter": 3}, "label": "a"}],
        stochastic=True,
        batch_dependent=False,
        probe=False,
        eot_iter=2,
        n_draws=3,
    )
    info = found["a"].info
    assert info.complete and info.spec.n_draws == 3
    assert found["a"].rows[0].backwards == 6  # three steps on two draws each
    assert info.versions[get_attack(name).library][0].isdigit()


@pytest.mark.parametrize("name", ["advlib:df", "art:SquareAttack"])
def test_a_dropping_attack_is_refused_on_a_batch_dependent_model(
    name: str, conv: Callable[..., Any]
) -> None:
    installed(name)
    case = conv()
    with pytest.raises(UserError, match="drops samples"):
        evaluate(
            case.model, case.x, case.y, "linf:0.02", [name],
            stochastic=False, batch_dependent=True, probe=False,
        )  # fmt: skip
