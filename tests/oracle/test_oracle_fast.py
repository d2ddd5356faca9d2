"""Searching in low precision: what it answers is what float32 says, wherever it matters."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

from bench.core.norm_spec import NormSpec
from bench.norms import pinned, replace_norms
from bench.oracle import Memo, Oracle, QueryRules, cross_entropy, engine, fast, margin, runner
from bench.oracle.fast import _weights_state, cached_choice
from bench.oracle.side_by_side import threads

pytestmark = pytest.mark.process

N = 256


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Has passes made one after the other."""
    with threads(1):
        yield


@pytest.fixture
def in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets every device gain by bfloat16."""
    prepared = engine.PreparedModel(engine.Engine(torch.bfloat16))
    monkeypatch.setattr(runner, "choose_engine", lambda model, x, run, most: prepared)


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
    oracle = Oracle(model, x, 3, QueryRules(fast=True))
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
    oracle = Oracle(shared, x, 3, QueryRules(batch_dependent=True, fast=True))
    answer = oracle.query(x, y, margin)
    assert torch.equal(answer.correct, (exact.argmax(1) == y).float())
    assert oracle.passes.forwards.tolist() == [2] * N


@pytest.mark.usefixtures("in_bfloat16")
def test_gradient_points_where_float32s_does() -> None:
    model, x, y = on_the_brink()
    low = Oracle(model, x, 3, QueryRules(fast=True)).query(x, y, cross_entropy).grad
    exact = Oracle(model, x, 3, QueryRules()).query(x, y, cross_entropy).grad
    assert low is not None and exact is not None
    # A unit that rounding switches on or off turns the gradient of a single image.
    assert nn.functional.cosine_similarity(low.flatten(1), exact.flatten(1)).mean() > 0.99
    assert not torch.equal(low, exact)


@pytest.mark.usefixtures("in_bfloat16")
def test_libraries_and_linearized_logits_are_exact() -> None:
    model, x, _ = on_the_brink()
    oracle = Oracle(model, x, 3, QueryRules(fast=True))
    assert torch.equal(oracle.module()(x), model(x))
    assert torch.equal(oracle.jacobian(x)[0], model(x))


@pytest.mark.parametrize(
    ("low", "low_last", "folded_last", "best"),
    [
        (0.5, 0.6, 0.7, "bfloat16"),
        (0.5, 0.4, 0.7, "bfloat16, channels-last"),
        (0.5, 0.4, 0.3, "bfloat16, channels-last, folded"),
        (0.95, 0.9, 0.9, "float32"),
        (0.82, 0.82, 9.0, "float32, folded"),
    ],
)
def test_an_engine_is_taken_only_where_it_is_faster(
    low: float, low_last: float, folded_last: float, best: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = {
        "float32": 1.0,
        "bfloat16": low,
        "bfloat16, channels-last": low_last,
        "bfloat16, channels-last, folded": folded_last,
        "float32, folded": 0.98 if best == "float32" else 0.75,
    }
    monkeypatch.setattr(fast, "has_bfloat16", lambda: True)
    monkeypatch.setattr(fast, "_timed", lambda one, x, run: times.get(str(one.engine), 9.0))
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten()).eval()
    x = torch.rand(2, 1, 4, 4)
    prepared = fast.choose_engine(model, x, partial(run_on, model), 0)
    assert str(prepared.engine) == best
    assert (prepared.copy is not None) == (best != "float32")


def test_a_model_that_knows_no_low_precision_is_run_in_float32() -> None:
    class Strict(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if torch.is_autocast_enabled("cpu"):
                raise RuntimeError("float32 only")
            return x.flatten(1)

    model = Strict()
    prepared = fast.choose_engine(model, torch.rand(2, 1, 4, 4), partial(run_on, model), 0)
    assert prepared.engine == engine.EXACT


def test_a_model_that_was_trained_on_is_laid_out_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "_timed", lambda prepared, x, run: 99.0 - len(str(prepared.engine)))
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten()).eval()
    x = torch.rand(2, 1, 4, 4)
    run = partial(run_on, model)
    first = fast.choose_engine(model, x, run, 0)
    assert fast.choose_engine(model, x, run, 0) is first, "known already"
    with torch.no_grad():
        model[0].weight.mul_(2)
    second = fast.choose_engine(model, x, run, 0)
    assert second is not first and first.engine.folded
    found, stale = second(model, x).float(), first(model, x).float()
    torch.testing.assert_close(found, model(x), rtol=0.02, atol=0.02)
    assert not torch.allclose(stale, found, rtol=0.02, atol=0.02)


def run_on(model: nn.Module, prepared: engine.PreparedModel, x: torch.Tensor) -> torch.Tensor:
    return prepared(model, x)


def test_a_model_is_let_go_though_it_is_known() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten()).eval()
    fast.choose_engine(model, torch.rand(2, 1, 4, 4), partial(run_on, weakref.proxy(model)), 0)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_a_copy_walks_the_paths_of_its_model() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3))
    replace_norms(net, NormSpec.model_validate({"name": "rna", "pool": ["bn", "ln"]}))
    low = engine.Engine(torch.bfloat16, channels_last=True)
    prepared = fast._prepare(net.eval(), low, torch.rand(2, 1, 8, 8))
    assert prepared is not None and prepared.copy is not None
    x = torch.rand(6, 1, 8, 8)
    for path in (torch.zeros(1, 6), torch.ones(1, 6), torch.arange(6)[None] % 2):
        with pinned(net, path.long()), torch.no_grad():
            torch.testing.assert_close(prepared(net, x).float(), net(x), rtol=0.05, atol=0.05)


@pytest.mark.slow
def test_a_compiled_model_answers_alike_for_any_number_of_images() -> None:
    model, x, _ = on_the_brink()
    run = partial(run_on, model)
    plain = engine.PreparedModel(engine.Engine(torch.bfloat16), seconds=1.0)
    function = torch.compile(fast._copy(model), dynamic=True)
    calls: list[int] = []

    def counted(z: torch.Tensor) -> torch.Tensor:
        calls.append(len(z))
        return function(z)

    prepared = replace(plain, engine=replace(plain.engine, compiled=True), compiled=counted)
    for n in (64, 63, 2, 1):
        torch.testing.assert_close(
            prepared(model, x[:n]).float(), run(plain, x[:n]).float(), rtol=0.05, atol=0.05
        )
    assert calls == [64, 63, 2], "a single image would be compiled for anew"


def test_a_process_compiles_as_many_models_as_it_attacks(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = CompileCounter()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter))
    monkeypatch.setattr(fast, "_pays", lambda *_: True)
    plain, x = engine.PreparedModel(engine.Engine(torch.bfloat16)), torch.rand(4, 1, 4, 4)
    for number in range(12):
        torch.manual_seed(number)
        model = nn.Sequential(nn.Conv2d(1, 2 + number, 3), nn.ReLU(), nn.Flatten()).eval()
        prepared = fast.compile_if_faster(model, plain, x, partial(run_on, model))
        with torch.no_grad():
            torch.testing.assert_close(prepared(model, x).float(), model(x), rtol=0.05, atol=0.05)
        assert counter.frame_count == number + 1


def test_timing_draws_no_path_that_the_attack_would_draw() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3))
    replace_norms(net, NormSpec.model_validate({"name": "rna", "pool": ["bn", "in"]}))
    net.eval()
    x = torch.rand(8, 1, 8, 8)
    fast._PREPARED.clear()
    for _ in range(2):  # timed, then remembered
        oracle = Oracle(net, x, 3, QueryRules(stochastic=True, fast=True, seed=3))
        oracle._runner.prepared = engine.PreparedModel(engine.EXACT)
        found = oracle.query(x, torch.zeros(8, dtype=torch.int64), margin).logits
        plain = Oracle(net, x, 3, QueryRules(stochastic=True, seed=3))
        expected = plain.query(x, torch.zeros(8, dtype=torch.int64), margin).logits
        torch.testing.assert_close(found, expected)  # on another path it would be far off


def test_a_choice_is_kept_for_later_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten()).eval()
    x = torch.rand(2, 1, 4, 4)
    run = partial(run_on, model)
    monkeypatch.setattr(fast, "_timed", lambda prepared, x, run: 1.0 + 9.0 * prepared.engine.exact)
    first = fast.choose_engine(model, x, run, 0)
    monkeypatch.setattr(fast, "_timed", lambda prepared, x, run: 10.0 - 9.0 * prepared.engine.exact)
    again = copy.deepcopy(model)
    second = fast.choose_engine(again, x, partial(run_on, again), 0)
    assert first.engine == second.engine != engine.EXACT
    other = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten()).eval()
    assert fast.choose_engine(other, x, partial(run_on, other), 0).engine == engine.EXACT


def test_a_damaged_choice_is_made_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RBENCH_CACHE", str(tmp_path))
    assert cached_choice("q", lambda: {"a": 1}) == {"a": 1}
    (tmp_path / "engines" / "q.json").write_text("{")
    assert cached_choice("q", lambda: {"a": 2}) == {"a": 2}
    assert cached_choice("q", lambda: {"a": 3}) == {"a": 2}
    monkeypatch.setenv("RBENCH_CACHE", str(tmp_path / "engines" / "q.json"))  # no folder
    assert cached_choice("r", lambda: {"a": 4}) == {"a": 4}


@pytest.mark.usefixtures("one_thread")
def test_passes_grow_while_that_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()).eval()
    x = torch.rand(32, 1, 4, 4)
    cost = {16: 1.1, 32: 1.0, 64: 0.9, 128: 0.91, 256: 0.95}

    def timed(prepared: engine.PreparedModel, some: torch.Tensor, run: object) -> float:
        return cost[len(some)] * len(some) / 1000 * (1 if prepared.engine.exact else 9)

    monkeypatch.setattr(fast, "_timed", timed)
    prepared = fast.choose_engine(model, x, partial(run_on, model), 1024)
    assert (prepared.fits, prepared.seconds) == (128, 0.0009)


@pytest.mark.usefixtures("one_thread")
def test_a_pass_too_large_for_memory_is_halved() -> None:
    sizes, failed = list[int](), list[int]()

    class Small(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if len(x) > 10:
                failed.append(len(x))
                raise torch.OutOfMemoryError("CUDA out of memory")
            sizes.append(len(x))
            return x.flatten(1)

    x, y = torch.rand(37, 1, 2, 2), torch.arange(37) % 4
    plain = nn.Flatten()
    oracle = Oracle(Small(), x, 4, QueryRules())
    answer, expected = oracle.query(x, y, cross_entropy), Oracle(plain, x, 4, QueryRules())
    assert answer.grad is not None
    whole = expected.query(x, y, cross_entropy)
    torch.testing.assert_close(vars(answer), vars(whole))
    assert sum(sizes) == 37 and max(sizes) == 9
    assert failed == [19]
    oracle.query(x, y, cross_entropy)
    assert failed == [19], "it is remembered"
    coupled = Oracle(Small(), x, 4, QueryRules(batch_dependent=True))
    with pytest.raises(torch.OutOfMemoryError):
        coupled.query(x, y, cross_entropy)


def test_answers_about_the_clean_batch_are_shared_and_counted_for_each() -> None:
    model, x, y = on_the_brink()
    calls: list[int] = []
    model.register_forward_hook(lambda *_: calls.append(1))
    memo = Memo()
    oracles = [Oracle(model, x, 3, QueryRules(), memo) for _ in range(3)]
    answers = [oracles[0].query(x.clone(), y, cross_entropy)]
    once = len(calls)
    answers += [oracle.query(x.clone(), y, cross_entropy) for oracle in oracles[1:]]
    assert len(calls) == once
    for answer, oracle in zip(answers, oracles, strict=True):
        assert answer.grad is not None and answers[0].grad is not None
        assert torch.equal(answer.grad, answers[0].grad)
        assert oracle.passes.forwards.tolist() == oracle.passes.backwards.tolist() == [1] * N
    answers[0].grad.zero_()
    assert bool(oracles[0].query(x, y, cross_entropy).grad.abs().sum() > 0)
    for asked in ((x + 0.1, y), (x, (y + 1) % 3)):
        before = len(calls)
        Oracle(model, x, 3, QueryRules(), memo).query(*asked, cross_entropy)
        assert len(calls) == before + once, "another question"


class Remembering(nn.Module):
    """Moves a buffer in every pass."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += len(x)
        return self.conv(x).flatten(1) + 0 * self.seen


