"""Searching in low precision: what it answers is what float32 says, wherever it matters."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from bench.core.norm_spec import NormSpec
from bench.norms import pinned, replace_norms
from bench.oracle import Access, Oracle, cross_entropy, fast, margin
from bench.oracle import oracle as oracle_module

N = 256


@pytest.fixture
def in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets every device gain by bfloat16."""
    twin = fast.Twin(fast.Engine(torch.bfloat16))
    monkeypatch.setattr(oracle_module, "choose_twin", lambda model, x, run, passes_ahead: twin)


def on_the_brink() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A small network, images, and labels that are about to lose: margins near 0 in float32."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 36, 3)).eval().requires_grad_(False)
    x = torch.rand(N, 1, 8, 8)
    z = net(x)
    bias = (z.topk(2, 1).values @ torch.tensor([-1.0, 1.0])).mean()
    net[-1].bias[z.mean(0).argmax()] += bias  # brings the two best classes together
    return net, x, net(x).argmax(1)


@pytest.mark.usefixtures("in_bfloat16")
def test_right_and_wrong_are_those_of_float32_though_bfloat16_errs() -> None:
    model, x, _ = on_the_brink()
    exact = model(x)
    y = exact.topk(2, 1).indices[torch.arange(N), torch.arange(N) % 2]
    with torch.autocast("cpu", torch.bfloat16):
        low = model(x).float()
    assert (low.argmax(1) != exact.argmax(1)).any(), "the case must be hard enough to err"
    oracle = Oracle(model, x, 3, Access(fast=True))
    for grad in (False, True):
        answer = oracle.query(x, y, margin, grad=grad)
        assert torch.equal(answer.correct, (exact.argmax(1) == y).float())
        wrong = answer.loss.sign() != margin(exact, y).sign()
        assert not wrong.any()
        assert answer.grad is None or bool(answer.grad.isfinite().all())
    assert oracle.passes.forwards.max() == 4, "doubtful images cost a second pass"
    assert oracle.passes.forwards.min() == 2, "others do not"
    assert oracle.passes.backwards.tolist() == [1] * N


@pytest.mark.usefixtures("in_bfloat16")
def test_images_that_share_statistics_are_confirmed_as_a_batch() -> None:
    model, x, _ = on_the_brink()
    shared = nn.Sequential(nn.BatchNorm2d(1, affine=False, track_running_stats=False), model).eval()
    exact = shared(x)
    y = exact.topk(2, 1).indices[torch.arange(N), torch.arange(N) % 2]
    oracle = Oracle(shared, x, 3, Access(batch_dependent=True, fast=True))
    answer = oracle.query(x, y, margin)
    assert torch.equal(answer.correct, (exact.argmax(1) == y).float())
    assert oracle.passes.forwards.tolist() == [2] * N


@pytest.mark.usefixtures("in_bfloat16")
def test_gradient_points_where_float32s_does() -> None:
    model, x, y = on_the_brink()
    low = Oracle(model, x, 3, Access(fast=True)).query(x, y, cross_entropy).grad
    exact = Oracle(model, x, 3, Access()).query(x, y, cross_entropy).grad
    assert low is not None and exact is not None
    # A unit that rounding switches on or off turns the gradient of a single image.
    assert nn.functional.cosine_similarity(low.flatten(1), exact.flatten(1)).mean() > 0.99
    assert not torch.equal(low, exact)


@pytest.mark.usefixtures("in_bfloat16")
def test_libraries_and_linearized_logits_are_exact() -> None:
    model, x, _ = on_the_brink()
    oracle = Oracle(model, x, 3, Access(fast=True))
    assert torch.equal(oracle.module()(x), model(x))
    assert torch.equal(oracle.jacobian(x)[0], model(x))


