"""What an attack sees of a model: losses, gradients and logits, never the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.core.cell import Adversary, Eot
from bench.oracle.draws import Draws
from bench.oracle.fast import COMPILED_BATCH, DOUBT, EXACT, Engine, Twin, choose_twin
from bench.oracle.losses import Loss, margin
from bench.oracle.passes import Passes
from bench.oracle.view import OracleModule, counted


@dataclass(frozen=True)
class Access:
    """How an oracle may be asked, and how it answers.

    Attributes:
        stochastic: Whether passes draw at random.
        batch_dependent: Whether images of a batch share statistics.
        eot_iter: Draws over which losses and gradients are averaged, at least 1.
        eot: How, see ``bench.core.cell``; other than ``plain`` for a model with RNA layers only.
        adversary: Of a batch-dependent model, see ``bench.core.cell``.
        max_pass: Most images in one pass; larger queries are cut, which never changes a result.
        seed: Of the draws.
        fast: Whether queries may run in a lower precision where the device gains by it.
        passes_ahead: Passes that the search may take in all, over all its images: many are worth
            a compilation.
    """

    stochastic: bool = False
    batch_dependent: bool = False
    eot_iter: int = 1
    eot: Eot = "plain"
    adversary: Adversary = "joint"
    max_pass: int = 1024
    seed: int = 0
    fast: bool = False
    passes_ahead: float = 0.0


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


class Oracle:
    """The only door between an attack and a model.

    It alone knows of draws, batches, chunks and gradients, and it counts every pass. Queries name
    the images they are about: ``rows`` (n,) are positions in the batch, in any order and repeated
    at will, so that an attack may leave images alone, or try several candidates of one at once.
    Where images of a batch share statistics (``coupled``) a query holds whole batches in order.

    With ``fast`` access, queries run on ``engine`` (see ``bench.oracle.fast``). Where the margin of
    a deterministic model is then too small to tell right from wrong, float32 is asked, so that an
    attack neither stops too early nor passes over what is broken. ``logits``, which libraries see,
    is always exact.

    With ``mean_field`` access a surrogate answers (``bench.oracle.draws``). What is wrong there may
    be right on the model's draws: who picks among finished candidates asks in ``real_draws``.

    Args:
        model: Maps images (b, c, h, w) in [0, 1] to logits (b, n_classes); in eval mode.
        x: The clean batch (b, c, h, w).
        n_classes: Number of classes.
        access: What the model is and how to query it.

    Raises:
        UserError: When ``access.eot`` needs RNA layers that the model lacks.
    """

    def __init__(self, model: nn.Module, x: Tensor, n_classes: int, access: Access) -> None:
        self._model, self._x, self.n_classes, self.access = model, x, n_classes, access
        self._draws = Draws(model, access)
        # Without paths of its own for each image, a pass may hold one draw for all of them.
        self._one_draw_a_pass = access.stochastic and self._draws.paths is None
        self.passes = Passes(len(x), x.device)
        self.twin = Twin(EXACT)
        if access.fast:
            self.twin = choose_twin(model, x, self._trial, access.passes_ahead)

    @property
    def batch(self) -> int:
        """The number of images in the batch."""
        return len(self._x)

    @property
    def engine(self) -> Engine:
        """How queries are run."""
        return self.twin.engine

    @property
    def coupled(self) -> bool:
        """Whether an image's logits depend on the other candidates of the batch."""
        return self.access.batch_dependent and self.access.adversary == "joint"

    @property
    def n_draws(self) -> int:
        """Draws behind each answer; 1 for a deterministic model, and for the surrogate."""
        return self._draws.number

    @property
    def mean_field(self) -> bool:
        """Whether the mean-field surrogate now answers queries."""
        return self._draws.mean_field

    def real_draws(self) -> AbstractContextManager[None]:
        """Has the model itself answer, never a surrogate, while the context lasts."""
        return self._draws.of_the_model()

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
        n, k = self._begin(x)
        out_loss = torch.zeros(n, device=x.device)
        out_grad = torch.zeros_like(x) if grad else None
        correct, logits = (
            torch.zeros(n, device=x.device),
            torch.zeros(n, self.n_classes, device=x.device),
        )
        for i in self._chunks(n, k):
            i = i.to(x.device) % n
            target = None if y_target is None else y_target[i]
            with torch.set_grad_enabled(grad):
                x_i = x[i].detach().requires_grad_(grad)
                z = self._pass(x_i, rows[i], self.twin)
                values = loss(z, y[i], target)
            if out_grad is not None:
                (g,) = torch.autograd.grad(values.sum(), x_i)
                self.passes.add("backwards", rows[i], self._cost())
                out_grad.index_add_(0, i, g)
            z, values = z.detach(), values.detach()
            if self._confirm(x_i.detach(), y[i], rows[i], z):
                values = loss(z, y[i], target)
            out_loss.index_add_(0, i, values)
            correct.index_add_(0, i, (z.argmax(1) == y[i]).float())
            logits.index_add_(0, i, z.float())
        scaled = None if out_grad is None else out_grad / k
        return Evaluation(out_loss / k, scaled, correct / k, logits / k)

    def jacobian(self, x: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns logits (n, n_classes) and their gradients (n, n_classes, c, h, w), mean of draws.

        Costs one forward and ``n_classes`` backward passes an image and draw.
        """
        rows = self._rows(x, rows)
        n, k = self._begin(x)
        logits = torch.zeros(n, self.n_classes, device=x.device)
        jacobian = torch.zeros(n, self.n_classes, *x.shape[1:], device=x.device)
        for i in self._chunks(n, k):
            i = i.to(x.device) % n
            x_i = x[i].detach().requires_grad_()
            z = self._pass(x_i, rows[i], self.twin)
            exact = z.detach()
            if not self.engine.exact and not self.access.stochastic:
                with torch.no_grad():
                    exact = self._pass(x[i].detach(), rows[i])
            logits.index_add_(0, i, exact.float())
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
        n, k = self._begin(x)
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
        return counted(z, self.passes, rows, k * cost)

    def module(self) -> OracleModule:
        """Returns an ``nn.Module`` view for third-party attacks."""
        return OracleModule(self)

    def _begin(self, x: Tensor) -> tuple[int, int]:
        """Makes ready the draws of a query; returns how many candidates and draws it has."""
        self._draws.begin(len(x) // self.batch if self.coupled else len(x))
        return len(x), self.n_draws

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
        fits = COMPILED_BATCH if self.engine.compiled else self.access.max_pass
        size = self.batch if self.coupled else min(fits, self.access.max_pass)
        size = min(size, max(n, 1)) if self._one_draw_a_pass else size
        total = n * k
        yield from (torch.arange(i, min(i + size, total)) for i in range(0, total, size))

    def _confirm(self, x: Tensor, y: Tensor, rows: Tensor, z: Tensor) -> bool:
        """Puts exact logits where those in z (n, n_classes) have a margin too small to tell.

        Returns whether there are any. Draws of a stochastic model are not worth it.
        """
        if self.engine.exact or self.access.stochastic:
            return False
        doubtful = margin(z, y).abs() < DOUBT * z.abs().amax(1)
        if not bool(doubtful.any()):
            return False
        if self.coupled:
            doubtful = torch.ones_like(doubtful)
        with torch.no_grad():
            z[doubtful] = self._pass(x[doubtful], rows[doubtful])
        return True

    def _pass(self, x: Tensor, rows: Tensor | None, twin: Twin | None = None) -> Tensor:
        """Runs one draw of the model for each candidate, and counts it."""
        self.passes.add("forwards", rows, len(x) if rows is None else self._cost())
        twin = twin or Twin(EXACT)
        z = self._drawn_logits(x, rows, twin)
        return z if twin.engine.exact else z.float()

    def _trial(self, twin: Twin, x: Tensor) -> Tensor:
        """Runs a pass that nobody counts, on paths that nobody misses."""
        with self._draws.aside(len(x)):
            return twin(self._model, x)

    def _drawn_logits(self, x: Tensor, rows: Tensor | None, twin: Twin) -> Tensor:
        if not self.access.batch_dependent or self.coupled:
            with self._draws.one(len(x)):
                return twin(self._model, x)
        assert rows is not None
        answers = []
        for candidate, row in zip(x, rows, strict=True):
            companions = self._x.index_copy(0, row[None], candidate[None])
            with self._draws.one(len(companions)):
                answers.append(twin(self._model, companions)[row])
        return torch.stack(answers)
