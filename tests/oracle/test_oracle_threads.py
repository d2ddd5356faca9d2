"""Images side by side: as right as one after the other, and the same for any number of threads."""

from __future__ import annotations

import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.core.cell import DataSpec
from bench.data.slice import take_slice
from bench.evaluation.api import evaluate
from bench.norms import find_paths, pinned
from bench.oracle import Oracle, QueryRules, cross_entropy, fast, frozen, margin
from bench.oracle.engine import DOUBT, ENGINES
from bench.oracle.side_by_side import replicas, side_by_side, threads
from bench.zoo import open_checkpoint

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"


def images(n: int) -> tuple[Tensor, Tensor]:
    data = take_slice(DataSpec(name="fashion-mnist", limit=n, seed=0, stratified=True))
    return torch.from_numpy(data.x), torch.from_numpy(data.y)


def test_parts_come_back_in_order_each_computed_by_one_thread_of_its_own() -> None:
    both = threading.Barrier(2, timeout=20)

    def work(member: str, part: int) -> tuple[int, str, int]:
        if part < 2:
            both.wait()  # the first two parts are at work at the same time
        return part, member, torch.get_num_threads()

    with threads(4):
        found = side_by_side(["a", "b"], work, range(7))
        assert torch.get_num_threads() == 4
    assert [part for part, _, _ in found] == list(range(7))
    assert {member for _, member, _ in found[:2]} == {"a", "b"}
    assert {n for _, _, n in found} == {1}


def test_an_error_in_any_thread_is_raised_and_ends_the_others() -> None:
    seen: list[int] = []

    def work(member: int, part: int) -> None:
        seen.append(part)
        if part == 1:
            raise ValueError("of part 1")

    with threads(2), pytest.raises(ValueError, match="of part 1"):
        side_by_side([0, 1], work, range(10_000))
    assert len(seen) < 10_000


class Keeper(nn.Module):
    """Keeps its features in the module between two steps, as many networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 8, 3), nn.Linear(8 * 26 * 26, 3)
        self.kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.kept = self.conv(x).relu()
        for _ in range(5):  # time for others to write over it
            self.kept = self.kept * 1.0
        return torch.as_tensor(self.fc(self.kept.flatten(1)))


def test_a_network_that_keeps_things_in_its_modules_is_answered_right() -> None:
    model, x = Keeper().eval().requires_grad_(False), torch.rand(256, 1, 28, 28)
    y = torch.arange(256) % 3
    expected = torch.stack([margin(model(x), y)] * 20)
    with threads(4):
        oracle = Oracle(model, x, 3, QueryRules())
        found = torch.stack([oracle.query(x, y, margin).loss for _ in range(20)])
    torch.testing.assert_close(found, expected)
    assert oracle.passes.forwards.tolist() == [20] * 256


def test_replicas_share_weights_and_nothing_else() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).eval()
    _, copy = replicas(model, 2)
    assert [id(t) for t in copy.state_dict(keep_vars=True).values()] == [
        id(t) for t in model.state_dict(keep_vars=True).values()
    ]
    assert not set(copy.modules()) & set(model.modules()) and not copy.training


class Uncopyable(nn.Module):
    def __deepcopy__(self, memo: Any) -> Any:
        raise RuntimeError("no")

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


def test_a_network_that_cannot_be_copied_has_one_thread() -> None:
    x = torch.rand(64, 1, 2, 2)
    with threads(2):
        oracle = Oracle(Uncopyable(), x, 4, QueryRules())
        answer = oracle.query(x, torch.zeros(64, dtype=torch.int64), cross_entropy)
    assert torch.equal(answer.logits, x.flatten(1))


@pytest.mark.process
@pytest.mark.parametrize(
    ("name", "stats", "options"),
    [
        ("fmnist-resnet20-bn-at", None, {}),
        ("fmnist-resnet20-gn-at", None, {}),
        ("fmnist-resnet20-rna-at", None, {"eot_iter": 2, "n_draws": 2}),
        ("fmnist-resnet20-bn", "batch", {"batch_size": 12}),
        ("fmnist-resnet20-bn", "batch", {"batch_size": 4, "adversary": "single"}),
    ],
)
def test_exact_rows_are_the_same_for_any_number_of_threads(
    name: str, stats: Any, options: dict[str, Any]
) -> None:
    x, y = images(24 if options.get("adversary") != "single" else 8)
    attacks: list[Any] = [("pgd", {"n_iter": 3}), ("square", {"n_queries": 5})]
    if stats is None:
        attacks.append(("fab_t", {"n_iter": 2, "n_target_classes": 2}))
    rows = []
    for n in (1, 2, 3):
        with threads(n):
            model = open_checkpoint(CHECKPOINTS / name).load(stats)
            result = evaluate(
                model, x, y, "linf:0.1", attacks, search="exact", sentinel=False, **options
            )
        rows.append([asdict(row) for label in result for row in result[label].rows])
    assert rows[0] == rows[1] == rows[2]


@pytest.mark.process
@pytest.mark.parametrize("name", ["bn-at", "bn", "gn", "in-at", "rna-at", "fixup"])
def test_another_layout_in_float32_moves_margins_by_less_than_is_confirmed(name: str) -> None:
    model = open_checkpoint(CHECKPOINTS / f"fmnist-resnet20-{name}").load()
    x, y = images(100)
    x = torch.cat([x, (x + 0.1 * torch.randn_like(x).sign()).clamp(0, 1)])
    y, paths = y.repeat(2), find_paths(model)
    path = None if paths is None else paths.sample(len(x), torch.Generator().manual_seed(0))

    def logits(net: nn.Module) -> Tensor:
        if path is None:
            return torch.as_tensor(net(x))
        with pinned(net, path):
            return torch.as_tensor(net(x))

    with frozen(model), torch.no_grad():
        exact = logits(model)
        engines = [engine for engine in ENGINES if not (engine.exact or engine.low)]
        prepared = [fast._prepare(model, engine, x[:16]) for engine in engines]
        copies = [one.copy for one in prepared if one is not None and one.copy is not None]
        assert len(copies) >= 1
        for copy in copies:
            moved = (margin(logits(copy), y) - margin(exact, y)).abs() / exact.abs().amax(1)
            assert moved.max() < DOUBT[torch.float32]


@pytest.mark.process
@pytest.mark.parametrize("faster", ["apart", "together"])
def test_threads_take_images_of_their_own_where_that_is_faster(
    faster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_checkpoint(CHECKPOINTS / "fmnist-resnet20-bn-at").load()
    x, y = images(64)
    timed = fast._timed

    def slowed(prepared: Any, x: Tensor, run: Any) -> float:
        apart = prepared.engine.side_by_side
        if apart == (faster == "together"):
            time.sleep(0.5)  # of each part, or of the whole
        return timed(prepared, x, run) + 0.5 * (apart == (faster == "together"))

    monkeypatch.setattr(fast, "_timed", slowed)
    with frozen(model), threads(2):
        oracle = Oracle(model, x, 10, QueryRules(fast=True))
        found = oracle.query(x, y, margin)
        expected = margin(model(x), y)
    assert oracle.engine.side_by_side == (faster == "apart")
    torch.testing.assert_close(found.loss, expected, rtol=1e-4, atol=1e-4)
