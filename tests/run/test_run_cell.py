"""A cell under planted attacks: what misbehaves never counts for or against robustness."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.attacks import ATTACKS
from bench.attacks.base import Attack
from bench.core.base import Spec
from bench.core.cell import CellSpec, DataSpec
from bench.core.model_spec import ModelSpec
from bench.core.threat import ThreatModel
from bench.data import Slice
from bench.metrics import robust_accuracy
from bench.models import Classifier
from bench.norms import find_paths, replace_norms
from bench.run.cell import run_cell


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
        info, rows = run_cell(cell(name), tiny_model(), data_slice())
    assert info.complete and info.cell_id == info.spec.cell_id and info.cluster == "sample"
    assert [r.index for r in rows] == list(range(100, 110))
    assert [r.batch for r in rows] == [0] * 4 + [1] * 4 + [2] * 2
    assert {(r.forwards, r.backwards) for r in rows} == {(2.0, 1.0)}


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda o, x, *_: x + 0.2, "out of ball"),
        (lambda o, x, *_: x - 0.1, "out of box"),
        (lambda o, x, *_: x * float("nan"), "not finite"),
        (lambda o, x, *_: 1 / 0, "ZeroDivisionError"),
        (lambda o, x, *_: None, "NoneType"),
        (lambda o, x, *_: x[:1], "shape"),
        (lambda o, x, *_: o._model.train() and x, "changed the model"),
        (lambda o, x, *_: o._model.net[1].running_mean.add_(1) is None or x, "changed the model"),
    ],
)
def test_misbehaving_attack_makes_the_cell_incomplete(run: Callable, message: str) -> None:
    model = tiny_model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with planted(run) as name:
        info, _ = run_cell(cell(name), model, data_slice())
    assert not info.complete
    assert message in info.error
    assert not any(m.training for m in model.modules())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())


def test_attack_cannot_cheat_through_the_images_it_is_given() -> None:
    def darken(oracle, x, y, *_):
        return x.mul_(0)  # in place: the verifier must still know the true x

    with planted(darken) as name:
        info, rows = run_cell(cell(name), tiny_model(), data_slice())
    assert not info.complete and all(r.status == "out_of_ball" for r in rows)


def test_same_seed_same_rows_other_seed_other_rows() -> None:
    def noise(oracle, x, y, budget, params, seed):
        generator = torch.Generator().manual_seed(seed)
        sign = torch.rand(x.shape, generator=generator).sub_(0.5).sign()
        return (x + 0.1 * sign).clamp(0, 1)

    with planted(noise) as name:
        first, second, other = (
            run_cell(cell(name, seed=seed), tiny_model(), data_slice())[1] for seed in (0, 0, 1)
        )
    assert first == second
    assert [r.l2 for r in first] != [r.l2 for r in other]


def test_batch_dependent_cells_are_clustered_by_batch() -> None:
    with planted(lambda o, x, *_: x) as name:
        info, _ = run_cell(cell(name), tiny_model({"name": "bn", "stats": "batch"}), data_slice())
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
        info, rows = run_cell(cell(name, protocol="fixed_path", n_draws=8), model, data_slice())
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

    torch.manual_seed(0)
    model = tiny_model()
    model.net = LabelNoise()
    model.register_parameter("anchor", nn.Parameter(torch.zeros(())))
    x = np.full((200, 1, 8, 8), 0.5, dtype=np.float32)
    data = Slice(x, np.zeros(200, dtype=np.int64), np.arange(200), "0" * 64)
    with planted(lambda o, x, *_: x + 0.05) as name:
        info, rows = run_cell(cell(name, n_draws=20, batch_size=100), model, data)
    estimate = robust_accuracy(rows, info.cluster)
    assert estimate.value == pytest.approx(0.9, abs=0.02)
    assert estimate.low < 0.9 < estimate.high
