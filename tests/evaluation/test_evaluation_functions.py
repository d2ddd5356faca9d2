"""An attack that is a plain function: called with the oracle's view, judged as any other."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation_scenes import QUICK, Brightness, images, sign_step
from torch import Tensor, nn

from bench import evaluate
from bench.attacks.from_function import function_attack
from bench.core.errors import UserError


def test_a_function_is_judged_as_the_native_attack_that_it_writes_out() -> None:
    x, y = images()
    result = evaluate(Brightness(), x, y, "linf:0.11", [sign_step, "fgsm"], **QUICK)
    mine, native = result["sign_step"], result["fgsm"]
    assert [row.robust for row in mine.rows] == [row.robust for row in native.rows]
    assert [row.robust for row in mine.rows] == [0.0] * 5 + [1.0] * 7
    assert torch.equal(result.x_adv["sign_step"], result.x_adv["fgsm"])
    assert mine.info.spec.attack == "function:sign_step" and mine.info.precision == "float32"


def test_its_passes_are_counted_and_it_sees_batches_and_eps() -> None:
    x, y = images()
    seen = []

    def spy(model: nn.Module, x: Tensor, y: Tensor, eps: float, times: int) -> Tensor:
        seen.append((len(x), eps, len(y), type(model).__name__, x.requires_grad))
        for _ in range(times):
            model(x)
        return sign_step(model, x, y, eps)

    entry = {"attack": spy, "params": {"times": 3}, "label": "mine"}
    rows = evaluate(Brightness(), x, y, "linf:0.1", [entry], batch_size=5, **QUICK)["mine"].rows
    assert seen == [(n, pytest.approx(0.1), n, "OracleModule", False) for n in (5, 5, 2)]
    assert {(row.forwards, row.backwards) for row in rows} == {(4.0, 1.0)}


@pytest.mark.parametrize(
    ("returns", "why"),
    [
        (lambda x, eps: (x + 2 * eps).clamp(0, 1), "12 of 12 out of ball"),
        (lambda x, eps: x + eps, "1 of 12 out of box"),
        (lambda x, eps: x * torch.nan, "12 of 12 not finite"),
        (lambda x, eps: x[:3], r"returned shape \(3, 3, 8, 8\)"),
        (lambda x, eps: x.numpy(), "returned ndarray, expected a tensor"),
        (lambda x, eps: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_what_it_returns_is_never_trusted(returns: Any, why: str) -> None:
    """One image has a mean of 0.74, and the last of 0.26, so that + 0.27 leaves the box."""
    x, y = images()

    def bad(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Any:
        return returns(x, eps)

    eps = 0.261 if "box" in why else 0.05
    result = evaluate(Brightness(), x, y, ("linf", eps), [bad, "fgsm"], **QUICK)
    assert not result["bad"].info.complete
    with pytest.raises(UserError, match=why):
        result.robust_accuracy("bad")
    assert "bad: incomplete" in repr(result) and result["fgsm"].info.complete


def test_a_function_that_changes_the_model_or_the_images_changes_no_number() -> None:
    x, y = images()
    model, before = Brightness(), x.clone()

    def vandal(view: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
        with torch.no_grad():
            model.slope.zero_()
        return x.add_(eps).clamp_(0, 1)

    result = evaluate(model, x, y, "linf:0.1", [vandal], **QUICK)
    assert "changed the model" in result["vandal"].info.error
    assert model.slope == 20 and torch.equal(x, before)


def test_a_batch_dependent_model_is_attacked_as_a_whole() -> None:
    class Centred(Brightness):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x - x.mean() + 0.5)

    def one_by_one(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
        return torch.cat([sign_step(model, x[i : i + 1], y[i : i + 1], eps) for i in range(len(x))])

    x, y = images()
    declared = {**QUICK, "batch_dependent": True}
    result = evaluate(Centred(), x, y, "linf:0.1", [sign_step, one_by_one], **declared)
    assert result["sign_step"].info.complete
    assert "passed 1 images of a batch of 12 on" in result["one_by_one"].info.error


def test_the_same_seed_gives_the_same_draws() -> None:
    def random(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
        return (x + eps * (2 * torch.rand_like(x) - 1)).clamp(0, 1)

    x, y = images()
    run = functools.partial(evaluate, Brightness(), x, y, "linf:0.1", [random], **QUICK)
    first, again, other = run().x_adv["random"], run().x_adv["random"], run(seed=1).x_adv["random"]
    assert torch.equal(first, again) and not torch.equal(first, other)


def made(source: str, **names: Any) -> Any:
    """Returns the function ``f`` that some source defines."""
    found = {"torch": torch, "__name__": "mine", **names}
    exec(source, found)
    return found["f"]


ONE_LINE = (lambda model, x, y, eps: x + eps), (lambda model, x, y, eps: x - eps)
PLAIN = "def f(model, x, y, eps):\n    return x + eps\n"
HELPED = "def half(e):\n    return e / 2\n\ndef f(model, x, y, eps):\n    return x + half(eps)\n"


def code_of(function: Any, **options: Any) -> Any:
    found = function_attack(function, **options)
    assert not found.unknown, found.unknown
    return found.info.params


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: made(PLAIN), lambda: made(PLAIN.replace("+", "-"))),
        (lambda: made(HELPED), lambda: made(HELPED.replace("/ 2", "/ 3"))),
        (lambda: made(PLAIN, eps=1), lambda: made(PLAIN.replace("+ eps", "+ k"), k=1)),
        (lambda: uses(0.1), lambda: uses(0.2)),
        (lambda: uses(torch.ones(2)), lambda: uses(torch.zeros(2))),
        (lambda: uses(Brightness(1.0)), lambda: uses(Brightness(2.0))),
        (lambda: uses([1, {"a": 2}]), lambda: uses([1, {"a": 3}])),
        (
            lambda: functools.partial(uses(1), n=1),
            lambda: functools.partial(uses(1), n=2),
        ),
        (lambda: Stepper(1), lambda: Stepper(2)),
        (lambda: Stepper(1), lambda: Stepping(1)),
        (lambda: ONE_LINE[0], lambda: ONE_LINE[1]),
        (lambda: made(PLAIN), lambda: made(PLAIN.replace("eps\n", "2 * eps\n"))),
    ],
)
def test_what_a_function_does_tells_it_from_another(one: Any, other: Any) -> None:
    assert code_of(one()) == code_of(one())
    assert code_of(one()) != code_of(other())


def uses(value: Any) -> Any:
    def f(model: nn.Module, x: Tensor, y: Tensor, eps: float, n: int = 0) -> Tensor:
        return x + eps * (value is None)

    return f


class Stepper:
    """An object that is called."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
        return x + eps / self.n


