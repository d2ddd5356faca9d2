"""How passes of a model are run: on which engine, in what sizes, and how they are counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from bench.oracle.access import Access
from bench.oracle.cutting import Cutter
from bench.oracle.draws import Draws
from bench.oracle.engine import EXACT, Engine, Twin
from bench.oracle.evaluation import Spent
from bench.oracle.fast import compiled_twin, fastest_twin
from bench.oracle.passes import Passes

R = TypeVar("R")

COMPILE_AFTER = 5.0
"""Seconds that a search has taken before its model is compiled."""

COMPILE_AHEAD = {True: 30.0, False: 300.0}
"""Seconds that it may take in all, for a model to be compiled: with its norms folded, which takes
some seconds, and with norms to be computed, which takes a minute and pays less."""


class Runner:
    """Runs the passes of one attack on one batch, and counts every one of them.

    Args:
        model: Maps images (b, c, h, w) in [0, 1] to logits (b, n_classes); in eval mode.
        x: The clean batch (b, c, h, w).
        access: What the model is and how to query it.

    Raises:
        UserError: When ``access.eot`` needs RNA layers that the model lacks.
    """

    def __init__(self, model: nn.Module, x: Tensor, access: Access) -> None:
        self._model, self.x, self._access = model, x, access
        self.draws = Draws(model, access)
        # Without paths of its own for each image, a pass may hold one draw for all of them.
        self.one_draw_a_pass = access.stochastic and self.draws.paths is None
        self.passes, self._run = Passes(len(x), x.device), 0
        self.twin = Twin(EXACT)
        if access.fast:
            free = not access.batch_dependent and not self.one_draw_a_pass
            self.twin = fastest_twin(model, x, self._trial, access.max_pass if free else 0)
        good = self.twin.fits or access.max_pass
        whole = len(x) if self.coupled else None
        self._cutter = Cutter(x.device, access.max_pass, good, whole, self.one_draw_a_pass)
        ahead = access.passes_ahead * self._each
        long = ahead >= COMPILE_AHEAD[self.engine.folded] and not access.batch_dependent
        self.may_compile = long and not self.engine.exact

    @property
    def engine(self) -> Engine:
        """How passes are run."""
        return self.twin.engine

    @property
    def coupled(self) -> bool:
        """Whether an image's logits depend on the other candidates of the batch."""
        return self._access.batch_dependent and self._access.adversary == "joint"

    @property
    def cost(self) -> int:
        """Passes of an image that one answer about it takes."""
        return len(self.x) if self._access.batch_dependent and not self.coupled else 1

    @property
    def way(self) -> tuple[object, ...]:
        """All by which two runners of a model and a batch may answer differently."""
        return str(self.engine), self._access.adversary, self._cutter.good

    def exactly(self, x: Tensor, rows: Tensor | None) -> Tensor:
        """Runs one draw for each candidate in float32, and counts it; returns logits (n, m).

        Args:
            x: Candidates (n, c, h, w).
            rows: Positions (n,) in the batch; ``None`` where nobody knows them.
        """
        return self.run(x, rows, Twin(EXACT))

    def fast(self, x: Tensor, rows: Tensor) -> Tensor:
        """Runs one draw for each candidate on ``engine``, and counts it, as ``exactly`` does."""
        return self.run(x, rows, self.twin)

    def run(self, x: Tensor, rows: Tensor | None, twin: Twin) -> Tensor:
        """Runs one draw for each candidate on a twin of the model; returns float32 logits."""
        self.passes.add("forwards", rows, len(x) if rows is None else self.cost)
        self._run += len(x)
        z = self._logits(x, rows, twin)
        return z if twin.engine.exact else z.float()

    def went_back(self, rows: Tensor) -> None:
        """Counts a backward pass for each of ``rows``."""
        self.passes.add("backwards", rows, self.cost)
        self._run += len(rows)

    def charge(self, spent: Spent) -> None:
        """Counts passes that another attack made for this one."""
        self.passes.forwards += spent.forwards
        self.passes.backwards += spent.backwards
        self._run += int((spent.forwards + spent.backwards).sum())

    def in_passes(self, x: Tensor, work: Callable[[Tensor], R]) -> list[tuple[Tensor, R]]:
        """Returns the candidates (m,) of each pass of a query, and what ``work`` makes of them.

        A query that memory does not suffice for is asked again, in smaller passes.
        """
        while True:
            n, k = self.begin(x)
            try:
                return [(i, work(i)) for i in self._cutter.passes(n, k)]
            except RuntimeError as error:
                if not self._cutter.halve(error):
                    raise

    def begin(self, x: Tensor) -> tuple[int, int]:
        """Makes ready the draws of a query; returns how many candidates and draws it has."""
        self._compile_when_due(x)
        self.draws.begin(len(x) // len(self.x) if self.coupled else len(x))
        return len(x), self.draws.number

    def _compile_when_due(self, x: Tensor) -> None:
        """Compiles the model once a long search is well under way.

        Due is a matter of passes, not of the clock, so that a search repeats itself exactly.
        """
        if not self.may_compile or self._run * self._each < COMPILE_AFTER:
            return
        self.may_compile = False
        self.twin = compiled_twin(self._model, self.twin, x, self._trial)

    @property
    def _each(self) -> float:
        """Seconds of a pass; there and back are two."""
        return self.twin.seconds / 2

    def _trial(self, twin: Twin, x: Tensor) -> Tensor:
        """Runs a pass that nobody counts, on paths that nobody misses."""
        with self.draws.aside(len(x)):
            return twin(self._model, x)

    def _logits(self, x: Tensor, rows: Tensor | None, twin: Twin) -> Tensor:
        if not self._access.batch_dependent or self.coupled:
            with self.draws.one(len(x)):
                return twin(self._model, x)
        assert rows is not None
        answers = []
        for candidate, row in zip(x, rows, strict=True):
            companions = self.x.index_copy(0, row[None], candidate[None])
            with self.draws.one(len(companions)):
                answers.append(twin(self._model, companions)[row])
        return torch.stack(answers)
