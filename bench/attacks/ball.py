"""The ball around an image in each norm of a threat model: all geometry that depends on the norm.

Attacks, verifier and analyses ask it instead of comparing names of norms. A norm is a class here
and an entry in ``bench.core.ball``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from bench.attacks.base import Budget
from bench.attacks.planes import sparse_step_to_plane, step_to_plane
from bench.core.ball import Norm, NormFacts, norm_facts


@dataclass(frozen=True)
class Ball(ABC):
    """The ball of a budget.

    Methods that take ``radii`` work on flattened images, (..., m) with m = c * h * w pixels. They
    measure each channel in units of its radius, relative to the largest radius.

    Attributes:
        eps: Radius per channel (c,), or a single value, in pixel units.
        norm: Name of its norm.
        SLACK: Share of eps by which ``excess`` widens the ball, for rounding in float32.
        ROUNDING: How much ``excess`` allows for the rounding of each changed pixel.
        sparse: Whether few pixels make the shortest perturbation, so that steps change few.
    """

    eps: tuple[float, ...]
    norm: ClassVar[Norm]
    SLACK: ClassVar[float] = 0.0
    ROUNDING: ClassVar[float] = 0.0
    sparse: ClassVar[bool] = False

    @property
    def facts(self) -> NormFacts:
        """The facts about its norm."""
        return norm_facts(self.norm)

    @cached_property
    def scalar(self) -> float | None:
        """The radius if it is the same for every channel, else ``None``."""
        return self.eps[0] if len(set(self.eps)) == 1 else None

    def scaled(self, factor: float) -> Ball:
        """Returns the ball with a multiple of the radius."""
        return type(self)(tuple(eps * factor for eps in self.eps))

    def radius(self, x: Tensor) -> Tensor:
        """Returns the radius per channel as (1, c, 1, 1), on the device of images (b, c, h, w)."""
        return _radius(self.eps, x.shape[1], x.dtype, x.device)

    def project(self, x_adv: Tensor, x: Tensor, *, spend: bool = False) -> Tensor:
        """Returns the nearest point in the ball around x, clipped to the box [0, 1].

        Clipping to the box never leaves the ball, because x is inside the box.

        Args:
            x_adv: Points (n, c, h, w).
            x: Centres (n, c, h, w).
            spend: Whether x_adv may be overwritten, which saves memory.
        """
        delta = x_adv.sub_(x) if spend else x_adv - x
        return self._within(delta).add_(x).clamp_(0, 1)

    def radii(self, x: Tensor) -> Tensor:
        """Returns the relative radius of every pixel of images (b, c, h, w), as (1, m)."""
        return self.relative_radii(x).expand(1, *x.shape[1:]).flatten(1)

    @property
    @abstractmethod
    def step_radius(self) -> float:
        """The radius that default step sizes are a share of."""

    @abstractmethod
    def surface_step(self, x: Tensor) -> Tensor | float:
        """Returns the step along ``ascent_direction`` that reaches the ball's surface.

        Per channel (1, c, 1, 1) where radii differ, else one number.
        """

    @abstractmethod
    def relative_radii(self, x: Tensor) -> Tensor:
        """Returns the radii relative to the largest, (1, c, 1, 1)."""

    @abstractmethod
    def ascent_direction(self, grad: Tensor) -> Tensor:
        """Returns the direction of steepest ascent of unit length, for gradients (b, c, h, w)."""

    @abstractmethod
    def random_point(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Returns a uniformly random point of the ball around each image, clipped to the box."""

    @abstractmethod
    def excess(self, delta: Tensor) -> Tensor:
        """Returns how far perturbations (b, c, h, w), float64, lie beyond the surface, (b,).

        Negative inside the ball. A norm that sums over pixels allows for rounding in float32.
        """

    @abstractmethod
    def relative_size(self, delta: Tensor) -> Tensor:
        """Returns the length (n,) of perturbations (n, c, h, w) in units of eps."""

    @abstractmethod
    def size(self, delta: Tensor, radii: Tensor) -> Tensor:
        """Returns the length (...,) of perturbations (..., m)."""

    @abstractmethod
    def dual_norm(self, w: Tensor, radii: Tensor) -> Tensor:
        """Returns the dual norm (...,) of slopes (..., m): rise per unit of distance."""

    @abstractmethod
    def along(self, w: Tensor, radii: Tensor) -> Tensor:
        """Returns a direction of steepest ascent of linear functions with slopes w (..., m).

        Its length is arbitrary: one such vector raises the function by ``rise``.
        """

    @abstractmethod
    def rise(self, dual: Tensor) -> Tensor:
        """Returns how much a linear function of this dual norm rises over ``along``."""

    @abstractmethod
    def step_to_plane(self, x: Tensor, w: Tensor, gap: Tensor, radii: Tensor) -> Tensor:
        """Returns the shortest delta (n, m) with ``<w, delta> = -gap`` and x + delta in [0, 1].

        Where the box ends before the plane, the delta ends in the box's corner nearest to it.

        Args:
            x: Points (n, m).
            w: Normals (n, m).
            gap: ``<w, x> + b`` (n,).
            radii: As ``radii`` returns them.
        """

    @abstractmethod
    def orthogonal_directions(self, grad: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Returns two orthogonal directions (b, m), each as long as eps: up the loss, and random.

        Args:
            grad: Gradients (b, m), float64.
            draws: Uniform draws in [0, 1) of the same shape.
        """

    @abstractmethod
    def _within(self, delta: Tensor) -> Tensor:
        """Returns perturbations (b, c, h, w) shortened to the ball; may overwrite them."""


class _LinfBall(Ball):
    """Every pixel moves by at most eps, which may differ between channels."""

    norm = "linf"

    @property
    def step_radius(self) -> float:
        return max(self.eps)

    def surface_step(self, x: Tensor) -> Tensor | float:
        return self.radius(x) if self.scalar is None else self.scalar

    def relative_radii(self, x: Tensor) -> Tensor:
        eps = self.radius(x)
        return eps / eps.max()

    def ascent_direction(self, grad: Tensor) -> Tensor:
        return torch.sign(grad)

    def random_point(self, x: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.rand(x.shape, generator=generator).to(x) * 2 - 1
        return self.project(x + noise * self.radius(x), x)

    def excess(self, delta: Tensor) -> Tensor:
        eps = torch.tensor(self.eps, dtype=delta.dtype, device=delta.device).view(1, -1, 1, 1)
        return (delta.abs() - eps).flatten(1).amax(1)

    def relative_size(self, delta: Tensor) -> Tensor:
        size = delta.abs()
        if self.scalar is None:
            size = size.div_(self.relative_radii(delta))
        return size.flatten(1).amax(1) / max(self.eps)

    def size(self, delta: Tensor, radii: Tensor) -> Tensor:
        return (delta.abs() / radii).amax(-1)

    def dual_norm(self, w: Tensor, radii: Tensor) -> Tensor:
        return (w.abs() * radii).sum(-1)

    def along(self, w: Tensor, radii: Tensor) -> Tensor:
        return w.sign() * radii

    def rise(self, dual: Tensor) -> Tensor:
        return dual

    def step_to_plane(self, x: Tensor, w: Tensor, gap: Tensor, radii: Tensor) -> Tensor:
        return step_to_plane(x, w, gap, radii)

    def orthogonal_directions(self, grad: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the gradient's sign, and the same with a random half of its signs flipped.

        The products of the two cancel, except for one pixel if their number is odd. Pixels without
        gradient get random signs in the second.
        """
        up = grad.sign()
        ranks = torch.where(up == 0, 2.0, draws).argsort(1).argsort(1)
        flipped = ranks < (up != 0).sum(1, keepdim=True) // 2
        elsewhere = (draws < 0.5).double() * 2 - 1
        return up, torch.where(up == 0, elsewhere, torch.where(flipped, -up, up))

    def _within(self, delta: Tensor) -> Tensor:
        if self.scalar is not None:
            return delta.clamp_(-self.scalar, self.scalar)
        eps = self.radius(delta)
        return delta.clamp_(-eps, eps)


class _L2Ball(Ball):
    """The Euclidean length of the perturbation is at most eps; of several radii, the smallest."""

    norm = "l2"

    SLACK: ClassVar[float] = 1e-5
    """Share of eps by which ``excess`` widens the ball: libraries sum the squares of all pixels in
    float32, which at 3 x 224 x 224 is off by up to 4e-6 of the length."""

    @property
    def step_radius(self) -> float:
        return min(self.eps)

    def surface_step(self, x: Tensor) -> Tensor | float:
        return self.step_radius

    def relative_radii(self, x: Tensor) -> Tensor:
        return torch.ones_like(self.radius(x))

    def ascent_direction(self, grad: Tensor) -> Tensor:
        # Scaled first: the squares of gradients of saturated logits would vanish.
        largest = grad.abs().flatten(1).amax(1).view(-1, 1, 1, 1)
        grad = grad / torch.where(largest > 0, largest, 1)
        length = grad.flatten(1).norm(dim=1).clamp(min=1e-12)
        return torch.div(grad, length.view(-1, 1, 1, 1))

    def random_point(self, x: Tensor, generator: torch.Generator) -> Tensor:
        torch.rand(x.shape, generator=generator)  # unused: keeps the random stream of earlier runs
        gauss = torch.randn(x.shape, generator=generator).to(x)
        n = gauss[0].numel()
        length = torch.rand(len(x), generator=generator).to(x) ** (1 / n)
        unit = gauss / gauss.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
        return self.project(x + unit * (length * self.step_radius).view(-1, 1, 1, 1), x)

    def excess(self, delta: Tensor) -> Tensor:
        eps = torch.tensor(self.eps, dtype=delta.dtype, device=delta.device)
        return torch.sub(delta.flatten(1).norm(dim=1), eps.min() * (1 + self.SLACK))

    def relative_size(self, delta: Tensor) -> Tensor:
        euclidean: Tensor = torch.linalg.vector_norm(delta.flatten(1), dim=1)
        return euclidean / self.step_radius

    def size(self, delta: Tensor, radii: Tensor) -> Tensor:
        return torch.as_tensor(delta.norm(dim=-1))

    def dual_norm(self, w: Tensor, radii: Tensor) -> Tensor:
        return torch.as_tensor(w.norm(dim=-1))

    def along(self, w: Tensor, radii: Tensor) -> Tensor:
        return w

    def rise(self, dual: Tensor) -> Tensor:
        return dual.square()

    def step_to_plane(self, x: Tensor, w: Tensor, gap: Tensor, radii: Tensor) -> Tensor:
        return step_to_plane(x, w, gap, None)

    def orthogonal_directions(self, grad: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the gradient, and a vector of random signs less its part along the gradient."""
        up = grad / grad.norm(dim=1, keepdim=True).clamp_min(1e-300)
        random = (draws < 0.5).double() * 2 - 1
        random = random - (random * up).sum(1, keepdim=True) * up
        return up, random / random.norm(dim=1, keepdim=True).clamp_min(1e-300)

    def _within(self, delta: Tensor) -> Tensor:
        # Of many pixels, a sum of squares in float32 is off by more than the verifier lets pass.
        length = delta.flatten(1).norm(dim=1, dtype=torch.float64).clamp(min=1e-12)
        shrink = (self.step_radius / length).clamp(max=1).view(-1, 1, 1, 1)
        return torch.mul(delta, shrink).to(delta.dtype)


class _L1Ball(Ball):
    """The absolute values of the perturbation sum to at most eps; of several radii, the smallest.

    Source: https://arxiv.org/abs/2103.01208, for the projection onto ball and box; the sparse
    direction is that of https://arxiv.org/abs/1904.13000, section 2.
    """

    norm = "l1"
    sparse = True

    SHARE: ClassVar[float] = 0.01
    """Share of the pixels that a step changes: those with the largest gradients. The single largest
    one, which is steepest, soon meets its wall in the box."""

    SLACK: ClassVar[float] = 1e-5
    """Share of eps by which ``excess`` widens the ball, for sums in float32."""

    ROUNDING: ClassVar[float] = 3e-8
    """By how much a pixel in [0, 1] may be rounded in float32, which adds up over all pixels."""

    @property
    def step_radius(self) -> float:
        return min(self.eps)

    def surface_step(self, x: Tensor) -> Tensor | float:
        return self.step_radius

    def relative_radii(self, x: Tensor) -> Tensor:
        return torch.ones_like(self.radius(x))

    def project(self, x_adv: Tensor, x: Tensor, *, spend: bool = False) -> Tensor:
        """Returns the nearest point of ball and box together (proposition 2.1).

        Clipping the nearest point of the ball would leave a part of eps unused. Every pixel moves
        toward the point until it meets its wall, less one threshold for all.
        """
        delta = (x_adv.sub_(x) if spend else x_adv - x).flatten(1)
        room = torch.where(delta > 0, 1 - x.flatten(1), x.flatten(1)).double()
        size = delta.abs().double()
        left = (size - _threshold(size, room, self.step_radius)).clamp_(min=0)
        moved = torch.minimum(left, room).to(x.dtype) * delta.sign()
        return moved.view_as(x).add_(x).clamp_(0, 1)

    def ascent_direction(self, grad: Tensor) -> Tensor:
        """Returns the signs of the largest entries of the gradients, divided by their number."""
        return sparse_signs(grad, grad.new_full((len(grad),), self.SHARE))

    def random_point(self, x: Tensor, generator: torch.Generator) -> Tensor:
        draws = torch.rand(x.shape, generator=generator).to(x)
        signs = torch.rand(x.shape, generator=generator).to(x).sub_(0.5).sign_()
        away = -torch.log(draws.clamp(min=1e-12))
        length = torch.rand(len(x), generator=generator).to(x) ** (1 / x[0].numel())
        share = (length * self.step_radius / away.flatten(1).sum(1)).view(-1, 1, 1, 1)
        return self.project(x + signs * away * share, x)

    def excess(self, delta: Tensor) -> Tensor:
        size = delta.abs().flatten(1)
        rounding = self.ROUNDING * (size > 0).sum(1)
        return size.sum(1) - min(self.eps) * (1 + self.SLACK) - rounding

    def relative_size(self, delta: Tensor) -> Tensor:
        return delta.abs().flatten(1).sum(1) / self.step_radius

    def size(self, delta: Tensor, radii: Tensor) -> Tensor:
        return delta.abs().sum(-1)

    def dual_norm(self, w: Tensor, radii: Tensor) -> Tensor:
        return w.abs().amax(-1)

    def along(self, w: Tensor, radii: Tensor) -> Tensor:
        at = w.abs().argmax(-1, keepdim=True)
        return torch.zeros_like(w).scatter(-1, at, w.gather(-1, at).sign())

    def rise(self, dual: Tensor) -> Tensor:
        return dual

    def step_to_plane(self, x: Tensor, w: Tensor, gap: Tensor, radii: Tensor) -> Tensor:
        return sparse_step_to_plane(x, w, gap)

    def orthogonal_directions(self, grad: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the largest pixel of the gradient, and another one at random."""
        up = self.along(grad, grad)
        return up, self.along(torch.where(up == 0, draws + 1, 0), grad)

    def _within(self, delta: Tensor) -> Tensor:
        size = delta.abs().flatten(1).double()
        kept = (size - _threshold(size, size, self.step_radius)).clamp_(min=0)
        return kept.view_as(delta).to(delta.dtype) * delta.sign()


def _threshold(size: Tensor, room: Tensor, eps: float) -> Tensor:
    """Returns the least t >= 0 (n, 1) at which ``min((size - t)+, room)`` adds up to at most eps.

    As t falls, a pixel starts to move at ``size`` and stops at ``size - room``; between these
    points the sum rises evenly, so that sorting them finds t exactly.

    Args:
        size: Lengths (n, m) that pixels want to go, float64.
        room: Lengths (n, m) that they may go.
        eps: Length that they may go together.
    """
    marks = torch.cat([size, (size - room).clamp(min=0), torch.zeros_like(size[:, :1])], 1)
    starts = torch.ones_like(size)
    change = torch.cat([starts, -starts, torch.zeros_like(size[:, :1])], 1)
    marks, order = marks.sort(dim=1, descending=True)
    moving = change.gather(1, order).cumsum(1)[:, :-1]
    gained = (moving * (marks[:, :-1] - marks[:, 1:])).cumsum(1)
    before = torch.cat([torch.zeros_like(gained[:, :1]), gained], 1)
    last = (gained < eps).sum(1, keepdim=True)  # the stretch in which eps is reached
    inside = last.clamp(max=gained.shape[1] - 1)
    rest = (eps - before.gather(1, inside)) / moving.gather(1, inside).clamp(min=1)
    found = marks.gather(1, inside) - rest
    return torch.where(last < gained.shape[1], found, 0.0).clamp(min=0)


def sparse_signs(grad: Tensor, share: Tensor) -> Tensor:
    """Returns the signs of a share (b,) of each gradient (b, c, h, w), the largest, of l1 length 1.

    At least one entry is kept; entries of zero are none.
    """
    flat = grad.flatten(1).abs()
    n = flat.shape[1]
    kept = (share * n).ceil().clamp(1, n).long() - 1
    least = flat.sort(dim=1, descending=True).values.gather(1, kept[:, None])
    signs = torch.where(flat >= least, grad.flatten(1).sign(), 0.0)
    return (signs / signs.abs().sum(1, keepdim=True).clamp(min=1)).view_as(grad)


BALLS: dict[str, type[Ball]] = {ball.norm: ball for ball in (_LinfBall, _L2Ball, _L1Ball)}


@lru_cache(maxsize=256)
def ball_of(budget: Budget) -> Ball:
    """Returns the ball of a budget.

    Raises:
        UserError: When threat models do not know the norm.
    """
    norm_facts(budget.norm)
    return BALLS[budget.norm](budget.eps)


@lru_cache(maxsize=64)
def _radius(
    eps: tuple[float, ...], channels: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Returns ``Ball.radius``, cached: every step of every attack asks for it. Do not write."""
    values = torch.tensor(eps, dtype=dtype, device=device).view(1, -1, 1, 1)
    return values.expand(1, channels, 1, 1)
