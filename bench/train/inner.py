"""The inner maximization of adversarial training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bench.train.recipe import InnerAttack


def perturb(
    logits: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    attack: InnerAttack,
    generator: torch.Generator,
) -> Tensor:
    """Returns PGD examples of images (b, c, h, w) in [0, 1], inside the linf ball and the box.

    Source: Madry et al., https://arxiv.org/abs/1706.06083, equation 2, from a uniform start.
    """
    eps = attack.threat_model.eps
    noise = torch.rand(x.shape, generator=generator, device=generator.device).to(x.device)
    low, high = (x - eps).clamp(min=0), (x + eps).clamp(max=1)
    x_adv = torch.clamp(x + (2 * noise - 1) * eps, low, high)
    for _ in range(attack.n_iter):
        x_adv = x_adv.detach().requires_grad_()
        loss = F.cross_entropy(logits(x_adv), y, reduction="sum")
        (grad,) = torch.autograd.grad(loss, x_adv)
        x_adv = torch.clamp(x_adv.detach() + attack.alpha * grad.sign(), low, high)
    return x_adv.detach()
