"""Native minimum-norm attacks: known distances, the edges of the box, draws, coupled batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchattacks
from scipy.optimize import brentq, linprog
from torch import Tensor, nn

from bench import evaluate
from bench.attacks import Budget, get_attack, parse_params
from bench.core.cell import DataSpec
from bench.core.norm_spec import NormSpec
from bench.data.slice import take_slice
from bench.norms import norm_factory
from bench.norms.batch import BatchNorm
from bench.oracle import Oracle, QueryRules
from bench.zoo import open_checkpoint

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"
PLAIN = QueryRules()
ATTACKS: list[tuple[str, str, dict[str, object]]] = [
    ("deepfool", "l2", {}),
    ("deepfool", "linf", {}),
    ("cw", "l2", {"c": 0.1, "binary_search_steps": 4}),
]
QUICK: dict[str, dict[str, object]] = {
    "cw": {"n_iter": 50, "c": 0.1, "binary_search_steps": 3},
    "deepfool": {},
}


def attack(
    name: str, case: Any, budget: Budget, rules: QueryRules = PLAIN, **values: object
) -> Tensor:
    entry = get_attack(name)
    oracle = Oracle(case.model, case.x, case.n_classes, rules)
    return entry.run(oracle, case.x, case.y, budget, parse_params(entry, values), 0)


def distance(x_adv: Tensor, x: Tensor, norm: str) -> Tensor:
    order = {"linf": float("inf"), "l2": 2.0}[norm]
    return torch.linalg.vector_norm((x_adv - x).flatten(1), order, dim=1)


def test_deepfool_finds_the_l1_distance_of_a_linear_model_in_the_box(
    linear: Callable[..., Any],
) -> None:
    case = linear(2, b=12, size=3)
    generator = torch.Generator().manual_seed(0)
    case.x[:] = torch.rand(case.x.shape, generator=generator).mul(1.4).sub(0.2).clamp(0, 1)
    case.y[:] = case.model(case.x).argmax(1)
    found = (attack("deepfool", case, Budget("l1", (9.0,))) - case.x).abs().flatten(1).sum(1)
    weight = case.model[1].weight.detach().double().numpy()
    checked = 0
    for i, y in enumerate(case.y.tolist()):
        x, slope = case.x[i].flatten().double().numpy(), weight[1 - y] - weight[y]
        z = case.model(case.x[i : i + 1])[0].detach().double()
        best = linprog(
            np.ones(18),
            A_ub=-np.r_[slope, -slope][None],
            b_ub=[-float(z[y] - z[1 - y])],
            bounds=[(0, 1 - v) for v in x] + [(0, v) for v in x],
        )
        if best.success:
            checked += 1
            assert best.fun - 1e-5 <= float(found[i]) <= 1.05 * best.fun + 1e-3
    assert checked > 5


def wrong(case: Any, x_adv: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = case.model(x_adv).argmax(1) != case.y
    return found


def nearest(case: Any, norm: str, scale: Tensor | None = None) -> Tensor:
    """The distance of each image to the boundary of a linear model inside the box, in float64.

    The perturbation is t * direction cut to the box, for the t at which a class draws level.
    """
    layer = case.model[1]
    weight, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
    x, y = case.x.flatten(1).double().numpy(), case.y.numpy()
    unit = np.ones(x.shape[1]) if scale is None else scale.double().numpy()
    out = []
    for image, label in zip(x, y, strict=True):
        found = [np.inf]
        for k in set(range(len(bias))) - {label}:
            w, gap = weight[k] - weight[label], bias[k] - bias[label]
            along = w if norm == "l2" else np.sign(w) * unit

            def cut(t: float, image: Any = image, along: Any = along) -> Any:
                return np.clip(image + t * along, 0, 1)

            def lead(t: float, w: Any = w, gap: Any = gap, cut: Any = cut) -> float:
                return float(w @ cut(t) + gap)

            if lead(1e3) > 0:
                t = brentq(lead, 0, 1e3)
                delta = cut(t) - image
                found.append(np.linalg.norm(delta) if norm == "l2" else (abs(delta) / unit).max())
        out.append(min(found))
    return torch.tensor(out)


def edged(case: Any, share: float) -> Any:
    """The same linear model on images of which a share of pixels is exactly 0 or 1."""
    generator = torch.Generator().manual_seed(7)
    draw = torch.rand(case.x.shape, generator=generator)
    x = torch.where(draw < share, (draw < 0.8 * share).logical_not().float(), case.x)
    with torch.no_grad():
        y = case.model(x).argmax(1)
    return type(case)(case.model, x, y, case.n_classes)


@pytest.mark.parametrize("n_classes", [2, 3, 10])
@pytest.mark.parametrize(("name", "norm", "values"), ATTACKS)
def test_the_distance_to_a_linear_boundary_is_the_known_one(
    name: str, norm: str, values: dict[str, object], n_classes: int, linear: Callable[..., Any]
) -> None:
    case = linear(n_classes)
    x_adv = attack(name, case, Budget(norm, (0.5,)), **values)
    best, found = nearest(case, norm), distance(x_adv, case.x, norm)
    assert bool(wrong(case, x_adv).all())
    assert bool((found > 0.999 * best).all())
    assert bool((found < 1.05 * best + 3e-4).all())  # where the boundary is almost at the image


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("name", "norm", "values"), ATTACKS)
def test_the_nearest_point_is_found_along_the_edges_of_the_box(
    name: str, norm: str, values: dict[str, object], channels: int, linear: Callable[..., Any]
) -> None:
    # CW heads for the strongest other class, which need not be the nearest, so it gets one only.
    case = edged(linear(2 if name == "cw" else 4, channels=channels), 0.7)
    x_adv = attack(name, case, Budget(norm, (0.5,)), **values)
    best, found = nearest(case, norm), distance(x_adv, case.x, norm)
    assert float(x_adv.min()) >= 0 and float(x_adv.max()) <= 1
    assert bool(wrong(case, x_adv).all())
    assert bool((found > 0.999 * best).all()) and bool((found < 1.05 * best + 3e-4).all())


def test_cw_with_its_defaults_comes_near(linear: Callable[..., Any]) -> None:
    case = edged(linear(10), 0.5)
    x_adv = attack("cw", case, Budget("l2", (0.5,)))
    assert bool(wrong(case, x_adv).all())
    excess = distance(x_adv, case.x, "l2") / nearest(case, "l2")
    assert float(excess.median()) < 1.1
    assert float((x_adv != case.x)[(case.x == 0) | (case.x == 1)].float().mean()) > 0.2


def test_deepfool_counts_each_channel_in_units_of_its_radius(linear: Callable[..., Any]) -> None:
    case = edged(linear(4, channels=3), 0.3)
    x_adv = attack("deepfool", case, Budget("linf", (0.01, 0.04, 0.02)))
    scale = torch.tensor([0.25, 1.0, 0.5]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    found = ((x_adv - case.x).abs() / scale).flatten(1).amax(1)
    best = nearest(case, "linf", scale.flatten())
    assert bool(wrong(case, x_adv).all())
    assert bool((found > 0.999 * best).all()) and bool((found < 1.03 * best + 3e-4).all())


@pytest.fixture(scope="module")
def dark() -> tuple[nn.Module, Tensor, Tensor]:
    """A conv net trained on blobs before a background of exactly 0, with images it gets right."""
    generator = torch.Generator().manual_seed(0)
    prototypes = torch.rand(5, 1, 12, 12, generator=generator)
    prototypes *= torch.rand(prototypes.shape, generator=generator) < 0.35
    y = torch.arange(300) % 5
    noise = 0.25 * torch.randn(300, 1, 12, 12, generator=generator)
    x = ((prototypes[y] + noise).clamp(0, 1) * (prototypes[y] > 0)).contiguous()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 8, 3, 1, 1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, 1, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16 * 36, 5),
        )
    weights = list(model.parameters())
    for _ in range(60):  # plain gradient descent: importing torch.optim's own takes seconds
        loss = nn.functional.cross_entropy(model(x), y)
        for weight, grad in zip(weights, torch.autograd.grad(loss, weights), strict=True):
            weight.data -= 0.1 * grad
    model.eval().requires_grad_(False)
    right = (model(x).argmax(1) == y).nonzero()[:40, 0]
    return model, x[right], y[right]


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_deepfool_crosses_the_boundary_where_clipped_steps_stall(
    norm: str, dark: tuple[nn.Module, Tensor, Tensor], conv: Callable[..., Any]
) -> None:
    model, x, y = dark
    case = type(conv())(model, x, y, 5)
    assert len(x) == 40 and float((x == 0).float().mean()) > 0.5
    x_adv = attack("deepfool", case, Budget(norm, (0.5,)))
    assert float(x_adv.min()) >= 0 and float(x_adv.max()) <= 1
    assert float(wrong(case, x_adv).float().mean()) >= 0.95
    library = torchattacks.DeepFool(model)(x[:10], y[:10])
    assert float((model(library).argmax(1) != y[:10]).float().mean()) <= 0.7


@pytest.mark.process
def test_deepfool_keeps_images_of_an_adversarially_trained_network_near() -> None:
    """Where boundaries are far off in the box, a step to them would lose the image."""
    model = open_checkpoint(CHECKPOINTS / "fmnist-resnet20-bn-at").load()
    data = take_slice(DataSpec(name="fashion-mnist", limit=30, seed=0, stratified=True))
    x, y = torch.from_numpy(data.x), torch.from_numpy(data.y)
    attacks = ["deepfool", "torchattacks:DeepFool"]
    result = evaluate(model, x, y, "l2:1.5", attacks, sentinel=False)
    ours, theirs = result["deepfool"].rows, result["DeepFool"].rows
    both = [
        (a.l2, b.l2)
        for a, b in zip(ours, theirs, strict=True)
        if a.clean_correct and not a.adv_correct and not b.adv_correct
    ]
    assert len(both) >= 10
    a, b = np.median(both, axis=0)
    assert a < 1.5 * b, f"median l2 {a:.2f}, torchattacks {b:.2f}"
    missed = [sum(r.adv_correct or 0 for r in rows) for rows in (ours, theirs)]
    assert missed[0] <= missed[1]


def test_cw_and_deepfool_agree_on_a_conv_net(
    dark: tuple[nn.Module, Tensor, Tensor], conv: Callable[..., Any]
) -> None:
    model, x, y = dark
    case = type(conv())(model, x[:6], y[:6], 5)
    values: dict[str, dict[str, object]] = {
        "deepfool": {},
        "cw": {"c": 1, "binary_search_steps": 3},
    }
    found = {name: attack(name, case, Budget("l2", (1.0,)), **values[name]) for name in values}
    assert all(bool(wrong(case, x_adv).all()) for x_adv in found.values())
    sizes = {name: distance(x_adv, case.x, "l2") for name, x_adv in found.items()}
    # DeepFool's greedy steps end a little farther away than the minimum that CW searches for.
    assert 0.7 < float((sizes["cw"] / sizes["deepfool"]).median()) < 1.1


@pytest.mark.parametrize("name", ["cw", "deepfool"])
def test_images_that_are_wrong_already_or_cannot_be_broken_are_returned_as_they_are(
    name: str, conv: Callable[..., Any]
) -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([0 * x.mean((1, 2, 3)) + k for k in (0.5, 1.0, 0.2)], 1)

    x = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    case = type(conv())(Constant(), x, torch.tensor([1, 0]), 3)
    for norm in ("l2", "linf"):
        x_adv = attack(name, case, Budget(norm, (0.1,)), n_iter=3)
        assert torch.equal(x_adv, x) and x_adv is not x


@pytest.mark.parametrize("shift", [-200.0, 0.0, 200.0])
def test_cw_does_not_depend_on_a_common_shift_of_the_logits(
    shift: float, linear: Callable[..., Any]
) -> None:
    case = linear(4)
    with torch.no_grad():
        case.model[1].bias.fill_(shift)
    x_adv = attack("cw", case, Budget("l2", (0.5,)), n_iter=60)
    assert bool(wrong(case, x_adv).all())
    assert float(distance(x_adv, case.x, "l2").max()) < 1.5


def test_cw_reaches_the_confidence_asked_for(linear: Callable[..., Any]) -> None:
    case = linear(4)
    budget = Budget("l2", (0.5,))
    plain, sure = (attack("cw", case, budget, kappa=k, **QUICK["cw"]) for k in (0, 3))
    with torch.no_grad():
        logits = case.model(sure)
    own = logits.gather(1, case.y[:, None])
    others = logits.scatter(1, case.y[:, None], -torch.inf).amax(1, keepdim=True)
    assert bool((others - own >= 3).all()) and float((others - own).median()) < 4
    assert bool((distance(sure, case.x, "l2") > distance(plain, case.x, "l2")).all())


def test_a_longer_search_for_c_never_ends_farther_away(linear: Callable[..., Any]) -> None:
    case = linear(4)
    found = []
    for n in (1, 3, 6):
        x_adv = attack("cw", case, Budget("l2", (0.5,)), binary_search_steps=n, n_iter=50)
        found.append(distance(x_adv, case.x, "l2").masked_fill(~wrong(case, x_adv), torch.inf))
    assert bool(found[0].isinf().any()) and bool(found[2].isfinite().all())
    assert bool((found[1] <= found[0]).all()) and bool((found[2] <= found[1]).all())
    assert bool((found[2] < found[1]).any())


@pytest.mark.parametrize(("name", "norm", "values"), ATTACKS)
def test_an_image_is_attacked_alike_in_any_batch(
    name: str, norm: str, values: dict[str, object], linear: Callable[..., Any]
) -> None:
    case = edged(linear(4), 0.4)
    values = {**QUICK[name], "n_iter": 20}
    together = attack(name, case, Budget(norm, (0.1,)), **values)
    for i in range(len(case.x)):
        alone = type(case)(case.model, case.x[i : i + 1], case.y[i : i + 1], case.n_classes)
        x_adv = attack(name, alone, Budget(norm, (0.1,)), **values)
        assert torch.allclose(x_adv[0], together[i], atol=1e-4)


def test_passes_are_counted_where_they_are_spent(linear: Callable[..., Any]) -> None:
    case = linear(4)
    case.y[0] = (case.y[0] + 1) % 4  # wrong already
    entry = get_attack("cw")
    params = parse_params(entry, {"n_iter": 7, "binary_search_steps": 3})
    oracle = Oracle(case.model, case.x, 4, QueryRules())
    entry.run(oracle, case.x, case.y, Budget("l2", (0.5,)), params, 0)
    assert oracle.passes.forwards.tolist() == [1] + [22] * 7
    assert oracle.passes.backwards.tolist() == [0] + [21] * 7
    assert entry.passes is not None and entry.passes(params) == 43
    entry = get_attack("deepfool")
    oracle = Oracle(case.model, case.x, 4, QueryRules())
    entry.run(oracle, case.x, case.y, Budget("l2", (0.5,)), parse_params(entry, {}), 0)
    # One step: look, linearize (a backward pass per class), look again.
    assert oracle.passes.forwards.tolist() == [1] + [3] * 7
    assert oracle.passes.backwards.tolist() == [0] + [4] * 7


@pytest.mark.process
@pytest.mark.parametrize(("name", "norm"), [("cw", "l2"), ("deepfool", "l2"), ("deepfool", "linf")])
def test_most_draws_of_a_stochastic_model_end_up_wrong(
    name: str, norm: str, conv: Callable[..., Any]
) -> None:
    generator = torch.Generator().manual_seed(3)
    pool = [{"name": "bn"}, {"name": "gn", "groups": 2}, {"name": "in"}]
    layer = norm_factory(NormSpec.model_validate({"name": "rna", "pool": pool}))(4)
    head = nn.Linear(64, 3)
    with torch.no_grad():
        head.weight.copy_(torch.randn(head.weight.shape, generator=generator))
        for branch in layer.branches:
            branch.weight.copy_(0.5 + torch.rand(4, generator=generator))
    model = nn.Sequential(layer, nn.Flatten(), head).eval()
    x = 0.2 + 0.6 * torch.rand(200, 4, 4, 4, generator=generator)

    def answers(images: Tensor) -> Tensor:
        rows = []
        for path in range(3):
            layer.paths.pinned = torch.tensor([path])
            rows.append(model(images).argmax(1))
        layer.paths.pinned = None
        return torch.stack(rows)

    clean = answers(x)
    agreed = (clean == clean[0]).all(0).nonzero()[:12, 0]
    case = type(conv())(model, x[agreed], clean[0][agreed], 3)
    rules = QueryRules(stochastic=True, eot_iter=16, seed=1)
    x_adv = attack(name, case, Budget(norm, (0.5,)), rules, **QUICK[name])
    assert torch.equal(attack(name, case, Budget(norm, (0.5,)), rules, **QUICK[name]), x_adv)
    right = (answers(x_adv) == case.y).float().mean(0)
    # One broken path of three looks like half the draws now and then; kept for good, it is 2/3.
    assert float(right.mean()) < 0.55
    assert float(distance(x_adv, case.x, norm).max()) < (2.0 if norm == "l2" else 0.5)


@pytest.mark.parametrize(("name", "norm"), [("cw", "l2"), ("deepfool", "l2"), ("deepfool", "linf")])
def test_images_that_share_statistics_are_kept_as_a_batch_that_was_evaluated(
    name: str, norm: str, conv: Callable[..., Any], watch: Any
) -> None:
    case = conv(b=6)
    layer = BatchNorm(8, stats="batch")
    layer.load_state_dict(case.model[1].state_dict())
    case.model[1] = layer.eval()
    model = watch(case.model)
    with torch.no_grad():
        y = case.model(case.x).argmax(1)
    case = type(case)(model, case.x, y, 10)
    x_adv = attack(
        name, case, Budget(norm, (0.5,)), QueryRules(batch_dependent=True), **QUICK[name]
    )
    assert all(batch.shape == case.x.shape for batch in model.batches)
    assert any(torch.equal(x_adv, batch) for batch in model.batches)
    assert float(wrong(case, x_adv).float().mean()) > 0.8
    assert float(x_adv.min()) >= 0 and float(x_adv.max()) <= 1


@pytest.mark.parametrize("name", ["cw", "deepfool"])
def test_no_global_random_state_is_touched(name: str, conv: Callable[..., Any]) -> None:
    case = conv()
    state, x, y = torch.get_rng_state(), case.x.clone(), case.y.clone()
    attack(name, case, Budget("l2", (0.5,)), n_iter=5)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(case.x, x) and torch.equal(case.y, y)