def test_a_model_that_moves_its_buffers_is_searched_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def timed(prepared: engine.PreparedModel, x: torch.Tensor, run: fast.Run) -> float:
        run(prepared, x)
        return 1.0 if prepared.engine.exact else 0.1

    monkeypatch.setattr(fast, "_timed", timed)
    for kind, exact in ((Remembering, True), (partial(nn.Sequential, nn.Conv2d(1, 2, 3)), False)):
        model = kind().eval().requires_grad_(False)
        prepared = fast.choose_engine(model, torch.rand(4, 1, 4, 4), partial(run_on, model), 64)
        assert prepared.engine.exact == exact


def test_weights_that_swap_places_are_other_weights() -> None:
    """Their sum is the same, and assigning ``data`` leaves no trace in a tensor's version."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 4))
    before = _weights_state(model)
    assert _weights_state(model) == before
    model[1].weight.data = model[1].weight.data.flip(0)
    assert _weights_state(model) != before


def test_a_choice_is_made_once_where_the_cache_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("RBENCH_CACHE", str(tmp_path / "file"))
    made = []

    def find_out() -> dict[str, int]:
        made.append(1)
        return {"n": len(made)}

    assert [cached_choice("k", find_out) for _ in range(2)] == [{"n": 1}] * 2
    assert cached_choice("other", find_out) == {"n": 2}