@pytest.mark.parametrize(
    ("low", "low_last", "folded_last", "best"),
    [
        (0.5, 0.6, 0.7, "bfloat16"),
        (0.5, 0.4, 0.7, "bfloat16, channels-last"),
        (0.5, 0.4, 0.3, "bfloat16, channels-last, folded"),
        (0.95, 0.9, 0.9, "float32"),
    ],
)
def test_low_precision_is_taken_only_where_it_is_faster(
    low: float, low_last: float, folded_last: float, best: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = {
        "float32": 1.0,
        "bfloat16": low,
        "bfloat16, channels-last": low_last,
        "bfloat16, channels-last, folded": folded_last,
    }
    monkeypatch.setattr(fast, "_timed", lambda twin, x, run: times.get(str(twin.engine), 9.0))
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten()).eval()
    x = torch.rand(2, 1, 4, 4)
    twin = fast.fastest_twin(model, x, partial(run_on, model))
    assert str(twin.engine) == best
    assert (twin.copy is not None) == ("channels-last" in best)


def test_a_model_that_knows_no_low_precision_is_run_in_float32() -> None:
    class Strict(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if torch.is_autocast_enabled("cpu"):
                raise RuntimeError("float32 only")
            return x.flatten(1)

    model = Strict()
    twin = fast.fastest_twin(model, torch.rand(2, 1, 4, 4), partial(run_on, model))
    assert twin.engine == fast.EXACT


def test_a_model_that_was_trained_on_is_laid_out_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "_timed", lambda twin, x, run: 99.0 - len(str(twin.engine)))
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten()).eval()
    x = torch.rand(2, 1, 4, 4)
    run = partial(run_on, model)
    first = fast.fastest_twin(model, x, run)
    assert fast.fastest_twin(model, x, run) is first, "known already"
    with torch.no_grad():
        model[0].weight.mul_(2)
    second = fast.fastest_twin(model, x, run)
    assert second is not first and first.engine.folded
    found, stale = second(model, x).float(), first(model, x).float()
    torch.testing.assert_close(found, model(x), rtol=0.02, atol=0.02)
    assert not torch.allclose(stale, found, rtol=0.02, atol=0.02)


def run_on(model: nn.Module, twin: fast.Twin, x: torch.Tensor) -> torch.Tensor:
    return twin(model, x)


def test_a_model_is_let_go_though_it_is_known() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten()).eval()
    fast.fastest_twin(model, torch.rand(2, 1, 4, 4), partial(run_on, weakref.proxy(model)))
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_a_copy_walks_the_paths_of_its_model() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3))
    replace_norms(net, NormSpec.model_validate({"name": "rna", "pool": ["bn", "ln"]}))
    twin = fast._twin(net.eval(), fast.ENGINES[2], torch.rand(2, 1, 8, 8))
    assert twin is not None and twin.copy is not None
    x = torch.rand(6, 1, 8, 8)
    for path in (torch.zeros(1, 6), torch.ones(1, 6), torch.arange(6)[None] % 2):
        with pinned(net, path.long()), torch.no_grad():
            torch.testing.assert_close(twin(net, x).float(), net(x), rtol=0.05, atol=0.05)


@pytest.mark.slow
def test_whole_batches_are_compiled_and_the_rest_is_not() -> None:
    model, x, _ = on_the_brink()
    run = partial(run_on, model)
    fast._KNOWN.clear()
    plain = fast.Twin(fast.Engine(torch.bfloat16), seconds=1.0)
    function = torch.compile(fast._copy(model), dynamic=False)
    calls: list[int] = []

    def counted(z: torch.Tensor) -> torch.Tensor:
        calls.append(len(z))
        return function(z)

    twin = replace(plain, engine=replace(plain.engine, compiled=True), compiled=counted)
    for n in (64, 63):
        torch.testing.assert_close(
            twin(model, x[:n]).float(), run(plain, x[:n]).float(), rtol=0.05, atol=0.05
        )
    assert calls == [64]


def test_timing_draws_no_path_that_the_attack_would_draw() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3))
    replace_norms(net, NormSpec.model_validate({"name": "rna", "pool": ["bn", "in"]}))
    net.eval()
    x = torch.rand(8, 1, 8, 8)
    fast._KNOWN.clear()
    for _ in range(2):  # timed, then remembered
        oracle = Oracle(net, x, 3, Access(stochastic=True, fast=True, seed=3))
        oracle.twin = fast.Twin(fast.EXACT)
        found = oracle.query(x, torch.zeros(8, dtype=torch.int64), margin).logits
        plain = Oracle(net, x, 3, Access(stochastic=True, seed=3))
        assert torch.equal(found, plain.query(x, torch.zeros(8, dtype=torch.int64), margin).logits)
