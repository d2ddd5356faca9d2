"""Sound models, which must raise no alarm."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from bench.attacks.randomness import seeded
from bench.core.norm_spec import NormSpec
from bench.evaluation.api import AttackLike, evaluate
from bench.evaluation.result import EvaluationResult
from bench.norms import norm_factory
from bench.selftest.case import Case, Outcome, alarm_codes, percent
from bench.selftest.exact import EPS, N_CLASSES, Template, images, split, template_images

SOUND_ATTACKS: tuple[AttackLike, ...] = (
    "natural",
    "fgsm",
    "pgd",
    ("apgd", {"n_iter": 20}),
    ("square", {"n_queries": 50}),
    "noise",
)

BATCH = 16

SMALL_EPS = 0.02
"""Radius for the small networks, at which most of them keep some images right."""

WIDTH = 8
"""Channels of the random convolution."""


class RandomFeatures(nn.Module):
    """A random convolution, a norm, and a linear readout that is fitted in closed form."""

    def __init__(self, norm: NormSpec) -> None:
        super().__init__()
        with seeded(0):
            self.conv = nn.Conv2d(1, WIDTH, 5, stride=2, padding=2)
        self.norm = norm_factory(norm)(WIDTH)
        self.readout = nn.Linear(WIDTH * 49, N_CLASSES)
        self._fit()
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Maps images (b, 1, 28, 28) to logits (b, 10)."""
        return torch.as_tensor(self.readout(self.features(x)))

    def features(self, x: Tensor) -> Tensor:
        """Maps images to features (b, WIDTH * 49)."""
        return F.avg_pool2d(F.softplus(self.norm(self.conv(x))), 2).flatten(1)

    @torch.no_grad()
    def _fit(self) -> None:
        """Fits the readout by ridge regression, once the norm has tracked its statistics."""
        data = template_images()
        self.train()
        for part in split(data.x, 200) * 5:
            self.features(part)
        self.eval()
        parts = [self.features(part) for part in split(data.x, BATCH)]
        ones = torch.ones(len(data.y), 1)
        features = torch.cat([torch.cat(parts), ones], 1).double()
        wanted = 10 * F.one_hot(data.y, N_CLASSES).double()
        ridge = torch.eye(features.shape[1], dtype=torch.float64)
        solved = torch.linalg.solve(features.T @ features + ridge, features.T @ wanted).float()
        self.readout.weight.copy_(solved[:-1].T)
        self.readout.bias.copy_(solved[-1])


def _sound(make: Callable[[], nn.Module], eps: float) -> Callable[[], Outcome]:
    """Returns a case in which a model must raise no alarm."""

    def run() -> Outcome:
        data = images()
        result = evaluate(
            make(), data.x, data.y, f"linf:{eps}", SOUND_ATTACKS, batch_size=BATCH, n_draws=10
        )
        return quiet(result)

    return run


def quiet(result: EvaluationResult) -> Outcome:
    """Returns the outcome of an evaluation that must be complete and without alarms."""
    codes = sorted(alarm_codes(result))
    incomplete = [label for label, cell in result.cells.items() if not cell.info.complete]
    if incomplete:
        return Outcome("no alarm", f"incomplete: {', '.join(incomplete)}", False)
    clean, robust = result.clean_accuracy().value, result.worst_case().value
    got = ", ".join(codes) or "no alarm"
    return Outcome(
        "no alarm", f"{got}; clean {percent(clean)}, robust {percent(robust)}", not codes
    )


NORMS = {
    "bn": NormSpec(name="bn"),
    "gn": NormSpec(name="gn", groups=4),
    "in": NormSpec(name="in"),
    "ln": NormSpec(name="ln"),
    "rna": NormSpec(name="rna", pool=(NormSpec(name="bn"), NormSpec(name="gn", groups=4))),
    "batch": NormSpec(name="bn", stats="batch"),
}
"""The norm of each sound model; ``batch`` is on batch statistics."""

CASES = (
    Case("sound-linear", 20, "a linear classifier", _sound(Template, EPS)),
    *(
        Case(
            f"sound-{name}",
            20,
            f"a small network with {norm.label()}" + " on batch statistics" * (name == "batch"),
            _sound(partial(RandomFeatures, norm), SMALL_EPS),
        )
        for name, norm in NORMS.items()
    ),
)
