"""A cell under planted attacks: what misbehaves never counts for or against robustness."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.attacks import ATTACKS
from bench.attacks.base import Attack
from bench.core.cell import CellSpec, DataSpec, Surrogate
from bench.core.model_spec import ModelSpec
from bench.core.spec import Spec
from bench.core.threat import ThreatModel
from bench.data.slice import Slice
from bench.evaluation.cell import run_cell
from bench.evaluation.model import Target
from bench.metrics import robust_accuracy
from bench.models import Classifier
from bench.norms import find_paths, replace_norms
from bench.oracle import LOSSES, Oracle


class NoParams(Spec):
    """No parameters."""


@contextmanager
def planted(run: Callable[..., Tensor], **fields: object) -> Iterator[str]:
    """Registers an attack for the time of a test."""
    name = "planted"
    entry = {"kind": "bounded", "norms": ("linf", "l2"), "params": NoParams} | fields
    ATTACKS.add(name, Attack(name=name, version=1, run=run, summary="", url="", **entry))
    try:
        yield name
    finally:
        ATTACKS.remove(name)


def tiny_model(norm: object = "bn", seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    spec = ModelSpec(
        arch="resnet20", norm=norm, channels=1, size=8, classes=3, mean=(0.5,), std=(0.5,)
    )
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
    )
    replace_norms(net, spec.norm)
    return Classifier(spec, net).eval()


def data_slice(n: int = 10) -> Slice:
    rng = np.random.default_rng(0)
    x = 0.05 + 0.6 * rng.random((n, 1, 8, 8), dtype=np.float32)
    return Slice(x, rng.integers(0, 3, n), np.arange(100, 100 + n), "0" * 64)


def cell(attack: str, **changes: object) -> CellSpec:
    fields = {
        "checkpoint": "tiny",
        "sha256": "0" * 64,
        "stats": None,
        "data": DataSpec(name="made"),
        "data_hash": "0" * 64,
        "threat_model": ThreatModel(eps=0.1),
        "attack": attack,
        "attack_version": 1,
        "attack_params": {},
        "protocol": "white_box",
        "batch_size": 4,
        "n_draws": 1,
        "seed": 0,
    }
    return CellSpec(**(fields | changes))


def test_rows_follow_the_slice_and_count_passes() -> None:
    def two_steps(oracle, x, y, *_):
        view = oracle.module()
        x_adv = x.clone().requires_grad_()
        (grad,) = torch.autograd.grad(view(x_adv).sum(), x_adv)
        view(x)
        return (x + 0.01 * grad.sign()).clamp(0, 1)

    with planted(two_steps) as name:
        info, rows = run_cell(cell(name), Target.of(tiny_model()), data_slice())
    assert info.complete and info.cell_id == info.spec.cell_id and info.cluster == "sample"
    assert [r.index for r in rows] == list(range(100, 110))
    assert [r.batch for r in rows] == [0] * 4 + [1] * 4 + [2] * 2
    assert {(r.forwards, r.backwards) for r in rows} == {(2.0, 1.0)}


def model_of(oracle: Oracle) -> Any:
    """Returns the model, which an attack has no business to know."""
    return oracle._runner._model


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda o, x, *_: x + 0.2, "out of ball"),
        (lambda o, x, *_: x - 0.1, "out of box"),
        (lambda o, x, *_: x * float("nan"), "not finite"),
        (lambda o, x, *_: 1 / 0, "ZeroDivisionError"),
        (lambda o, x, *_: None, "NoneType"),
        (lambda o, x, *_: x[:1], "shape"),
        (lambda o, x, *_: o._runner._model.train() and x, "changed the model"),
        (
            lambda o, x, *_: o._runner._model.net[1].running_mean.add_(1) is None or x,
            "changed the model",
        ),
    ],
)
def test_misbehaving_attack_makes_the_cell_incomplete(run: Callable, message: str) -> None:
    model = tiny_model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with planted(run) as name:
        info, _ = run_cell(cell(name), Target.of(model), data_slice())
    assert not info.complete
    assert message in info.error
    assert not any(m.training for m in model.modules())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())


def test_attack_cannot_cheat_through_the_images_it_is_given() -> None:
    def darken(oracle, x, y, *_):
        return x.mul_(0)  # in place: the verifier must still know the true x

    with planted(darken) as name:
        info, rows = run_cell(cell(name), Target.of(tiny_model()), data_slice())
    assert not info.complete and all(r.status == "out_of_ball" for r in rows)


def test_same_seed_same_rows_other_seed_other_rows() -> None:
    def noise(oracle, x, y, budget, params, seed):
        generator = torch.Generator().manual_seed(seed)
        sign = torch.rand(x.shape, generator=generator).sub_(0.5).sign()
        return (x + 0.1 * sign).clamp(0, 1)

    with planted(noise) as name:
        first, second, other = (
            run_cell(cell(name, seed=seed), Target.of(tiny_model()), data_slice())[1]
            for seed in (0, 0, 1)
        )
    assert first == second
    assert [r.l2 for r in first] != [r.l2 for r in other]


BATCH = {"name": "bn", "stats": "batch"}


def test_batch_dependent_cells_are_clustered_by_batch() -> None:
    with planted(lambda o, x, *_: x) as name:
        info, _ = run_cell(cell(name), Target.of(tiny_model(BATCH)), data_slice())
    assert info.cluster == "batch"


RNA = {"name": "rna", "pool": ["bn", "in"]}


def test_fixed_path_holds_one_path_per_batch_and_scores_others() -> None:
    model = tiny_model(RNA)
    seen: list[bool] = []

    def look(oracle, x, y, *_):
        pinned_path = find_paths(model).pinned
        first, again = oracle.logits(x), oracle.logits(x)
        seen.append(pinned_path is not None and torch.equal(first, again))
        return x

    with planted(look) as name:
        spec = cell(name, protocol="fixed_path", n_draws=8)
        info, rows = run_cell(spec, Target.of(model), data_slice())
    assert seen == [True] * 3
    assert info.cluster == "batch"
    assert find_paths(model).pinned is None
    assert any(0 < r.adv_correct < 1 for r in rows)  # scored on many paths


def test_pure_label_noise_scores_its_expectation() -> None:
    """A model that is right with probability 0.9, whatever the image, must score 90 %."""

    class LabelNoise(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            wrong = torch.rand(len(x)) < 0.1
            return torch.nn.functional.one_hot(wrong.long(), 3).float()

    x = np.full((400, 1, 8, 8), 0.5, dtype=np.float32)
    data = Slice(x, np.zeros(400, dtype=np.int64), np.arange(400), "0" * 64)
    target = Target(LabelNoise(), (1.0,), 3, stochastic=True)
    with planted(lambda o, x, *_: x + 0.05) as name:
        spec = cell(name, n_draws=20, batch_size=50)
        (info, rows), (_, again) = (run_cell(spec, target, data) for _ in range(2))
    assert info.cluster == "batch"  # how it draws is not known: perhaps once for all images
    estimate = robust_accuracy(rows, info.cluster)
    assert estimate.value == pytest.approx(0.9, abs=0.02)
    assert estimate.low < 0.9 < estimate.high
    assert rows == again


def linear(weight: float, std: float = 1.0, bias: float = 0.0) -> Target:
    """Class 1 where ``weight * (sum of x) + bias`` is above 0."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    with torch.no_grad():
        net[1].weight.copy_(torch.stack([torch.zeros(64), torch.full((64,), weight)]))
        net[1].bias.copy_(torch.tensor([0.0, bias]))
    return Target(net.eval(), (std,), 2)


