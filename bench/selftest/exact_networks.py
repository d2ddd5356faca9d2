"""Small ReLU networks whose robustness complete methods decide, and attacks held against them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from bench.attacks.randomness import seeded
from bench.evaluation.api import AttackLike, evaluate
from bench.evaluation.result import EvaluationResult
from bench.oracle import margin
from bench.selftest.case import Case, Outcome, alarm_codes
from bench.selftest.exact import Images, images, template_images
from bench.selftest.proofs import Array, Layers, Proof, Verdict, layers_of, prove_l2, prove_linf

CLASSES = (0, 1, 7, 8)
"""Classes of Fashion-MNIST that the networks tell apart: T-shirt, trousers, sneaker, bag. Four, for
AutoAttack's targeted loss ranks four logits."""

POOL = 7
"""Side of the squares of pixels that are averaged, so that 28 x 28 become 4 x 4."""

WIDTHS = (10, 6)
"""Neurons of the hidden layers."""

STEPS, RATE = 300, 0.02
"""Steps of Adam on all training images at once, and its rate: under a second."""

N_POOL, N_EACH = 300, 16
"""Images that are looked at before the other classes go, and how many of each verdict are kept."""

FEWEST = 5
"""Images of each verdict without which the case shows nothing."""

ATTACKS: tuple[AttackLike, ...] = ("pgd", "auto", ("autoattack", {"n_queries": 1000}))


@dataclass(frozen=True)
class Setting:
    """A norm with its complete method.

    Attributes:
        norm: ``linf`` or ``l2``.
        eps: The radius, in pixel units.
        dual: Order of the dual norm, which measures gradients.
        prove: The method.
    """

    norm: str
    eps: float
    dual: float
    prove: Callable[[Layers, Array, int, float], Proof]


SETTINGS = (
    Setting("linf", 0.05, 1, prove_linf),
    Setting("l2", 0.2, 2, prove_l2),
)
"""At these radii both verdicts are common."""


def small_images(data: Images) -> Images:
    """Returns the images (n, 1, 4, 4) of the four classes, and labels from 0 to 3."""
    known = torch.full((10,), -1)
    known[torch.tensor(CLASSES)] = torch.arange(len(CLASSES))
    small = Images(F.avg_pool2d(data.x, POOL), known[data.y])
    return small.where(small.y >= 0)


@cache
def small_network() -> nn.Sequential:
    """Returns a network that is trained on other images, always the same."""
    data = small_images(template_images())
    with seeded(0):
        sizes = [data.x[0].numel(), *WIDTHS]
        hidden = [
            layer
            for before, after in pairwise(sizes)
            for layer in (nn.Linear(before, after), nn.ReLU())
        ]
        net = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(sizes[-1], len(CLASSES)))
    optimizer = torch.optim.Adam(net.parameters(), RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        F.cross_entropy(net(data.x), data.y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return net.requires_grad_(False).eval()


def boundary_distance(net: nn.Sequential, data: Images, dual: float) -> Tensor:
    """Returns how far (n,) the boundary seems from each image: of the network linearized there.

    Args:
        net: The network.
        data: The images.
        dual: Order of the dual norm.
    """
    x = data.x.clone().requires_grad_()
    lost = margin(net(x), data.y)
    (slope,) = torch.autograd.grad(lost.sum(), x)
    steepness: Tensor = torch.linalg.vector_norm(slope.flatten(1), dual, dim=1)
    return -lost.detach() / steepness


def prove(setting: Setting, data: Images) -> list[Proof]:
    """Returns what is proved of each image."""
    layers, flat = layers_of(small_network()), data.x.flatten(1).double().numpy()
    return [
        setting.prove(layers, np.asarray(x), y, setting.eps)
        for x, y in zip(flat, data.y.tolist(), strict=True)
    ]


def close_calls(setting: Setting) -> tuple[Images, list[Proof]]:
    """Returns images that are right, with what is proved of them.

    Of each verdict they are the ``N_EACH`` whose boundary seems closest to the radius.
    """
    net, data = small_network(), small_images(images(N_POOL))
    distance = boundary_distance(net, data, setting.dual)
    data, away = data.where(distance > 0), (distance[distance > 0] - setting.eps).abs()
    proofs = prove(setting, data)
    order = away.argsort(stable=True).tolist()
    chosen = [
        i
        for verdict in ("robust", "broken", "open")
        for i in [i for i in order if proofs[i].verdict == verdict][:N_EACH]
    ]
    return Images(data.x[chosen], data.y[chosen]), [proofs[i] for i in chosen]


def evaluate_small(setting: Setting, data: Images) -> EvaluationResult:
    """Returns the evaluation of the network under all attacks in a setting."""
    threat = f"{setting.norm}:{setting.eps}"
    return evaluate(small_network(), data.x, data.y, threat, ATTACKS)


def refutations(
    result: EvaluationResult, verdicts: Sequence[Verdict]
) -> tuple[int, dict[str, int]]:
    """Holds an evaluation against proofs.

    Args:
        result: The evaluation.
        verdicts: What is proved of each image.

    Returns:
        How many images that are proved robust some attack breaks, and how many that are proved
        broken each attack breaks.
    """
    said = {label: [row.robust == 0 for row in cell.rows] for label, cell in result.cells.items()}
    robust, broken = (
        [i for i, verdict in enumerate(verdicts) if verdict == wanted]
        for wanted in ("robust", "broken")
    )
    refuted = sum(any(one[i] for one in said.values()) for i in robust)
    return refuted, {label: sum(one[i] for i in broken) for label, one in said.items()}


def held_against_proofs(setting: Setting) -> Outcome:
    """No attack breaks what is proved robust; ``auto`` breaks all that is proved broken."""
    data, proofs = close_calls(setting)
    verdicts = [proof.verdict for proof in proofs]
    robust, broken = verdicts.count("robust"), verdicts.count("broken")
    result = evaluate_small(setting, data)
    refuted, found = refutations(result, verdicts)
    codes = sorted(alarm_codes(result))
    breaks = ", ".join(f"{label} breaks {n}" for label, n in found.items())
    return Outcome(
        f"none of {robust} proved robust is broken; auto breaks all {broken} proved broken; no "
        "alarm",
        f"{refuted} of {robust}; {breaks} of {broken}; {', '.join(codes) or 'no alarm'}",
        min(robust, broken) >= FEWEST and not refuted and found["auto"] == broken and not codes,
    )


CASES = tuple(
    Case(
        f"proved-{setting.norm}",
        19,
        f"nothing: small networks, proved image by image in {setting.norm}",
        partial(held_against_proofs, setting),
    )
    for setting in SETTINGS
)
