"""``evaluate`` with stratified draws and the mean field: honest passes, real scores, refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench import evaluate
from bench.core.errors import UserError
from bench.core.model_spec import ModelSpec
from bench.models import Classifier, build_model
from bench.norms import Paths, RandomNormAggregation

PGD = ("pgd", {"n_iter": 3, "keep": "last"})


class Shift(nn.Module):
    """A branch that adds a constant."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        return x + self.by


class Square(nn.Module):
    """Class 0 where the squared brightness is above a quarter."""

    def forward(self, x: Tensor) -> Tensor:
        z = x.mean((1, 2, 3)) ** 2
        return torch.stack([z, torch.full_like(z, 0.25)], 1)


def trap() -> nn.Sequential:
    """Right on both branches for dark images, and wrong on their mean."""
    layer = RandomNormAggregation([Shift(-1.0), Shift(1.0)], Paths("layer", "sample"))
    return nn.Sequential(layer, Square())


def rna(norm: Any = None) -> Classifier:
    fields = {"arch": "resnet20", "channels": 1, "size": 8, "classes": 3}
    norm = norm or {"name": "rna", "pool": ["bn", "in"]}
    spec = ModelSpec.model_validate({**fields, "norm": norm, "mean": [0.5], "std": [0.5]})
    return build_model(spec, seed=0)


def images(n: int = 4) -> tuple[Tensor, Tensor]:
    return 0.1 * torch.rand(n, 1, 8, 8), torch.zeros(n, dtype=torch.int64)


@pytest.mark.process
def test_a_surrogate_is_attacked_and_the_model_scored() -> None:
    x, y = images()
    attacks = [PGD, ("square", {"n_queries": 12}), "cw", "deepfool"]
    result = evaluate(trap(), x, y, "linf:0.02", attacks, eot="mean_field", n_draws=5)
    for name in ("pgd", "square", "cw", "deepfool"):
        assert result[name].info.spec.eot == "mean_field"
        assert result.robust_accuracy(name).value == 1
    assert result.clean_accuracy().value == 1


@pytest.mark.process
def test_passes_are_those_of_the_way_that_was_asked_for() -> None:
    x, y = images()
    attacks: list[Any] = [
        PGD,
        {"attack": "pgd", "params": PGD[1], "eot": "plain", "eot_iter": 2},
        {"attack": "pgd", "params": PGD[1], "eot": "mean_field"},
    ]
    result = evaluate(rna(), x, y, "linf:0.1", attacks, eot="stratified", eot_iter=4, n_draws=2)
    labels = ["pgd", "pgd EOT-2 plain", "pgd mean_field"]
    specs = [result[label].info.spec for label in labels]
    assert [(s.eot, s.eot_iter) for s in specs] == [
        ("stratified", 4),
        ("plain", 2),
        ("mean_field", 1),
    ]
    for label, draws in zip(labels, (4, 2, 1), strict=True):
        assert {(r.forwards, r.backwards) for r in result[label].rows} == {(3 * draws, 3 * draws)}
        assert result[label].info.complete
    assert len({spec.cell_id for spec in specs}) == 3


class Noisy(nn.Module):
    """Random, but without a path to choose."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :3] + torch.randn(len(x), 3)


@pytest.mark.process
@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (rna("in"), {"eot": "mean_field"}, "eot: the model draws nothing at random; remove eot"),
        (
            Noisy(),
            {"eot": "stratified", "eot_iter": 4},
            "stratified is for models that draw",
        ),
        (rna(), {"eot": "stratified", "protocol": "fixed_path"}, "fixed_path attacks one path"),
        (rna(), {"eot": "mean_field", "eot_iter": 4}, "one pass without draws, found eot_iter 4"),
        (
            rna(),
            {"eot": "mean-field"},
            "'stratified' or 'mean_field', found 'mean-field'",
        ),
    ],
)
def test_what_means_nothing_is_refused(model: nn.Module, options: Any, message: str) -> None:
    x, y = images()
    with pytest.raises(UserError, match=message):
        evaluate(model, x, y, "linf:0.1", [PGD], n_draws=2, **options)
