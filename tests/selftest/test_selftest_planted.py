"""The planted models: their truths against what can be tried, and the cases against sabotage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bench.attacks.randomness import seeded
from bench.evaluation import api, in_memory
from bench.probe.findings import ProbeResult
from bench.selftest import CASES, pick, run_case
from bench.selftest.alone import SHORT, Alone, Reading
from bench.selftest.exact import (
    EPS,
    Images,
    Template,
    bounds,
    exact_robust,
    images,
    worst_images,
    worst_margins,
)
from bench.selftest.noisy_models import ERRORS, Dropped, FromNumpy, OffGrid, SeededByImage
from bench.selftest.planted import HEIGHT, PLANTS, WAVE_NUMBERS, Plant, caught_or_true, clear_images
from bench.selftest.planted_models import (
    Cache,
    Counter,
    CutBeyond,
    Detector,
    HalfAttached,
    Hot,
    Ripple,
    Sine,
    Thresholded,
    Truth,
    threshold,
)

SAME = {
    "cut-beyond": lambda: CutBeyond(images().x),
    "detector": Detector,
    "temperature": Hot,
    "detached-ensemble": lambda: HalfAttached(1),
    "attached": lambda: HalfAttached(5),
}


@pytest.mark.parametrize("make", SAME.values(), ids=SAME)
def test_these_predict_what_the_template_predicts(make: Callable[[], Any]) -> None:
    data, net, model = images(), Template(), make()
    for x in (data.x, worst_images(net, data), (data.x + 0.05).clamp(0, 1)):
        margins = net(x).topk(2).values.diff().abs()[:, 0]
        same = model(x).argmax(1) == net(x).argmax(1)
        assert bool(same[margins > 1e-3].all())


@given(
    low=st.floats(0, 1),
    width=st.floats(0, 0.2),
    wave_number=st.sampled_from([30.0, *WAVE_NUMBERS.values()]),
)
def test_the_range_of_a_sine_is_that_of_a_dense_grid(
    low: float, width: float, wave_number: float
) -> None:
    model = Sine(wave_number, HEIGHT if wave_number > 100 else 0.05)
    ends = torch.tensor([[low], [low + width]], dtype=torch.float64)
    least, most = (float(end) for end in model.range_of(*ends))
    grid = model.bend(torch.linspace(low, low + width, 5_001, dtype=torch.float64))
    step = width / 5_000 * (1 + wave_number * model.height)
    assert least - 1e-7 <= float(grid.min()) <= least + step + 1e-7
    assert most + 1e-7 >= float(grid.max()) >= most - step - 1e-7


def test_the_ripple_is_small_and_drowns_the_gradient() -> None:
    data, net, model = images(), Template(), Ripple()
    x = data.x.clone().requires_grad_()
    moved = model(x)
    assert float((moved - net(x)).abs().amax().detach()) <= model.height + 1e-5
    (slope,) = torch.autograd.grad(moved[:, 0].sum(), x)
    assert float(slope.abs().mean()) > 3 * float(net.weight[0].abs().mean())


def test_a_threshold_is_far_from_the_ends_of_all_ranges() -> None:
    low, high = bounds(torch.arange(256)[None, None, None] / 255.0, EPS)
    for end in (low, high):
        assert torch.equal(threshold(end - 1e-4), threshold(end + 1e-4))
    x = images(8).x.requires_grad_()
    (slope,) = torch.autograd.grad(Thresholded()(x).sum(), x)
    assert not bool(slope.any())


def test_gradients_are_cut_where_it_is_said() -> None:
    data = images(16)
    for model, far in (
        (CutBeyond(data.x), (data.x + 0.06).clamp(0, 1)),
        (Detector(), (data.x + 0.1 * torch.rand(data.x.shape)).clamp(0, 1)),
    ):
        for x, kept in ((data.x, True), (far, False)):
            x = x.clone().requires_grad_()
            (slope,) = torch.autograd.grad(model(x).sum(), x)
            share = float((slope.flatten(1) != 0).any(1).double().mean())
            assert share > 0.9 if kept else share == 0  # the detector fires on one clean image
    one, all_ = HalfAttached(1), HalfAttached(5)
    x = data.x.clone().requires_grad_()
    slopes = [torch.autograd.grad(model(x)[:, 0].sum(), x)[0] for model in (one, all_)]
    assert float((slopes[0] - slopes[1]).abs().max()) > 0.01


def test_models_with_a_state() -> None:
    x, model, count = images(8).x, Cache(), Counter()
    first = model(x)
    assert torch.allclose(model(x + 1e-4), first) and not torch.allclose(Cache()(x + 1e-4), first)
    same = [torch.equal(count(x).argmax(1), Template()(x).argmax(1)) for _ in range(6)]
    assert same == [True, True, False, True, True, False]


@pytest.mark.process
def test_noise_is_as_frequent_as_it_is_said() -> None:
    data, net = images(32), Template()
    with seeded(0):
        draws = [FromNumpy()(data.x).argmax(1) for _ in range(200)]
        changed = torch.stack([net(data.x).argmax(1) != one for one in draws])[:, data.y != 0]
        assert abs(float(changed.double().mean()) - ERRORS) < 0.02
        grid = (data.x * 255).round() / 255
        quiet = [torch.equal(OffGrid()(grid), net(grid)) for _ in range(20)]
        assert all(quiet) and not torch.equal(OffGrid()(grid + 0.001), net(grid + 0.001))
        black = torch.stack([Dropped()(data.x).argmax(1) for _ in range(200)])
    gone = (black == int(net.bias.argmax())).double().mean(0)
    assert float((gone - ERRORS).abs()[net(data.x / 0.9).argmax(1) != 5].max()) < 0.08
    hashed = SeededByImage()
    assert torch.equal(hashed(data.x), hashed(data.x))
    near = torch.cat([data.x[1:2] + i * 1e-4 for i in range(500)])
    share = float((hashed(near).argmax(1) == 0).double().mean())
    assert abs(share - ERRORS) < 0.05


def by_trying(plant: Plant, data: Images) -> Tensor:
    """Returns the mean score (n,) of images at the template's worst points, over draws."""
    x = worst_images(Template(), data)
    with seeded(0), torch.no_grad():
        model = plant.make(data)
        draws = 400 if plant.stochastic else 1
        return torch.stack([model(x).argmax(1) == data.y for _ in range(draws)]).double().mean(0)


