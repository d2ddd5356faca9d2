"""The oracle: an attack's only access to a model, by losses, gradients and logits."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Literal

import torch
from torch import Tensor, nn

from bench.core.errors import UserError
from bench.oracle.adaptive import Aids, Outputs
from bench.oracle.answers import (
    LOSSES,
    AscentState,
    Evaluation,
    Loss,
    Memo,
    margin,
    mean_over_draws,
)
from bench.oracle.engine import Engine, QueryRules
from bench.oracle.passes import Passes, Spent, counting_backward
from bench.oracle.runner import Pass, Runner

Confirm = Literal["all", "wrong"]


class Oracle:
    """An attack's only access to a model.

    The oracle handles draws, batches, chunks and gradients, and counts every pass. Queries name
    their images: ``rows`` (n,) are positions in the batch, in any order and with repeats, so that
    an attack may leave images out, or try several candidates of one image at once. If images of a
    batch share statistics (``coupled``), a query holds whole batches in order.

    With ``fast`` rules, queries run on ``engine`` (see ``bench.oracle.fast``). Where a
    deterministic model's margin is too small to tell right from wrong, the query is repeated in
    float32, so that an attack neither stops too early nor continues on a broken image. ``logits``,
    which third-party attacks see, is always exact.

    With ``mean_field`` rules a surrogate answers (``bench.oracle.draws``). A candidate that it
    misclassifies may still be right on the model's draws: to pick among finished candidates, query
    in ``real_draws``.

    With ``targeted`` rules the labels of queries are the classes to bring images to
    (``QueryRules``), and attacks that only raise a loss need not know of it.

    Args:
        model: Maps images (b, c, h, w) in [0, 1] to logits (b, n_classes); in eval mode.
        x: The clean batch (b, c, h, w).
        n_classes: Number of classes.
        rules: What the model is and how to query it.
        memo: Shared by the oracles of several attacks on the same batch of a deterministic model.
            Passes are counted as if each attack had asked alone. Attacks that bring other ``aids``
            have another one.
        aids: What an adaptive attack brings. Its loss answers every untargeted query about one of
            ``LOSSES``.

    Raises:
        UserError: When ``rules.eot`` needs RNA layers that the model lacks, or the loss of ``aids``
            layers that it lacks.
    """

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        n_classes: int,
        rules: QueryRules,
        memo: Memo | None = None,
        aids: Aids | None = None,
    ) -> None:
        self.n_classes, self.rules = n_classes, rules
        self._memo, self._queries = memo, 0
        self._custom = None if aids is None else aids.loss
        self._runner = Runner(model, x, rules, aids)

    @property
    def x(self) -> Tensor:
        """The clean batch (b, c, h, w)."""
        return self._runner.x

    @property
    def passes(self) -> Passes:
        """Passes spent on each image so far."""
        return self._runner.passes

    @property
    def batch(self) -> int:
        """The number of images in the batch."""
        return len(self.x)

    @property
    def engine(self) -> Engine:
        """How queries are run."""
        return self._runner.engine

    @property
    def coupled(self) -> bool:
        """Whether an image's logits depend on the other candidates of the batch."""
        return self._runner.coupled

    @property
    def n_draws(self) -> int:
        """Draws per answer; 1 for a deterministic model and for the surrogate."""
        return self._runner.draws.number

    @property
    def mean_field(self) -> bool:
        """Whether the mean-field surrogate currently answers queries."""
        return self._runner.draws.mean_field

    def real_draws(self) -> AbstractContextManager[None]:
        """Queries the model itself, never the surrogate, in this context."""
        return self._runner.draws.from_model()

    def query(
        self,
        x: Tensor,
        y: Tensor,
        loss: Loss,
        *,
        grad: bool = True,
        rows: Tensor | None = None,
        y_target: Tensor | None = None,
        confirm: Confirm | Tensor = "all",
    ) -> Evaluation:
        """Returns the loss of candidates and its gradient, averaged over draws.

        The losses of different images are summed, never averaged, so that an image's gradient
        does not depend on the batch size.

        Args:
            x: Candidates (n, c, h, w).
            y: Labels (n,).
            loss: Per-sample loss of logits.
            grad: Whether to compute the gradient.
            rows: Positions (n,) in the batch; ``None`` for the whole batch in order.
            y_target: Target classes (n,), for a targeted loss; none with ``targeted`` rules, where
                ``y`` are the targets.
            confirm: Which doubtful answers in low precision are confirmed: ``all``, or ``wrong``,
                those that seem misclassified. (A search that goes on climbing will query a
                candidate that seems right again anyway.) A mask (n,) applies ``wrong`` to some
                candidates and confirms no others.
        """
        if self.rules.targeted and y_target is not None:
            raise ValueError("an attack with targets of its own cannot be given others")
        rows = self._rows(x, rows)
        self._queries += 1
        shared = self._memo is not None and y_target is None and not torch.is_tensor(confirm)
        if self._memo is None or not shared or not self._first_on_clean(x):
            return self._ask(x, y, loss, rows, y_target, grad, confirm)
        key = (loss, grad, confirm, *self._runner.cache_key, *y.tolist())
        if key not in self._memo.answers:
            before = self.spent()
            answer = self._ask(x, y, loss, rows, None, grad, confirm)
            self._memo.answers[key] = (answer.clone(), self.spent(before))
            return answer
        kept, spent = self._memo.answers[key]
        self.charge(spent)
        return kept.clone()

    @property
    def ascents(self) -> dict[tuple[object, ...], AscentState] | None:
        """PGD states shared with other attacks on this batch; ``None`` if a run is not repeatable.

        Runs on stochastic models are not, nor long ones whose model is compiled on the way.
        """
        if self._memo is None or self.rules.stochastic or self._runner.may_compile:
            return None
        return self._memo.ascents.setdefault(self._runner.cache_key, {})

    def spent(self, since: Spent | None = None) -> Spent:
        """Returns the passes spent on each image, in all or ``since`` an earlier count."""
        forwards, backwards = self.passes.forwards, self.passes.backwards
        if since is None:
            return Spent(forwards.clone(), backwards.clone())
        return Spent(forwards - since.forwards, backwards - since.backwards)

    def charge(self, spent: Spent) -> None:
        """Counts passes whose results are reused from another attack."""
        self._runner.charge(spent)

    def _first_on_clean(self, x: Tensor) -> bool:
        """Returns whether this is the first query, on the clean batch of a deterministic model."""
        first = self._queries == 1 and not self.rules.stochastic and len(x) == self.batch
        return first and torch.equal(x, self.x)

    def _ask(
        self,
        x: Tensor,
        y: Tensor,
        loss: Loss,
        rows: Tensor,
        y_target: Tensor | None,
        grad: bool,
        confirm: Confirm | Tensor,
    ) -> Evaluation:
        """Answers a query, in one pass or more."""
        n_draws = self.n_draws

        def ask(one: Pass) -> Evaluation:
            i = one.images
            if len(i) == len(x) and n_draws == 1:
                return self._answer(one, x, y, rows, loss, y_target, grad, confirm)
            target = None if y_target is None else y_target[i]
            which = confirm[i] if isinstance(confirm, Tensor) else confirm
            return self._answer(one, x[i], y[i], rows[i], loss, target, grad, which)

        parts = self._runner.in_passes(x, ask)
        return mean_over_draws(parts, len(x), self.n_draws)

    def _answer(
        self,
        one: Pass,
        x: Tensor,
        y: Tensor,
        rows: Tensor,
        loss: Loss,
        y_target: Tensor | None,
        grad: bool,
        confirm: Confirm | Tensor,
    ) -> Evaluation:
        """Answers a query in one pass, with one draw for each candidate."""
        with torch.set_grad_enabled(grad):
            x = x.detach().requires_grad_(grad)
            z, seen = one.fast(x, rows)
            values = self._values(loss, z, y, y_target, seen)
        slope = None
        if grad:
            if self._custom is not None and not values.requires_grad:
                raise UserError(
                    "loss: no gradient reaches the image from its values; use no "
                    "detach, no argmax and no comparison on the way"
                )
            # Of the sum: a tensor of ones beside the values has torch import sympy, for seconds.
            (slope,) = torch.autograd.grad(values.sum(), x)
            self._runner.count_backward(rows)
        z, values = z.detach(), values.detach()
        if not (self.engine.exact or self.rules.stochastic):
            plain = loss is margin and y_target is None and self._custom is None
            lead = values if plain else self._sign * margin(z, y)
            if self._confirm(one, x.detach(), rows, z, lead, confirm):
                values = self._values(loss, z, y, y_target, seen).detach()
        right = (z.argmax(1) != y) if self.rules.targeted else (z.argmax(1) == y)
        return Evaluation(values, slope, right.float(), z.float())

    @property
    def _sign(self) -> int:
        return -1 if self.rules.targeted else 1

    def _values(
        self, loss: Loss, z: Tensor, y: Tensor, y_target: Tensor | None, seen: Outputs
    ) -> Tensor:
        """Returns the loss (m,) of logits: the attack's own, or the one that replaces it."""
        if self._custom is not None and y_target is None and loss in LOSSES.values():
            return self._custom(z, y, seen)
        values = loss(z, y, y_target)
        return -values if self.rules.targeted else values

    def jacobian(
        self, x: Tensor, rows: Tensor | None = None, classes: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Returns logits (n, n_classes), and gradients (n, k, c, h, w) of k of them.

        Both are means over draws. Costs one forward and k backward passes per image and draw.

        Args:
            x: Candidates (n, c, h, w).
            rows: Positions (n,) in the batch; ``None`` for the whole batch in order.
            classes: The classes (n, k) of each candidate; ``None`` for all in order.
        """
        rows = self._rows(x, rows)
        k = self.n_classes if classes is None else classes.shape[1]

        def ask(one: Pass) -> tuple[Tensor, Tensor]:
            i = one.images
            with torch.enable_grad():
                x_i = x[i].detach().requires_grad_()
                z, _ = one.fast(x_i, rows[i])
                exact, slopes = z.detach(), []
                for c in range(k):
                    one_class = z[:, c] if classes is None else z.gather(1, classes[i, c, None])
                    (g,) = torch.autograd.grad(one_class.sum(), x_i, retain_graph=c + 1 < k)
                    self._runner.count_backward(rows[i])
                    slopes.append(g)
            if not self.engine.exact and not self.rules.stochastic:
                with torch.no_grad():
                    exact = one.exactly(x[i].detach(), rows[i])
            return exact.float(), torch.stack(slopes, 1)

        logits = torch.zeros(len(x), self.n_classes, device=x.device)
        jacobian = torch.zeros(len(x), k, *x.shape[1:], device=x.device)
        for i, (values, slopes) in self._runner.in_passes(x, ask):
            logits.index_add_(0, i, values)
            jacobian.index_add_(0, i, slopes)
        return logits / self.n_draws, jacobian / self.n_draws

    def logits(self, x: Tensor) -> Tensor:
        """Returns logits (n, n_classes), mean over draws, differentiable in x (n, c, h, w).

        Third-party attacks see these. Which images a part of the batch holds is unknown here, so a
        batch-dependent model takes whole batches only.
        """
        run = self._runner
        n, k = run.begin(x)
        whole = n == self.batch
        if self.rules.batch_dependent and not whole:
            raise ValueError(f"the attack passed {n} images of a batch of {self.batch} on")
        rows = torch.arange(n, device=x.device) if whole else None
        parts = (
            [run.exactly(x, rows, draw * n) for draw in range(k)]
            if self.rules.batch_dependent or run.one_draw_a_pass
            else [run.exactly(x.repeat(k, 1, 1, 1), None if rows is None else rows.repeat(k))]
        )
        z = torch.cat(parts).view(k, n, -1).mean(0)
        if not z.requires_grad:
            return z
        cost = n if rows is None else run.cost
        return counting_backward(z, self.passes, rows, k * cost)

    def module(self) -> OracleModule:
        """Returns the oracle as an ``nn.Module``, for third-party attacks."""
        return OracleModule(self.logits, self.x.device)

    def _rows(self, x: Tensor, rows: Tensor | None) -> Tensor:
        if rows is None:
            rows = torch.arange(self.batch, device=x.device)
        if len(rows) != len(x):
            raise ValueError(f"{len(x)} candidates for {len(rows)} rows")
        if self.coupled:
            whole = torch.arange(self.batch, device=x.device)
            if not torch.equal(rows, whole.repeat(len(rows) // self.batch)):
                raise ValueError("a batch-dependent model is attacked in its whole batch, in order")
        return rows

    def _confirm(
        self,
        one: Pass,
        x: Tensor,
        rows: Tensor,
        z: Tensor,
        lead: Tensor,
        which: Confirm | Tensor,
    ) -> bool:
        """Replaces logits in z (n, n_classes) by exact ones where the margin is too small to tell.

        Returns whether there are any. Single draws of a stochastic model are never confirmed.
        """
        asked = torch.ones_like(lead, dtype=torch.bool)
        if isinstance(which, Tensor) or which == "wrong":
            asked = lead >= 0
            if isinstance(which, Tensor):
                asked &= which
            if not bool(asked.any()):
                return False
        doubtful = asked & (lead.abs() < self.engine.doubt * z.abs().amax(1))
        if not bool(doubtful.any()):
            return False
        if self.coupled:
            doubtful = torch.ones_like(doubtful)
        with torch.no_grad():
            z[doubtful] = one.exactly(x[doubtful], rows[doubtful])
        return True


class OracleModule(nn.Module):
    """An oracle as a module in eval mode; its own mode does not affect the model's.

    It returns the mean of the logits over draws. The gradient of a loss of that mean is not the
    gradient of the mean loss, which native attacks climb; scoring uses the model itself, so this
    can only cost strength.
    """

    def __init__(self, logits: Callable[[Tensor], Tensor], device: torch.device) -> None:
        super().__init__()
        self._logits = logits
        self.anchor = nn.Parameter(torch.zeros((), device=device), requires_grad=False)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Returns the oracle's logits."""
        return self._logits(x)
