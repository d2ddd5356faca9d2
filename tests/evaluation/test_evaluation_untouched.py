"""``evaluate()`` leaves images, statistics and modes alone, and evaluates the model as it came."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench import evaluate
from bench.core.errors import UserError
from bench.evaluation.result import EvaluationResult

N = 24


class Brightness(nn.Module):
    """Class 1 where the mean of an image is above 0.5; its margin is known in closed form."""

    def forward(self, x: Tensor) -> Tensor:
        z = 20 * (x.mean((1, 2, 3)) - 0.5)
        return torch.stack([-z, z], 1)


class Writing(nn.Module):
    """Normalizes its input in place, so that a second pass over it sees other images."""

    def forward(self, x: Tensor) -> Tensor:
        z = 10 * (x.sub_(0.25).mul_(2).mean((1, 2, 3)) - 0.5)
        return torch.stack([-z, z], 1)


def images() -> tuple[Tensor, Tensor]:
    """Images whose mean lies 0.02, 0.04, ... from 0.5, on both sides in turn."""
    y = torch.arange(N) % 2
    level = 0.5 + 0.02 * torch.arange(1, N + 1) * (2 * y - 1)
    return level.view(-1, 1, 1, 1).expand(N, 1, 8, 8).clone(), y


def codes(result: EvaluationResult) -> set[str]:
    return {a.partition(":")[0] for c in result.cells.values() for a in c.info.alarms}


@pytest.mark.parametrize("scripted", [False, True])
@pytest.mark.parametrize("probe", [False, True])
@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
def test_a_forward_pass_may_write_into_its_input(scripted: bool, probe: bool) -> None:
    """x * 2 - 0.5 has the same sign and distances from 0.5 doubled: the closed form is known."""
    x, y = images()
    kept = x.clone()
    model: nn.Module = torch.jit.script(Writing()) if scripted else Writing()
    declared: dict[str, Any] = {"probe": probe}
    declared |= {} if probe else {"stochastic": False, "batch_dependent": False}
    result = evaluate(model, x, y, "linf:0.11", ["fgsm", ("pgd", {"n_iter": 3})], **declared)
    assert torch.equal(x, kept)
    assert result.clean_accuracy().value == 1
    assert not codes(result)
    for label in ("fgsm", "pgd"):
        assert [row.robust for row in result[label].rows] == [0.0] * 5 + [1.0] * (N - 5)
    model(x)
    assert not torch.equal(x, kept), "the model itself is as it was"


def test_attacks_of_libraries_do_not_reach_the_callers_images() -> None:
    x, y = images()
    kept = x.clone()
    evaluate(Writing(), x, y, "linf:0.11", ["torchattacks:FGSM"], probe=False, **PLAIN)
    assert torch.equal(x, kept)


PLAIN: dict[str, Any] = {"stochastic": False, "batch_dependent": False}


class MonteCarlo(Brightness):
    """Drops whole images, that is: answers class 0 for half of them."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        kept = self.drop(torch.ones(len(x), 1, 1, 1)) > 0
        return super().forward(torch.where(kept, x, torch.zeros_like(x)))


def test_dropout_that_was_left_in_train_mode_draws() -> None:
    """Images of class 0 stay right, those of class 1 are right in half of the draws."""
    x, y = images()
    model = MonteCarlo().eval()
    model.drop.train()
    result = evaluate(model, x, y, "linf:0.001", ["natural"], n_draws=200, sentinel=False)
    assert result.clean_accuracy().value == pytest.approx(0.75, abs=0.03)
    assert result["natural"].info.spec.n_draws == 200
    assert "probe_train_mode" not in codes(result), "it is meant"
    assert "in train mode, as they came: drop" in repr(result)
    assert model.drop.training and not model.training


def test_dropout_of_a_model_in_train_mode_is_switched_off_and_said() -> None:
    x, y = images()
    result = evaluate(MonteCarlo().train(), x, y, "linf:0.001", ["natural"])
    assert result.clean_accuracy().value == 1
    assert "evaluated in eval mode, which switches drop; for Monte Carlo dropout" in repr(result)
    quiet = evaluate(MonteCarlo().eval(), x, y, "linf:0.001", ["natural"])
    assert not quiet.notes


class PlainList(Brightness):
    """Holds its layers where PyTorch does not find them."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self._layers = list(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self._layers:
            x = layer(x)
        return super().forward(x)


def test_layers_in_a_plain_list_are_noticed_and_their_statistics_stay() -> None:
    x, y = images()
    layer = nn.BatchNorm2d(1)
    model = PlainList(layer).eval()
    assert layer.training, "eval() does not reach it"
    result = evaluate(model, x, y, "linf:0.11", ["fgsm"], batch_size=12)
    assert "probe_unreached_layers" in codes(result) and result["fgsm"].info.complete
    assert "_layers[0]" in repr(result)
    assert layer.running_mean is not None and layer.num_batches_tracked is not None
    assert layer.running_mean.item() == 0 and layer.num_batches_tracked.item() == 0
    assert layer.training and type(layer) is nn.BatchNorm2d and not hasattr(layer, "stats")


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, nn.InstanceNorm2d])
def test_running_means_never_change(kind: Any) -> None:
    """Normalized by the batch, as it came: a batch of bright images has its own middle."""
    x, y = images()
    layer = kind(1, track_running_stats=True)
    with torch.no_grad():
        layer.running_mean.fill_(0.1)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    net = nn.Sequential(nn.Sequential(layer), nn.Flatten(), nn.Linear(64, 2)).eval()
    layer.train()
    with torch.no_grad():
        expected = net(x)  # moves the statistics
        layer.load_state_dict(before)
    result = evaluate(net, x, y, "linf:0.01", ["natural", "fgsm"], batch_size=N)
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert layer.training and type(layer) is kind
    assert result["fgsm"].info.complete
    found = [row.clean_pred for row in result["natural"].rows]
    assert found == expected.argmax(1).tolist()
    assert "probe_train_mode" in codes(result)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_statistic_of_a_layer_of_ones_own_comes_back(replaced: bool) -> None:
    class Own(Brightness):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            if replaced:
                self.mean = self.mean + 1
            else:
                self.mean += 1
            return super().forward(x)

    x, y = images()
    model = Own()
    result = evaluate(model, x, y, "linf:0.01", ["fgsm"])
    assert model.mean.item() == 0 and "probe_state_changes" in codes(result)


def test_a_wrong_declaration_about_kept_dropout_is_refused() -> None:
    x, y = images()
    model = MonteCarlo().eval()
    model.drop.train()
    with pytest.raises(UserError, match="declared deterministic"):
        evaluate(model, x, y, "linf:0.01", ["fgsm"], stochastic=False)
