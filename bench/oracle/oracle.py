"""What an attack sees of a model: losses, gradients and logits, never the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bench.core.cell import Adversary
from bench.norms import find_paths, pinned
from bench.oracle.losses import Loss


@dataclass(frozen=True)
class Access:
    """How an oracle may be asked, and how it answers.

    Attributes:
        stochastic: Whether passes draw at random.
        batch_dependent: Whether images of a batch share statistics.
        eot_iter: Draws over which losses and gradients are averaged, at least 1.
        adversary: Of a batch-dependent model, see ``bench.core.cell``.
        max_pass: Most images in one pass; larger queries are cut, which never changes a result.
        seed: Of the draws.
    """

    stochastic: bool = False
    batch_dependent: bool = False
    eot_iter: int = 1
    adversary: Adversary = "joint"
    max_pass: int = 1024
    seed: int = 0


@dataclass(frozen=True)
class Evaluation:
    """What one query returned, per sample of the query (n of them).

    Attributes:
        loss: (n,), mean over draws.
        grad: (n, c, h, w), the gradient of that mean; ``None`` if it was not asked for.
        correct: (n,), fraction of the draws that predict y.
        logits: (n, n_classes), mean over draws. The mean's prediction is not that of a stochastic
            model: ``correct`` is.
    """

    loss: Tensor
    grad: Tensor | None
    correct: Tensor
    logits: Tensor


class Passes:
    """Passes spent on each image of the batch: float64 tensors (b,), whole for native attacks."""

    def __init__(self, batch: int) -> None:
        self.forwards = torch.zeros(batch, dtype=torch.float64)
        self.backwards = torch.zeros(batch, dtype=torch.float64)

    def add(self, kind: str, rows: Tensor | None, n: int) -> None:
        """Counts n passes for each of ``rows`` of the batch; without rows, n spread evenly."""
        counts: Tensor = getattr(self, kind)
        if rows is None:
            counts += n / len(counts)
        else:
            counts.index_add_(0, rows.cpu(), torch.full((len(rows),), n, dtype=torch.float64))


class Oracle:
    """The only door between an attack and a model.

    It alone knows of draws, batches, chunks and gradients, and it counts every pass. Queries name
    the images they are about: ``rows`` (n,) are positions in the batch, in any order and repeated
    at will, so that an attack may leave images alone, or try several candidates of one at once.
    Where images of a batch share statistics (``coupled``) a query holds whole batches in order.

    Args:
        model: Maps images (b, c, h, w) in [0, 1] to logits (b, n_classes); in eval mode.
        x: The clean batch (b, c, h, w).
        n_classes: Number of classes.
        access: What the model is and how to query it.
    """

    def __init__(self, model: nn.Module, x: Tensor, n_classes: int, access: Access) -> None:
        self._model, self._x, self.n_classes, self.access = model, x, n_classes, access
        self._paths = find_paths(model)
        # Without paths of its own for each image, a pass may hold one draw for all of them.
        self._one_draw_a_pass = access.stochastic and self._paths is None
        self._generator = torch.Generator().manual_seed(access.seed)
        self.passes = Passes(len(x))

    @property
    def batch(self) -> int:
        """The number of images in the batch."""
        return len(self._x)

    @property
    def coupled(self) -> bool:
        """Whether an image's logits depend on the other candidates of the batch."""
        return self.access.batch_dependent and self.access.adversary == "joint"

    @property
    def n_draws(self) -> int:
        """Draws behind each answer; 1 for a deterministic model."""
        return self.access.eot_iter if self.access.stochastic else 1

    def query(
        self,
        x: Tensor,
        y: Tensor,
        loss: Loss,
        *,
        grad: bool = True,
        rows: Tensor | None = None,
        y_target: Tensor | None = None,
    ) -> Evaluation:
        """Returns the loss of candidates, and its gradient, averaged over the draws.

        The losses of different images are summed, never averaged, so that an image's gradient
        does not depend on the size of the batch.

        Args:
            x: Candidates (n, c, h, w).
            y: Labels (n,).
            loss: Per-sample loss of logits.
            grad: Whether the gradient is wanted.
            rows: Positions (n,) in the batch; ``None`` for the whole batch in order.
            y_target: Target classes (n,), for a targeted loss.
        """
        rows = self._rows(x, rows)
        n, k = len(x), self.n_draws
        out_loss = torch.zeros(n, device=x.device)
        out_grad = torch.zeros_like(x) if grad else None
        correct, logits = (
            torch.zeros(n, device=x.device),
            torch.zeros(n, self.n_classes, device=x.device),
        )
        for i in self._chunks(n, k):
            i = i.to(x.device) % n
            with torch.set_grad_enabled(grad):
                x_i = x[i].detach().requires_grad_(grad)
                z = self._pass(x_i, rows[i])
                values = loss(z, y[i], None if y_target is None else y_target[i])
            if out_grad is not None:
                (g,) = torch.autograd.grad(values.sum(), x_i)
                self.passes.add("backwards", rows[i], self._cost())
                out_grad.index_add_(0, i, g)
            out_loss.index_add_(0, i, values.detach())
            correct.index_add_(0, i, (z.argmax(1) == y[i]).float())
            logits.index_add_(0, i, z.detach().float())
        scaled = None if out_grad is None else out_grad / k
        return Evaluation(out_loss / k, scaled, correct / k, logits / k)

    def jacobian(self, x: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns logits (n, n_classes) and their gradients (n, n_classes, c, h, w), mean of draws.

        Costs one forward and ``n_classes`` backward passes an image and draw.
        """
        rows = self._rows(x, rows)
        n, k = len(x), self.n_draws
        logits = torch.zeros(n, self.n_classes, device=x.device)
        jacobian = torch.zeros(n, self.n_classes, *x.shape[1:], device=x.device)
        for i in self._chunks(n, k):
            i = i.to(x.device) % n
            x_i = x[i].detach().requires_grad_()
            z = self._pass(x_i, rows[i])
            logits.index_add_(0, i, z.detach().float())
            for c in range(self.n_classes):
                (g,) = torch.autograd.grad(z[:, c].sum(), x_i, retain_graph=c + 1 < self.n_classes)
                self.passes.add("backwards", rows[i], self._cost())
                jacobian[:, c].index_add_(0, i, g)
        return logits / k, jacobian / k

    def logits(self, x: Tensor) -> Tensor:
        """Returns logits (n, n_classes), mean over draws, differentiable in x (n, c, h, w).

        This is what third-party attacks see. A subset of the batch cannot be told apart here, so
        a model whose images share statistics is only shown whole batches.
        """
        n, k = len(x), self.n_draws
        whole = n == self.batch
        if self.access.batch_dependent and not whole:
            raise ValueError(f"the attack passed {n} images of a batch of {self.batch} on")
        rows = torch.arange(n, device=x.device) if whole else None
        parts = (
            [self._pass(x, rows) for _ in range(k)]
            if self.access.batch_dependent or self._one_draw_a_pass
            else [self._pass(x.repeat(k, 1, 1, 1), None if rows is None else rows.repeat(k))]
        )
        z = torch.cat(parts).view(k, n, -1).mean(0)
        if not z.requires_grad:
            return z
        cost = n if rows is None else self._cost()
        return torch.as_tensor(_CountBackward.apply(z, self.passes, rows, k * cost))

    def module(self) -> OracleModule:
        """Returns an ``nn.Module`` view for third-party attacks."""
        return OracleModule(self)

    def _cost(self) -> int:
        return self.batch if self.access.batch_dependent and not self.coupled else 1

    def _rows(self, x: Tensor, rows: Tensor | None) -> Tensor:
        whole = torch.arange(self.batch, device=x.device)
        if rows is None:
            rows = whole
        if len(rows) != len(x):
            raise ValueError(f"{len(x)} candidates for {len(rows)} rows")
        if self.coupled and not torch.equal(rows, whole.repeat(len(rows) // self.batch)):
            raise ValueError("a batch-dependent model is attacked in its whole batch, in order")
        return rows

    def _chunks(self, n: int, k: int) -> Iterator[Tensor]:
        """Cuts k draws of n candidates: whole batches where images are coupled, else what fits."""
        size = self.batch if self.coupled else self.access.max_pass
        size = min(size, max(n, 1)) if self._one_draw_a_pass else size
        total = n * k
        yield from (torch.arange(i, min(i + size, total)) for i in range(0, total, size))

    def _pass(self, x: Tensor, rows: Tensor | None) -> Tensor:
        """Runs one draw of the model for each candidate, and counts it."""
        self.passes.add("forwards", rows, len(x) if rows is None else self._cost())
        if not self.access.batch_dependent or self.coupled:
            with self._drawn(len(x)):
                return torch.as_tensor(self._model(x))
        assert rows is not None
        answers = []
        for candidate, row in zip(x, rows, strict=True):
            companions = self._x.index_copy(0, row[None], candidate[None])
            with self._drawn(len(companions)):
                answers.append(self._model(companions)[row])
        return torch.stack(answers)

    @contextmanager
    def _drawn(self, n: int) -> Iterator[None]:
        """Draws the paths of a pass; a path that is pinned already stays.

        Each image gets its own, unless images share statistics: then the pass has one.
        """
        if self._paths is None or self._paths.pinned is not None:
            yield
            return
        each = None if self.access.batch_dependent else n
        with pinned(self._model, self._paths.sample(each, self._generator)):
            yield


class _CountBackward(torch.autograd.Function):
    """The identity on logits; counts the backward passes through it."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, passes: Passes, rows: Tensor | None, n: int) -> Tensor:
        ctx.passes, ctx.rows, ctx.n = passes, rows, n
        return z.view_as(z)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        ctx.passes.add("backwards", ctx.rows, ctx.n)
        return grads[0], None, None, None


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Keeps parameters out of the gradient while the context lasts, then restores each flag."""
    flags = [(p, p.requires_grad) for p in model.parameters()]
    model.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


class OracleModule(nn.Module):
    """An oracle as a module in eval mode. Its own mode says nothing about the model's.

    It returns the mean of the logits over the draws. The gradient of a loss of that mean is not
    the gradient of the mean loss, which native attacks climb; scoring is on the model itself, so
    this costs strength at most.
    """

    def __init__(self, oracle: Oracle) -> None:
        super().__init__()
        self._oracle = (oracle,)  # in a tuple, so that train() and buffers() do not reach in
        device = oracle._x.device
        self.anchor = nn.Parameter(torch.zeros((), device=device), requires_grad=False)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Returns the oracle's logits."""
        return self._oracle[0].logits(x)
