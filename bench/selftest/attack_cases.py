"""Planted attacks that crash, cheat, or do nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from bench.attacks import ATTACKS, get_attack, parse_params
from bench.attacks.base import Attack, AttackFunction, Budget
from bench.attacks.params import NoParams
from bench.core.attack import AttackKind
from bench.core.model_spec import ModelSpec
from bench.core.norm_spec import NormSpec
from bench.core.spec import Spec
from bench.evaluation.api import evaluate
from bench.metrics import attack_success_rate
from bench.models import Classifier
from bench.oracle import Oracle, cross_entropy
from bench.selftest.case import Case, Outcome, has_alarm, is_incomplete, percent
from bench.selftest.exact import (
    EPS,
    Images,
    Template,
    exact_accuracy,
    images,
    worst_images,
    worst_margins,
)

PLANTED = "planted"
"""Name of the planted attack."""


@contextmanager
def planted(run: AttackFunction, kind: AttackKind = "bounded") -> Iterator[str]:
    """Registers an attack in this context; yields its name."""
    attack = Attack(
        name=PLANTED,
        version=1,
        kind=kind,
        norms=("linf", "l2"),
        params=NoParams,
        run=run,
        summary="planted by the selftest",
        url="",
    )
    ATTACKS.add(PLANTED, attack)
    try:
        yield PLANTED
    finally:
        ATTACKS.remove(PLANTED)


def returns(x_adv: Tensor) -> AttackFunction:
    """Returns an attack that returns given images, all in one batch."""

    def run(
        oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int
    ) -> Tensor:
        return x_adv.clone()

    return run


class Recorded:
    """A registered attack that also records its images, batch by batch."""

    def __init__(self, name: str, **params: object) -> None:
        self.attack = get_attack(name)
        self.params = parse_params(self.attack, params)
        self.batches: list[Tensor] = []

    def __call__(
        self, oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int
    ) -> Tensor:
        """Runs the attack."""
        x_adv: Tensor = self.attack.run(oracle, x, y, budget, self.params, seed)
        self.batches.append(x_adv.detach().clone())
        return x_adv

    @property
    def x_adv(self) -> Tensor:
        """All returned images (n, c, h, w), in order."""
        return torch.cat(self.batches)


def crashes(
    oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int
) -> Tensor:
    """Runs out of memory."""
    raise RuntimeError("out of memory (planted)")


def one_nan(
    oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int
) -> Tensor:
    """Returns the images with a NaN in one pixel of the first."""
    x_adv = x.clone()
    x_adv[0, 0, 0, 0] = torch.nan
    return x_adv


def twice_as_far(
    oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int
) -> Tensor:
    """Takes a step of twice eps along the gradient, inside the box."""
    return (x + 2 * budget.eps[0] * _ascent(oracle, x, y)).clamp(0, 1)


def unclipped(
    oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int
) -> Tensor:
    """Takes a step of eps along the gradient, without clipping to the box."""
    return x + budget.eps[0] * _ascent(oracle, x, y)


def _ascent(oracle: Oracle, x: Tensor, y: Tensor) -> Tensor:
    grad = oracle.query(x, y, cross_entropy).grad
    assert grad is not None
    return grad.sign()


SMALL_AUTOATTACK = ("autoattack", {"n_iter": 20, "n_queries": 100})
"""Strong enough for the exact answer on a linear classifier."""

THREAT = f"linf:{EPS}"

STD, NORMALIZED_EPS = 0.25, 0.2


def _incomplete(attack: AttackFunction, reason: str) -> Callable[[], Outcome]:
    """Returns a case in which an attack must make its cell incomplete, for a given reason."""

    def run() -> Outcome:
        data = images()
        with planted(attack) as name:
            result = evaluate(Template(), data.x, data.y, THREAT, [name], batch_size=16)
        return is_incomplete(result, name, reason)

    return run


def eps_in_the_wrong_space() -> Outcome:
    """An attack takes an eps in units of the normalized input for one in pixels."""
    data = images(16)
    net = _Normalized()
    spec = ModelSpec(
        arch="resnet20",
        norm=NormSpec(name="none"),
        channels=1,
        size=28,
        classes=10,
        mean=(net.mean,),
        std=(STD,),
    )

    def in_pixels(
        oracle: Oracle, x: Tensor, y: Tensor, budget: Budget, params: Spec, seed: int
    ) -> Tensor:
        return unclipped(oracle, x, y, Budget("linf", (NORMALIZED_EPS,)), params, seed).clamp(0, 1)

    threat = {"norm": "linf", "eps": NORMALIZED_EPS, "eps_space": "normalized"}
    with planted(in_pixels) as name:
        result = evaluate(Classifier(spec, net), data.x, data.y, threat, [name, "fgsm"])
    outcome = is_incomplete(result, name, "out of ball")
    reach = max(row.linf for row in result["fgsm"].rows)
    right = abs(reach - NORMALIZED_EPS * STD) < 1e-6
    return Outcome(
        f"{outcome.expected}; fgsm goes {NORMALIZED_EPS * STD:.3f} pixels far",
        f"{outcome.got}; fgsm goes {reach:.3f}",
        outcome.caught and right,
    )


class _Normalized(nn.Module):
    """The template classifier for normalized images."""

    mean = 0.5

    def __init__(self) -> None:
        super().__init__()
        self.template = Template()

    def forward(self, x: Tensor) -> Tensor:
        """Maps normalized images to logits."""
        return torch.as_tensor(self.template(x * STD + self.mean))


def changed_model() -> Outcome:
    """Attacks that leave the model in train mode, or with a changed buffer or weight."""
    data = images(16)
    template, norm = Template(), nn.BatchNorm1d(10)
    model = nn.Sequential(template, norm).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    changes: dict[str, Callable[[], object]] = {
        "mode": lambda: template.train(),
        "buffer": lambda: norm.get_buffer("running_mean").add_(1),
        "weight": lambda: nn.init.zeros_(template.weight),
    }
    kept = []
    for what, change in changes.items():

        def attack(
            oracle: Oracle,
            x: Tensor,
            y: Tensor,
            budget: Budget,
            params: Spec,
            seed: int,
            change: Callable[[], object] = change,
        ) -> Tensor:
            change()
            return x

        with planted(attack) as name:
            info = evaluate(model, data.x, data.y, THREAT, [name])[name].info
        same = all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
        modes = not any(module.training for module in model.modules())
        if not info.complete and "changed the model" in info.error and same and modes:
            kept.append(what)
    names = ", ".join(changes)
    got = f"noticed and restored: {', '.join(kept) or 'nothing'}"
    return Outcome(f"noticed and restored: {names}", got, list(changes) == kept)


def already_wrong() -> Outcome:
    """A third of the images are misclassified before any attack."""
    data, net = images(), Template()
    result = evaluate(net, data.x, data.y, THREAT, [SMALL_AUTOATTACK])
    rate = attack_success_rate(result["autoattack"].rows)
    robust, clean = exact_accuracy(net, data), exact_accuracy(net, data, 0.0)
    expected = (clean - robust) / clean
    assert rate is not None
    return Outcome(
        f"success rate {percent(expected)}, not {percent(1 - robust)}",
        f"{percent(rate.value)} of the {rate.n} that were right",
        abs(rate.value - expected) < 1e-9,
    )


def minimum_norm() -> Outcome:
    """DeepFool breaks nearly every image, many of them beyond eps."""
    data, net = images(), Template()
    result = evaluate(net, data.x, data.y, THREAT, ["deepfool"])
    rows, exact = result["deepfool"].rows, exact_accuracy(net, data)
    beyond = [row for row in rows if row.linf > EPS + 1e-6]
    broken = sum(row.adv_correct == 0 for row in beyond)
    robust = result.robust_accuracy("deepfool").value
    kept = all(row.robust == row.clean_correct and row.played == "clean" for row in beyond)
    return Outcome(
        f"at least {percent(exact)}; what lies beyond eps does not count",
        f"{percent(robust)}; {broken} broken beyond eps {'not ' * kept}counted",
        kept and broken > 0 and exact <= robust < 1,
    )


def small_c() -> Outcome:
    """CW with c = 1e-4 and no search changes no image."""
    data = images(32)
    params = {"c": 1e-4, "binary_search_steps": 1, "n_iter": 20}
    result = evaluate(Template(), data.x, data.y, "l2:1.5", [("cw", params)])
    return has_alarm(result, "images_unchanged")


def eight_bits() -> Outcome:
    """Barely adversarial images, rounded to 8 bits before they are returned."""
    net = Template()
    data, x_adv = _just_adversarial(net, images(128))
    rounded = (x_adv * 255).round() / 255
    with planted(returns(x_adv)) as name:
        exact = evaluate(net, data.x, data.y, THREAT, [name]).robust_accuracy(name).value
    with planted(returns(rounded)) as name:
        result = evaluate(net, data.x, data.y, THREAT, [name])
    robust = worst_margins(net, data.y, rounded, rounded) > 0
    got = [row.robust == 1 for row in result[name].rows]
    expected = float(robust.double().mean())
    return Outcome(
        f"0.0 % as found, {percent(expected)} as returned",
        f"{percent(exact)} as found, {percent(sum(got) / len(got))} as returned",
        exact == 0 and got == robust.tolist() and expected > 0,
    )


def _just_adversarial(net: Template, data: Images) -> tuple[Images, Tensor]:
    """Returns correctly classified images that can be broken, and barely adversarial versions."""
    eps = 25 / 255  # rounding to 8 bits cannot leave the ball
    x_far = worst_images(net, data, eps)

    def margins(x: Tensor) -> Tensor:
        return worst_margins(net, data.y, x, x)

    between = (margins(data.x) > 0) & (margins(x_far) < -1e-3)
    data, x_far = data.where(between), x_far[between]
    low, high = torch.zeros(len(data.y)), torch.ones(len(data.y))
    for _ in range(20):
        middle = (low + high) / 2
        x = data.x + middle.view(-1, 1, 1, 1) * (x_far - data.x)
        wrong = margins(x) < -1e-4
        low, high = torch.where(wrong, low, middle), torch.where(wrong, middle, high)
    return data, data.x + high.view(-1, 1, 1, 1) * (x_far - data.x)


CASES = (
    Case("crash", 3, "an attack that raises", _incomplete(crashes, "out of memory")),
    Case("nan-x-adv", 3, "an attack that returns a NaN", _incomplete(one_nan, "not finite")),
    Case("out-of-ball", 5, "an attack that goes 2 eps far", _incomplete(twice_as_far, "of ball")),
    Case("out-of-box", 5, "an attack that forgets the box", _incomplete(unclipped, "of box")),
    Case("eps-space", 5, "a normalized eps read as pixels", eps_in_the_wrong_space),
    Case("changed-model", 6, "attacks that change mode, buffer, weight", changed_model),
    Case("already-wrong", 4, "images that are wrong before the attack", already_wrong),
    Case("minimum-norm", 9, "an attack that knows no eps", minimum_norm),
    Case("cw-small-c", 10, "CW with c = 1e-4", small_c),
    Case("eight-bit", 17, "x_adv rounded to 8 bits", eight_bits),
)
