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
    noise: Tensor,
    std: Tensor | float = 1.0,
) -> Tensor:
    """Returns adversarial examples of images (b, c, h, w) in [0, 1], inside the box.

    Those of ``pgd`` are in the linf ball; those of ``n-fgsm`` reach up to three times as far.

    Args:
        logits: The model under attack.
        x: Images.
        y: Labels (b,).
        attack: Method, ball, step size and number of steps.
        noise: Uniform in [0, 1], of x's shape; determines the random start.
        std: The model's standard deviation (1, c, 1, 1): the unit of an eps in normalized space.

    Sources: Madry et al., https://arxiv.org/abs/1706.06083, equation 2, from a uniform start; de
    Jorge et al., https://arxiv.org/abs/2202.01181, algorithm 1.
    """
    unit = std if attack.threat_model.eps_space == "normalized" else 1.0
    eps, alpha = attack.threat_model.eps * unit, attack.alpha * unit
    if attack.method == "n-fgsm":
        reach, low, high = 2 * eps, torch.zeros_like(x), torch.ones_like(x)
    else:
        reach, low, high = eps, (x - eps).clamp(min=0), (x + eps).clamp(max=1)
    x_adv = torch.clamp(x + (2 * noise - 1) * reach, low, high)
    for _ in range(attack.n_iter):
        x_adv = x_adv.detach().requires_grad_()
        loss = F.cross_entropy(logits(x_adv), y, reduction="sum")
        (grad,) = torch.autograd.grad(loss, x_adv)
        x_adv = torch.clamp(x_adv.detach() + alpha * grad.sign(), low, high)
    return x_adv.detach()