class Stepping(Stepper):
    """Another object that is called, of the same fields."""

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
        return x - eps / self.n


def test_arguments_and_an_identity_that_is_vouched_for_are_part_of_it() -> None:
    arguments = {"arguments": {"n": 3}}
    assert code_of(uses(1), **arguments) != code_of(uses(1))
    vouched = code_of(uses(torch.Generator()), identity="v1", **arguments)
    assert vouched == {"identity": "v1", "arguments": {"n": 3}}


def test_what_cannot_be_told_is_run_and_not_stored(tmp_path: Path) -> None:
    x, y = images()
    unknown = uses(torch.Generator())
    entry = {"attack": unknown, "label": "mine"}
    once, again = (evaluate(Brightness(), x, y, "linf:0.1", [entry], **QUICK) for _ in range(2))
    assert once["mine"].info.complete
    assert once["mine"].info.cell_id != again["mine"].info.cell_id, "nobody knows that it is one"
    with pytest.raises(UserError, match=r"attacks\[0\]: .*value is a Generator.*'identity': 'v1'"):
        evaluate(Brightness(), x, y, "linf:0.1", [entry], out=tmp_path, **QUICK)
    vouched = {**entry, "identity": "v1"}
    assert evaluate(Brightness(), x, y, "linf:0.1", [vouched], out=tmp_path, **QUICK)
