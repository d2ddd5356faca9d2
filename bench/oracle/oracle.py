"""What an attack sees of a model: losses, gradients and logits, never the model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from bench.oracle.access import Access
from bench.oracle.cutting import Cutter
from bench.oracle.draws import Draws
from bench.oracle.engine import DOUBT, EXACT, Engine, Twin
from bench.oracle.evaluation import Evaluation, Memo, Spent, Trail, mean_over_draws
from bench.oracle.fast import compiled_twin, fastest_twin
from bench.oracle.losses import Loss, margin
from bench.oracle.passes import Passes
from bench.oracle.view import OracleModule, counted

R = TypeVar("R")
Confirm = Literal["all", "wrong"]

COMPILE_AFTER, COMPILE_AHEAD = 5.0, 30.0
"""Seconds that a search has taken, and may take in all, before its model is compiled: compiling
takes seconds itself, up to twenty where norms are not folded, and pays only on what is left."""


class Oracle:
    """The only door between an attack and a model.

    It alone knows of draws, batches, chunks and gradients, and it counts every pass. Queries name
    the images they are about: ``rows`` (n,) are positions in the batch, in any order and repeated
    at will, so that an attack may leave images alone, or try several candidates of one at once.
    Where images of a batch share statistics (``coupled``) a query holds whole batches in order.

    With ``fast`` access, queries run on ``engine`` (see ``bench.oracle.fast``). Where the margin of
    a deterministic model is then too small to tell right from wrong, float32 is asked, so that an
    attack never stops too early, and need not pass over what is broken. ``logits``, which libraries
    see, is always exact.

    With ``mean_field`` access a surrogate answers (``bench.oracle.draws``). What is wrong there may
    be right on the model's draws: who picks among finished candidates asks in ``real_draws``.

    Args:
        model: Maps images (b, c, h, w) in [0, 1] to logits (b, n_classes); in eval mode.
        x: The clean batch (b, c, h, w).
        n_classes: Number of classes.
        access: What the model is and how to query it.
        memo: Shared by the oracles of several attacks on the same batch of a deterministic model.
            Passes are counted as if each attack had asked alone.

    Raises:
        UserError: When ``access.eot`` needs RNA layers that the model lacks.
    """

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        n_classes: int,
        access: Access,
        memo: Memo | None = None,
    ) -> None:
        self._model, self._x, self.n_classes, self.access = model, x, n_classes, access
        self._memo, self._queries, self._run = memo, 0, 0
        self._draws = Draws(model, access)
        # Without paths of its own for each image, a pass may hold one draw for all of them.
        self._one_draw_a_pass = access.stochastic and self._draws.paths is None
        self.passes = Passes(len(x), x.device)
        self.twin = Twin(EXACT)
        if access.fast:
            free = not access.batch_dependent and not self._one_draw_a_pass
            self.twin = fastest_twin(model, x, self._trial, access.max_pass if free else 0)
        good = self.twin.fits or access.max_pass
        whole = len(x) if self.coupled else None
        self._cutter = Cutter(x.device, access.max_pass, good, whole, self._one_draw_a_pass)
        ahead = access.passes_ahead * self._each
        long = ahead >= COMPILE_AHEAD and not access.batch_dependent
        self._may_compile = long and not self.engine.exact

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
        confirm: Confirm = "all",
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
            confirm: Which answers in low precision are confirmed where they are in doubt: ``all``,
                or ``wrong``, those about candidates that seem to be wrong. A search that climbs on
                asks about a candidate that seems to be right again anyway, a little further on.
        """
        rows = self._rows(x, rows)
        self._queries += 1
        if self._memo is None or y_target is not None or not self._opens(x):
            return self._ask(x, y, loss, rows, y_target, grad, confirm)
        key = (loss, grad, confirm, *self._way(), *y.tolist())
        if key not in self._memo.answers:
            before = self.spent()
            answer = self._ask(x, y, loss, rows, None, grad, confirm)
            self._memo.answers[key] = (answer.clone(), self.spent(before))
            return answer
        kept, spent = self._memo.answers[key]
        self.charge(spent)
        return kept.clone()

    @property
    def trails(self) -> dict[tuple[object, ...], Trail] | None:
        """Ascents of other attacks on this batch; ``None`` where they would not be repeated.

        That is on stochastic models, and where a long search has its model compiled on the way.
        """
        if self._memo is None or self.access.stochastic or self._may_compile:
            return None
        return self._memo.trails.setdefault(self._way(), {})

    def _way(self) -> tuple[object, ...]:
        """Returns all by which two oracles of a model and a batch may answer differently."""
        return str(self.engine), self.access.adversary, self._cutter.good

    def spent(self, since: Spent | None = None) -> Spent:
        """Returns the passes spent on each image, or those of them spent ``since`` then."""
        there, back = self.passes.forwards, self.passes.backwards
        if since is None:
            return Spent(there.clone(), back.clone())
        return Spent(there - since.forwards, back - since.backwards)

    def charge(self, spent: Spent) -> None:
        """Counts passes that another attack made for this one."""
        self.passes.forwards += spent.forwards
        self.passes.backwards += spent.backwards
        self._run += int((spent.forwards + spent.backwards).sum())

    def _opens(self, x: Tensor) -> bool:
        """Says whether this is the first query, about the clean batch, and has one answer."""
        first = self._queries == 1 and not self.access.stochastic and len(x) == self.batch
        return first and torch.equal(x, self._x)

    def _ask(
        self,
        x: Tensor,
        y: Tensor,
        loss: Loss,
        rows: Tensor,
        y_target: Tensor | None,
        grad: bool,
        confirm: Confirm,
    ) -> Evaluation:
        """Answers a query in as many passes as it takes."""

        def ask(i: Tensor) -> Evaluation:
            target = None if y_target is None else y_target[i]
            return self._answer(x[i], y[i], rows[i], loss, target, grad, confirm)

        parts = self._in_passes(x, ask)
        return mean_over_draws(parts, len(x), self.n_draws)

    def _answer(
        self,
        x: Tensor,
        y: Tensor,
        rows: Tensor,
        loss: Loss,
        y_target: Tensor | None,
        grad: bool,
        confirm: Confirm,
    ) -> Evaluation:
        """Answers a query in one pass, on one draw for each candidate."""
        with torch.set_grad_enabled(grad):
            x = x.detach().requires_grad_(grad)
            z = self._pass(x, rows, self.twin)
            values = loss(z, y, y_target)
        slope = None
        if grad:
            (slope,) = torch.autograd.grad(values.sum(), x)
            self._count_backward(rows)
        z, values = z.detach(), values.detach()
        if self._confirm(x.detach(), y, rows, z, confirm):
            values = loss(z, y, y_target)
        return Evaluation(values, slope, (z.argmax(1) == y).float(), z.float())

    def jacobian(self, x: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns logits (n, n_classes) and their gradients (n, n_classes, c, h, w), mean of draws.

        Costs one forward and ``n_classes`` backward passes an image and draw.
        """
        rows = self._rows(x, rows)

        def ask(i: Tensor) -> tuple[Tensor, Tensor]:
            x_i = x[i].detach().requires_grad_()
            z = self._pass(x_i, rows[i], self.twin)
            exact, slopes = z.detach(), []
            if not self.engine.exact and not self.access.stochastic:
                with torch.no_grad():
                    exact = self._pass(x[i].detach(), rows[i])
            for c in range(self.n_classes):
                (g,) = torch.autograd.grad(z[:, c].sum(), x_i, retain_graph=c + 1 < self.n_classes)
                self._count_backward(rows[i])
                slopes.append(g)
            return exact.float(), torch.stack(slopes, 1)

        logits = torch.zeros(len(x), self.n_classes, device=x.device)
        jacobian = torch.zeros(len(x), self.n_classes, *x.shape[1:], device=x.device)
        for i, (values, slopes) in self._in_passes(x, ask):
            logits.index_add_(0, i, values)
            jacobian.index_add_(0, i, slopes)
        return logits / self.n_draws, jacobian / self.n_draws

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

    def _in_passes(self, x: Tensor, work: Callable[[Tensor], R]) -> list[tuple[Tensor, R]]:
        """Returns the candidates (m,) of each pass of a query, and what ``work`` makes of them.

        A query that memory does not suffice for is asked again, in smaller passes.
        """
        while True:
            n, k = self._begin(x)
            try:
                return [(i, work(i)) for i in self._cutter.passes(n, k)]
            except RuntimeError as error:
                if not self._cutter.halve(error):
                    raise

    def _begin(self, x: Tensor) -> tuple[int, int]:
        """Makes ready the draws of a query; returns how many candidates and draws it has."""
        self._compile_when_due(x)
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

    def _count_backward(self, rows: Tensor) -> None:
        self.passes.add("backwards", rows, self._cost())
        self._run += len(rows)

    def _compile_when_due(self, x: Tensor) -> None:
        """Compiles the model once a long search is well under way.

        Due is a matter of passes, not of the clock, so that a search repeats itself exactly.
        """
        if not self._may_compile or self._run * self._each < COMPILE_AFTER:
            return
        self._may_compile = False
        self.twin = compiled_twin(self._model, self.twin, x, self._trial)
        if self.engine.compiled and self.twin.fits is not None:
            self._cutter.good = self.twin.fits
            self._cutter.fits = min(self.twin.fits, self.access.max_pass)

    @property
    def _each(self) -> float:
        """Seconds of a pass; there and back are two."""
        return self.twin.seconds / 2

    def _confirm(self, x: Tensor, y: Tensor, rows: Tensor, z: Tensor, which: Confirm) -> bool:
        """Puts exact logits where those in z (n, n_classes) have a margin too small to tell.

        Returns whether there are any. Draws of a stochastic model are not worth it.
        """
        if self.engine.exact or self.access.stochastic:
            return False
        lead = margin(z, y)
        doubtful = lead.abs() < DOUBT * z.abs().amax(1)
        if which == "wrong":
            doubtful &= lead >= 0
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
        self._run += len(x)
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
