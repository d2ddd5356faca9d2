"""A second evaluation of a model repeats no probe, no timing and no sentinel, and nothing stale."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from evaluation_scenes import Brightness, images
from torch import Tensor, nn

import bench.evaluation.in_memory as in_memory
from bench import evaluate
from bench.evaluation.cells import Cells
from bench.evaluation.memory import Memory
from bench.oracle import fast


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Notes every probe."""
    seen: list[int] = []
    real = in_memory.probe

    def spy(*args: Any, **options: Any) -> Any:
        seen.append(1)
        return real(*args, **options)

    monkeypatch.setattr(in_memory, "probe", spy)
    return seen


def run(model: nn.Module, **options: Any) -> Any:
    x, y = images()
    given = {"model": model, "x": x, "y": y, "threat": "linf:0.11", "attacks": ["fgsm"]}
    return evaluate(**{**given, "sentinel": False, "progress": False, **options})


def test_a_second_call_gives_the_same_without_a_probe(probes: list[int]) -> None:
    class Probabilities(Brightness):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).softmax(1)

    model = Probabilities()
    first, again = run(model), run(model)
    assert len(probes) == 1 and repr(first) == repr(again)
    assert any("probe_probabilities" in alarm for alarm in again["fgsm"].info.alarms)


def swap(model: Any) -> None:
    model.slope.data = model.slope.data.neg()


def no_gradient(model: Any) -> None:
    model.forward = lambda x: type(model).forward(model, x.detach())


def global_flag(model: Any) -> None:
    global SCALE
    SCALE = 2.0


SCALE = 1.0


class Scaled(Brightness):
    """Reads a global, an attribute and an object's field."""

    def __init__(self) -> None:
        super().__init__()
        self.power, self.config = 1.0, Config()

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * SCALE * self.power * self.config.power


class Config:
    """Settings of a model."""

    power = 1.0


@pytest.mark.parametrize(
    "change",
    [
        swap,
        no_gradient,
        global_flag,
        lambda model: setattr(model, "power", 2.0),
        lambda model: setattr(model.config, "power", 2.0),
        lambda model: model.register_forward_hook(lambda m, x, z: z * 2),
        lambda model: model.register_buffer("mean", torch.zeros(1)),
        lambda model: model.train(),
    ],
)
def test_a_model_that_changed_is_probed_again(
    probes: list[int], change: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("test_evaluation_memory.SCALE", 1.0)
    model = Scaled().eval()
    run(model)
    change(model)
    fresh = run(model)
    assert len(probes) == 2
    assert repr(run(model)) == repr(fresh) and len(probes) == 2


def test_other_images_balls_and_seeds_are_probed_anew(probes: list[int]) -> None:
    x, y = images()
    model = Brightness()
    for options in ({}, {"x": 1 - x, "y": 1 - y}, {"threat": "l2:0.5"}, {"seed": 3}):
        run(model, **options)
    assert len(probes) == 4


def test_of_a_model_that_cannot_be_told_nothing_is_kept(probes: list[int]) -> None:
    class Nothing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            z = x.flatten(1).mean(1) - 0.5
            return torch.stack([-z, z], 1)

    class Stateful(Brightness):
        def forward(self, x: Tensor) -> Tensor:
            self.calls = getattr(self, "calls", 0) + 1
            return super().forward(x) + 0.01 * self.calls * torch.tensor([0.0, 1.0])

    for number, model in enumerate((Nothing(), Stateful()), 1):
        run(model)
        if isinstance(model, Stateful):
            model.calls = 0
        run(model)
        assert len(probes) == 2 * number, type(model).__name__


def test_findings_of_a_model_go_with_it() -> None:
    model = Brightness()
    memory = Memory(model)
    for i in range(40):
        memory.keep(i, i)
    assert [Memory(model).recall(i, int) for i in (0, 39)] == [None, 39]
    assert Memory(Brightness()).recall(39, int) is None, "another object of the same weights"
    assert memory.recall(39, str) is None


@pytest.mark.process
def test_a_second_call_times_nothing_and_runs_no_sentinel(
    probes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    timed, looked = [], []
    time_engines, behind = fast._time_engines, Cells.run

    def spy(*args: Any) -> Any:
        timed.append(1)
        return time_engines(*args)

    def spy_run(self: Cells, name: str, *args: Any) -> Any:
        looked.append(name)
        return behind(self, name, *args)

    monkeypatch.setattr(fast, "_time_engines", spy)
    monkeypatch.setattr(Cells, "run", spy_run)
    model = Brightness()
    first = run(model, sentinel=True)
    assert (len(probes), looked[1:]) == (1, ["Brightness: sentinel"]) and timed
    n_timed = len(timed)
    again = run(model, sentinel=True)
    assert (len(probes), len(timed)) == (1, n_timed)
    assert looked.count("Brightness: sentinel") == 1
    assert repr(again) == repr(first) and "the sentinel" in repr(first)
    model.slope.data.mul_(3)
    run(model, sentinel=True)
    assert looked.count("Brightness: sentinel") == 2