@pytest.mark.parametrize("plant", [p for p in PLANTS if p.truth], ids=lambda p: p.name)
def test_no_truth_is_above_what_the_templates_worst_points_show(plant: Plant) -> None:
    """What an adversary with the template's gradient reaches bounds the truth from above."""
    data = clear_images()
    assert plant.truth is not None
    truth = plant.truth(data)
    reached = float(by_trying(plant, data).mean())
    if plant.name == "image-noise":  # of which each point is another draw
        assert truth.high < 0.05
        return
    assert truth.low <= reached + 0.01
    close = plant.name.startswith(("sine", "threshold", "ripple", "dropout"))
    assert abs(truth.high - reached) < (0.15 if close else 0.01)


def test_images_are_clear_and_of_both_kinds() -> None:
    data, net = clear_images(), Template()
    assert len(data.y) > 50
    assert 0.2 < float(exact_robust(net, data).double().mean()) < 0.6
    for factor in (0.9, 1.1):
        assert torch.equal(exact_robust(net, data, factor * EPS), exact_robust(net, data))
    assert float(worst_margins(net, data.y, *bounds(data.x, EPS)).abs().min()) > 0.1


def test_what_is_right_and_what_is_not() -> None:
    truth = Truth(0.3, 0.4)
    assert str(truth) == "30.0 to 40.0 %" and str(Truth(0.25, 0.25)) == "25.0 %"
    assert Reading(0.35, ()).right(truth) and not Reading(0.41, ()).right(truth)
    assert Reading(0.41, ()).right(truth, stochastic=True)
    assert not Reading(0.43, ()).right(truth, stochastic=True)
    assert Reading(0.9, ("weak_attack",)).right(truth) and Reading(None, ()).right(truth)
    assert Reading(0.9, ("weak_attack",)).right(None) and not Reading(0.35, ()).right(None)
    assert str(Reading(0.35, ())) == "35.0 % (no alarm)"


# --- sabotage: without the sentinel, the probe or the alarms, PGD alone is believed --------------

PGD: tuple[Alone, ...] = SHORT[:1]


def blind(patch: pytest.MonkeyPatch) -> None:
    """Neither probe nor sentinel nor alarms see anything."""
    real = in_memory.probe

    def seen(*args: Any, **kwargs: Any) -> ProbeResult:
        return real(*args, **kwargs).model_copy(update={"findings": ()})

    patch.setattr(in_memory, "probe", seen)
    patch.setattr(api, "second_look", lambda *_: None)
    patch.setattr(api, "find_alarms", lambda *_: ())
    patch.setattr(api, "changes", lambda *_: ())


BELIEVED = ("sine-long", "ripple", "cut-beyond", "detector", "cache", "counter", "temperature")


@pytest.mark.process
@pytest.mark.parametrize("name", BELIEVED)
def test_without_any_check_a_wrong_number_is_believed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.selftest import planted

    blind(monkeypatch)
    monkeypatch.setattr(planted, "SHORT", PGD)
    (plant,) = (plant for plant in PLANTS if plant.name == name)
    with seeded(0):
        outcome = caught_or_true(plant)
    assert not outcome.caught and "no alarm" in outcome.got


@pytest.mark.process
def test_a_mixed_up_verdict_is_a_contradiction(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proof that is wrong is noticed, as an attack that is wrong would be."""
    from dataclasses import replace

    from bench.selftest import exact_networks

    real = exact_networks.close_calls

    def swapped(setting: Any) -> Any:
        data, proofs = real(setting)
        other = {"robust": "broken", "broken": "robust", "open": "open"}
        return data, [replace(proof, verdict=other[proof.verdict]) for proof in proofs]

    monkeypatch.setattr(exact_networks, "close_calls", swapped)
    monkeypatch.setattr(exact_networks, "ATTACKS", ("pgd", ("auto", {"n_passes": 100})))
    outcome = run_case(pick(CASES, "proved-l2")).outcome
    assert not outcome.caught and "the case failed" not in outcome.got