SURROGATE = Surrogate(checkpoint="other", sha256="1" * 64, stats=None)


def step(oracle, x, y, budget, *_):
    found = oracle.query(x, y, LOSSES["margin"])
    return (x + budget.eps[0] * found.grad.sign()).clamp(0, 1)


def test_transfer_crafts_on_the_surrogate_in_the_targets_ball() -> None:
    """The surrogate's gradient points away from the target's; its own eps would be 5 times."""
    data = Slice(
        np.full((6, 1, 8, 8), 0.5, np.float32), np.ones(6, np.int64), np.arange(6), "0" * 64
    )
    target, surrogate = linear(1.0, std=0.1), linear(-1.0, std=0.5, bias=40.0)
    threat = ThreatModel(eps=0.5, eps_space="normalized")
    spec = cell("planted", protocol="transfer", surrogate=SURROGATE, threat_model=threat)
    with planted(step):
        info, rows = run_cell(spec, target, data, surrogate)
    assert info.complete
    assert {round(r.linf, 6) for r in rows} == {0.05}
    assert {r.robust for r in rows} == {1.0}
    flipped = linear(1.0, std=0.1, bias=-31.0)  # at a sum of 32; an eps of 0.05 moves it by 3.2
    with planted(step):
        _, rows = run_cell(spec, flipped, data, linear(2.0))
    assert {r.adv_correct for r in rows} == {0.0}


