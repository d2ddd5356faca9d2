"""Shifts of statistics against numbers worked out by hand."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from analysis_scenes import images, scene, uniform
from torch import Tensor, nn

from bench.analysis.declared import STATISTICS_SHIFT
from bench.analysis.statistics_shift import run, shift_rows
from bench.norms.batch import BatchGroupNorm, BatchNorm, RobustNorm


class Net(nn.Module):
    """One norm over two channels, then logits from their means."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.head = nn.Linear(norm.weight.shape[0], 3)  # type: ignore[operator,union-attr]

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.norm(x).mean((2, 3)))
        return y


def table(model: nn.Module, x: Tensor) -> pd.DataFrame:
    frame = pd.DataFrame(list(shift_rows(model.eval(), x)))
    return frame.set_index(["statistic", "channel"])


def test_batch_norm_of_known_statistics() -> None:
    norm = BatchNorm(2)
    norm.running_mean.copy_(torch.tensor([0.5, 0.0]))  # type: ignore[union-attr]
    norm.running_var.copy_(torch.tensor([0.25, 4.0]))  # type: ignore[union-attr]
    x = torch.zeros(2, 2, 1, 2)
    x[:, 0] = torch.tensor([[[0.0, 1.0]], [[1.0, 2.0]]])  # mean 1, unbiased variance 2/3
    x[:, 1] = 3.0
    found = table(Net(norm), x)
    assert found.loc[("mean", 0), "population"] == 0.5
    assert found.loc[("mean", 0), "difference"] == pytest.approx(0.5)
    assert found.loc[("mean", 0), "relative"] == pytest.approx(0.5 / (0.25 + 1e-5) ** 0.5)
    assert found.loc[("var", 0), "difference"] == pytest.approx(2 / 3 - 0.25)
    assert found.loc[("var", 0), "relative"] == pytest.approx((2 / 3 - 0.25) / (0.25 + 1e-5))
    assert found.loc[("mean", 1), "relative"] == pytest.approx(3 / (4 + 1e-5) ** 0.5)
    assert found.loc[("var", 1), "difference"] == pytest.approx(-4)


@pytest.mark.parametrize(
    ("norm", "spread"),
    [
        (BatchNorm(4), "running_var"),
        (BatchGroupNorm(4, 2), "running_var"),
        (RobustNorm(4), "running_range"),
    ],
)
def test_a_layer_that_just_saw_the_batch_has_no_shift(norm: nn.Module, spread: str) -> None:
    """With a momentum of 1, what training tracks is what is compared with."""
    norm.momentum = 1.0  # type: ignore[assignment]
    x = uniform(8, 4, 3, 3)
    model = Net(norm)
    model.train()(x)
    found = table(model, x)
    assert found["difference"].abs().max() < 1e-6
    assert len(found) == 2 * len(getattr(norm, spread))
    assert set(found.index.get_level_values(0)) == {"mean", spread.removeprefix("running_")}


def test_hooks_leave_nothing_behind_and_layers_come_in_forward_order() -> None:
    first, second = BatchNorm(1), BatchNorm(1)

    class Swapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.b, self.a = second, first

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.b(self.a(x))
            return y

    model = Swapped().eval()
    rows = list(shift_rows(model, uniform(2, 1, 2, 2)))
    assert [(r["layer"], r["name"]) for r in rows if r["statistic"] == "mean"] == [
        (0, "a"),
        (1, "b"),
    ]
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_clean_and_attacked_batches_are_compared_on_the_model_as_it_is() -> None:
    model = Net(BatchNorm(1))
    x = uniform(6, 1, 2, 2)
    looked = scene("statistics_shift", [model], images(x, [0, 1, 2, 0, 1, 2]), attack={"n_iter": 3})
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = run(looked)
    assert list(found.columns) == list(STATISTICS_SHIFT.columns)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert found.groupby("batch")["n"].first().tolist() == [4, 2]
    clean = found[(found["images"] == "clean") & (found["statistic"] == "mean")]
    assert clean["difference"].tolist() == pytest.approx([float(x[:4].mean()), float(x[4:].mean())])
    attacked = found[(found["images"] == "attacked") & (found["statistic"] == "mean")]
    moved = (attacked["difference"].to_numpy() - clean["difference"].to_numpy()).tolist()
    assert max(map(abs, moved)) > 0.01 and max(map(abs, moved)) <= 0.1 + 1e-6
