"""The torchattacks adapter: against the library itself, and against closed forms."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torchattacks
from torch import Tensor, nn

from bench.attacks import Budget, get_attack, parse_params
from bench.attacks.adapters.torchattacks import THREE_CHANNELS, library_names, named_attack
from bench.core.errors import UserError
from bench.oracle import Oracle, QueryRules, frozen

USABLE = [name for name, reason in library_names().items() if not reason]
TYPED = ("FGSM", "BIM", "PGD", "MIFGSM", "CW", "DeepFool")
FAST: dict[str, dict[str, object]] = {
    "CW": {"n_iter": 10},
    "EADEN": {"n_iter": 10, "binary_search_steps": 3},
    "EADL1": {"n_iter": 10, "binary_search_steps": 3},
    "SPSA": {"nb_sample": 8, "max_batch_size": 4},
    "Square": {"n_queries": 50},
    "FAB": {"n_iter": 3},
    "AutoAttack": {"version": "rand"},
    "OnePixel": {"n_iter": 3},
    "Pixle": {"n_restarts": 3, "n_iter": 3},
}
TABLE = [(name, norm) for name in USABLE for norm in get_attack(f"torchattacks:{name}").norms]


def attack(name: str, case: Any, budget: Budget, seed: int = 3, **values: object) -> Tensor:
    entry = get_attack(f"torchattacks:{name}")
    params = parse_params(entry, values)
    with frozen(case.model):
        oracle = Oracle(case.model, case.x, case.n_classes, QueryRules())
        return entry.run(oracle, case.x, case.y, budget, params, seed)


def bounded(name: str) -> bool:
    return get_attack(f"torchattacks:{name}").kind == "bounded"


def distance(x_adv: Tensor, x: Tensor, norm: str) -> Tensor:
    order = {"linf": float("inf"), "l2": 2.0}[norm]
    return torch.linalg.vector_norm((x_adv - x).flatten(1), order, dim=1)


def budget_of(norm: str) -> Budget:
    return Budget(norm, (0.02 if norm == "linf" else 0.2,))


def global_state() -> tuple[bytes, ...]:
    numpy_state: Any = np.random.get_state()
    return (
        torch.get_rng_state().numpy().tobytes(),
        numpy_state[1].tobytes() + str(numpy_state[2:]).encode(),
        str(random.getstate()).encode(),
    )


@pytest.mark.parametrize(("name", "norm"), TABLE)
def test_x_adv_is_reproducible_and_inside_ball_and_box(
    name: str, norm: str, conv: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    case = conv()
    before = global_state()
    x_adv = attack(name, case, budget_of(norm), **FAST.get(name, {}))
    assert global_state() == before
    torch.rand(5), np.random.rand(5), random.random()
    assert torch.equal(attack(name, case, budget_of(norm), **FAST.get(name, {})), x_adv)
    assert x_adv.shape == case.x.shape and not x_adv.requires_grad
    assert float(x_adv.min()) >= 0 and float(x_adv.max()) <= 1
    if bounded(name):
        assert float(distance(x_adv, case.x, norm).max()) <= budget_of(norm).eps[0] + 1e-6
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", USABLE)
def test_modes_buffers_and_gradients_of_the_model_stay(name: str, conv: Callable[..., Any]) -> None:
    case = conv()
    modes = [module.training for module in case.model.modules()]
    state = {k: v.clone() for k, v in case.model.state_dict().items()}
    x, y = case.x.clone(), case.y.clone()
    norm = get_attack(f"torchattacks:{name}").norms[0]
    attack(name, case, budget_of(norm), **FAST.get(name, {}))
    assert [module.training for module in case.model.modules()] == modes
    assert all(torch.equal(v, state[k]) for k, v in case.model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in case.model.parameters())
    assert torch.equal(case.x, x) and torch.equal(case.y, y)


@pytest.mark.parametrize("name", USABLE)
def test_the_claim_to_keep_the_batch_is_true(
    name: str, conv: Callable[..., Any], watch: Any
) -> None:
    entry, case = get_attack(f"torchattacks:{name}"), conv()
    watched = watch(case.model)
    params = parse_params(entry, FAST.get(name, {}))
    with frozen(case.model):
        budget = budget_of(entry.norms[0])
        entry.run(Oracle(watched, case.x, 10, QueryRules()), case.x, case.y, budget, params, 3)
    means = [batch.mean((1, 2, 3)) for batch in watched.batches]
    # The images' means rise, and neither the perturbation nor a common rescaling changes that.
    kept = all(len(m) == len(case.x) and bool((m.diff() > 0).all()) for m in means)
    assert means
    assert entry.keeps_batch == kept


DIRECT: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("FGSM", "linf", {}, {}),
    ("BIM", "linf", {"n_iter": 5, "alpha": 0.01}, {"steps": 5, "alpha": 0.01}),
    ("PGD", "linf", {"n_iter": 5}, {"steps": 5, "alpha": 0.02 / 4}),
    ("PGD", "linf", {"random_start": False}, {"alpha": 0.02 / 4, "random_start": False}),
    ("MIFGSM", "linf", {"n_iter": 5, "decay": 0.9}, {"steps": 5, "alpha": 0.02 / 4, "decay": 0.9}),
    ("CW", "l2", {"c": 2, "n_iter": 20, "lr": 0.02}, {"c": 2, "steps": 20, "lr": 0.02}),
    ("CW", "linf", {"kappa": 1}, {"kappa": 1}),
    ("DeepFool", "l2", {"n_iter": 5, "overshoot": 0.1}, {"steps": 5, "overshoot": 0.1}),
    ("PGDL2", "l2", {"n_iter": 5}, {"eps": 0.2, "alpha": 0.2 * 0.2, "steps": 5}),
    ("APGD", "l2", {"n_iter": 5}, {"norm": "L2", "eps": 0.2, "steps": 5, "seed": 3}),
    ("APGDT", "linf", {}, {"norm": "Linf", "seed": 3, "n_classes": 10}),
    ("PIFGSM", "linf", {"n_iter": 4}, {"max_epsilon": 0.02, "num_iter_set": 4}),
    ("DIFGSM", "linf", {"alpha": 0.01}, {"alpha": 0.01}),
    ("Pixle", "l2", {"n_restarts": 2, "n_iter": 2}, {"restarts": 2, "max_iterations": 2}),
]


@pytest.mark.parametrize(("name", "norm", "ours", "theirs"), DIRECT)
def test_the_adapter_agrees_bitwise_with_the_library(
    name: str, norm: str, ours: dict[str, Any], theirs: dict[str, Any], conv: Callable[..., Any]
) -> None:
    case = conv()
    x_adv = attack(name, case, budget_of(norm), **ours)
    if bounded(name) and "max_epsilon" not in theirs:
        theirs = {"eps": budget_of(norm).eps[0]} | theirs
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        np.random.seed(3)
        direct = getattr(torchattacks, name)(case.model, **theirs)(case.x, case.y)
    assert torch.equal(x_adv, direct)
    assert not torch.equal(x_adv, case.x)


@pytest.mark.parametrize("name", TYPED)
def test_typed_parameters_match_the_constructor(name: str) -> None:
    typed = parse_params(get_attack(f"torchattacks:{name}"), {})
    assert typed.model_dump() == named_attack(name).params().model_dump()


@pytest.mark.parametrize("name", ["FGSM", "BIM", "PGD", "MIFGSM"])
def test_sign_attacks_reach_the_closed_form_of_a_linear_model(
    name: str, linear: Callable[..., Any]
) -> None:
    case, eps = linear(2), 0.05
    weight = case.model[1].weight
    away = torch.stack([weight[1 - y] - weight[y] for y in case.y]).sign().view_as(case.x)
    loss = nn.CrossEntropyLoss(reduction="none")
    best = loss(case.model(case.x + eps * away), case.y)
    found = loss(case.model(attack(name, case, Budget("linf", (eps,)))), case.y)
    assert bool((found >= 0.95 * best).all()) and bool((found <= 1.001 * best).all())


@pytest.mark.parametrize(
    ("name", "values", "slack"),
    [("DeepFool", {}, 1.03), ("CW", {"n_iter": 200, "lr": 0.005}, 1.05)],
)
def test_minimum_norm_attacks_find_the_nearest_boundary_of_a_linear_model(
    name: str, values: dict[str, Any], slack: float, linear: Callable[..., Any]
) -> None:
    case = linear(4)
    logits, weight = case.model(case.x), case.model[1].weight
    gaps = logits.gather(1, case.y[:, None]) - logits
    slopes = (weight[None] - weight[case.y][:, None]).norm(dim=2)
    nearest = (gaps / slopes).masked_fill(gaps == 0, float("inf")).amin(1)
    x_adv = attack(name, case, Budget("linf", (0.01,)), **values)
    found = distance(x_adv, case.x, "l2")
    assert bool((case.model(x_adv).argmax(1) != case.y).all())
    assert bool((found >= nearest * 0.999).all())
    assert bool((found <= nearest * slack + 0.003).all())  # CW's last step has a size of its own


def test_deepfool_leaves_a_misclassified_image_alone(conv: Callable[..., Any]) -> None:
    case = conv()
    x_adv = attack("DeepFool", case, budget_of("l2"))
    assert torch.equal(x_adv[-1], case.x[-1]) and not torch.equal(x_adv[0], case.x[0])


@pytest.mark.parametrize(
    ("name", "values", "each"),
    [("FGSM", {}, 1), ("BIM", {"n_iter": 4}, 4), ("PGD", {"n_iter": 7}, 7), ("MIFGSM", {}, 10)],
)
def test_the_oracle_counts_the_known_passes(
    name: str, values: dict[str, Any], each: int, conv: Callable[..., Any]
) -> None:
    case, entry = conv(), get_attack(f"torchattacks:{name}")
    oracle, params = Oracle(case.model, case.x, 10, QueryRules()), parse_params(entry, values)
    entry.run(oracle, case.x, case.y, budget_of("linf"), params, 0)
    expected = [each] * len(case.x)
    assert oracle.passes.forwards.tolist() == oracle.passes.backwards.tolist() == expected
    assert entry.passes is not None and entry.passes(params) == 2 * each


def test_the_kinds_follow_whether_a_class_knows_eps() -> None:
    for name in USABLE:
        entry = get_attack(f"torchattacks:{name}")
        takes = set(torchattacks.__dict__[name].__init__.__code__.co_varnames)
        assert (entry.kind == "bounded") == bool(takes & {"eps", "max_epsilon"}), name
    assert get_attack("torchattacks:PGDL2").norms == ("l2",)
    assert get_attack("torchattacks:UPGD").norms == ("linf",)
    assert get_attack("torchattacks:FAB").norms == ("linf", "l2")


def test_a_radius_per_channel_is_refused_where_the_library_takes_one(
    conv: Callable[..., Any],
) -> None:
    case, budget = conv(), Budget("linf", (0.02, 0.02, 0.03))
    for name in ("FGSM", "PGD", "APGD"):
        with pytest.raises(UserError, match="needs a native attack"):
            attack(name, case, budget)
    assert attack("DeepFool", case, budget).shape == case.x.shape


def test_equal_radii_per_channel_are_one_radius(conv: Callable[..., Any]) -> None:
    case = conv()
    same = attack("FGSM", case, Budget("linf", (0.02, 0.02, 0.02)))
    assert torch.equal(same, attack("FGSM", case, Budget("linf", (0.02,))))


@pytest.mark.parametrize("name", sorted(THREE_CHANNELS))
def test_gray_images_are_refused_by_attacks_made_for_colour(
    name: str, conv: Callable[..., Any]
) -> None:
    with pytest.raises(UserError, match="needs images of 3 channels, found 1"):
        attack(name, conv(channels=1), budget_of("linf"))


@pytest.mark.parametrize("name", ["APGDT", "JSMA", "AutoAttack"])
def test_too_few_classes_are_refused(name: str, conv: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match="classes, the model has 3"):
        attack(name, conv(n_classes=3), budget_of("linf"))


def test_parameters_that_the_library_refuses_are_a_user_error(conv: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match=r"torchattacks:Pixle.* pixel_mapping must be"):
        attack("Pixle", conv(), budget_of("l2"), pixel_mapping="zigzag")


def test_channels_last_images_are_attacked_alike(conv: Callable[..., Any]) -> None:
    case = conv()
    plain = attack("PGDL2", case, budget_of("l2"))
    last = case.x.contiguous(memory_format=torch.channels_last)
    entry = get_attack("torchattacks:PGDL2")
    oracle = Oracle(case.model, case.x, 10, QueryRules())
    x_adv = entry.run(oracle, last, case.y, budget_of("l2"), parse_params(entry, {}), 3)
    assert torch.equal(x_adv, plain)