def test_transferred_images_are_scored_as_they_are() -> None:
    """The adversary knows nothing of the target, so it cannot fall back on the clean image."""
    data = Slice(
        np.full((4, 1, 8, 8), 0.5, np.float32), np.ones(4, np.int64), np.arange(4), "0" * 64
    )
    target, surrogate = linear(1.0, bias=-33.0), linear(-1.0)  # wrong when clean, mended by it
    spec = cell("planted", protocol="transfer", surrogate=SURROGATE)
    with planted(step):
        _, rows = run_cell(spec, target, data, surrogate)
    assert {(r.clean_correct, r.robust, r.played) for r in rows} == {(0.0, 1.0, "adv")}


def test_a_surrogate_must_be_named() -> None:
    target = Target.of(tiny_model())
    with planted(lambda o, x, *_: x) as name:
        with pytest.raises(ValueError, match="surrogate"):
            run_cell(cell(name), target, data_slice(), target)
        with pytest.raises(ValueError, match="surrogate"):
            run_cell(cell(name, protocol="transfer", surrogate=SURROGATE), target, data_slice())


@pytest.mark.parametrize(("of_target", "of_surrogate"), [("bn", BATCH), (BATCH, "bn")])
def test_statistics_of_a_batch_on_either_side_cluster_the_cell(
    of_target: object, of_surrogate: object
) -> None:
    spec = cell("planted", protocol="stats_transfer", surrogate=SURROGATE)
    with planted(lambda o, x, *_: x):
        info, _ = run_cell(
            spec,
            Target.of(tiny_model(of_target)),
            data_slice(),
            Target.of(tiny_model(of_surrogate)),
        )
    assert info.cluster == "batch"


def test_eot_iter_reaches_the_oracle() -> None:
    with planted(step) as name:
        spec = cell(name, eot_iter=5, n_draws=2)
        _, rows = run_cell(spec, Target.of(tiny_model(RNA)), data_slice())
    assert {(r.forwards, r.backwards) for r in rows} == {(5.0, 5.0)}


def test_a_lone_adversary_perturbs_one_image_among_clean_ones() -> None:
    """It pays for its whole batch, and its score is that of a batch that is clean but for it."""
    model = tiny_model(BATCH)
    target, data = Target.of(model), data_slice(8)
    with planted(step) as name:
        info, rows = run_cell(cell(name, adversary="single"), target, data)
    assert info.complete and info.cluster == "batch"
    assert {(r.forwards, r.backwards) for r in rows} == {(4.0, 4.0)}
    x = torch.from_numpy(data.x)
    for i, row in enumerate(rows):
        batch = x[i // 4 * 4 : i // 4 * 4 + 4].clone().requires_grad_()
        z = model(batch)
        others = z[i % 4].masked_fill(torch.arange(3) == row.label, -torch.inf)
        (grad,) = torch.autograd.grad(others.max() - z[i % 4, row.label], batch)
        with torch.no_grad():
            batch[i % 4] = (batch[i % 4] + 0.1 * grad[i % 4].sign()).clamp(0, 1)
            assert int(model(batch)[i % 4].argmax()) == row.adv_pred
