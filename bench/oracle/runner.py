"""Runs the passes of one attack: on which engine, in what sizes, and counted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from bench.oracle.adaptive import AidedPass, Aids, Outputs
from bench.oracle.draws import Draws
from bench.oracle.engine import (
    EXACT,
    Engine,
    PreparedModel,
    QueryRules,
    out_of_memory,
    release_cached_memory,
)
from bench.oracle.fast import choose_engine, compile_if_faster, one_per_thread
from bench.oracle.passes import Passes, Spent
from bench.oracle.side_by_side import replicas, side_by_side

R = TypeVar("R")

SHARED, WORTH, LARGEST, MOST = 16, 20, 64, 16
"""Splitting by the number of images alone: at least so many images make two passes, at least so
many a pass make more, at most so many in a pass, and at most so many passes by this rule."""

COMPILE_AFTER = 5.0
"""Seconds that a search has taken before its model is compiled."""

COMPILE_AHEAD = {True: 30.0, False: 300.0}
"""Expected seconds of a search from which compiling pays: with norms folded, where it takes some
seconds, and with norms computed, where it takes a minute and gains less. In float32 a CPU gains
nothing by it."""


def pass_size(n: int) -> int:
    """Returns the size of passes over n images, the same for any number of threads.

    Two passes if there are images for two; more as long as each has enough to be fast.
    """
    passes = 2 if n >= SHARED else 1
    while passes < MOST and n / (2 * passes) >= WORTH:
        passes *= 2
    return min(-(-n // passes), LARGEST)


class Cutter:
    """Splits queries into passes that are fast and fit in memory.

    Args:
        device: Where passes run.
        fits: Most images in a pass.
        good: Images per pass at which passes are fastest; passes get about this size, all the same,
            so that no small one is left over. ``None`` splits by the number of images alone.
        whole: Size of batches that must not be split; ``None`` if there are none.
        by_draw: Whether a pass may hold one draw only.
        threads: Threads that share the passes of a query.
    """

    def __init__(
        self,
        device: torch.device,
        fits: int,
        good: int | None,
        whole: int | None,
        by_draw: bool,
        threads: int = 1,
    ) -> None:
        self._device, self.fits, self.good = device, fits, good
        self._whole, self._by_draw, self.threads = whole, by_draw, threads
        self._tried = fits

    def passes(self, n: int, k: int) -> Iterator[tuple[int, torch.Tensor]]:
        """Yields the start of each pass over k draws of n candidates, and its candidates (m,)."""
        total = n * k
        size = min(self.fits, self._size(total)) if self._whole is None else self._whole
        size = min(size, n if self._by_draw else total)
        self._tried = size
        for begun in range(0, total, max(size, 1)):
            last = min(begun + size, total)
            images = torch.arange(begun, last, device=self._device)
            yield begun, images if k == 1 else images % n

    def _size(self, total: int) -> int:
        if self.good is None:
            return pass_size(total)
        passes = max(1, round(total / self.good))
        if self.threads > 1:
            passes = max(1, min(-(-passes // self.threads) * self.threads, total))
        return -(-total // passes)

    def halve(self, error: RuntimeError) -> bool:
        """Halves the passes if memory ran out; returns whether to repeat the query."""
        if not out_of_memory(error) or self._whole is not None or self._tried == 1:
            return False
        release_cached_memory(self._device)
        self.fits = max(1, self._tried // 2)
        return True


@dataclass(frozen=True)
class Lane:
    """The model of one thread, or a copy of its modules, and how it is run."""

    model: nn.Module
    prepared: PreparedModel


@dataclass(frozen=True)
class Pass:
    """One pass of a query.

    Attributes:
        runner: Runs and counts it.
        lane: The model of the thread that makes it.
        images: Positions (m,) of its candidates in the query.
        path: Their RNA paths, or ``None``.
    """

    runner: Runner
    lane: Lane
    images: Tensor
    path: Tensor | None

    def fast(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Outputs]:
        """Runs one draw of each candidate on the engine.

        Returns:
            Float32 logits (m, n_classes), and the outputs of watched layers.
        """
        return self.runner.run(self.lane, x, rows, self.path)

    def exactly(self, x: Tensor, rows: Tensor) -> Tensor:
        """Runs some candidates on the exact, deterministic model."""
        exact = Lane(self.lane.model, PreparedModel(EXACT))
        return self.runner.run(exact, x, rows, self.path)[0]


class Runner:
    """Runs and counts the passes of one attack on one batch.

    Args:
        model: Maps images (b, c, h, w) in [0, 1] to logits (b, n_classes); in eval mode.
        x: The clean batch (b, c, h, w).
        rules: What the model is and how to query it.
        aids: What an adaptive attack brings. With any but a loss of logits alone, the model itself
            is run, in one thread.

    Raises:
        UserError: When ``rules.eot`` needs RNA layers that the model lacks, or the loss of ``aids``
            layers that it lacks.
    """

    def __init__(
        self, model: nn.Module, x: Tensor, rules: QueryRules, aids: Aids | None = None
    ) -> None:
        self._model, self.x, self._rules = model, x, rules
        self._aided: AidedPass | None = None
        if aids is not None and (aids.gradient_model is not None or aids.watched):
            self._aided = AidedPass(model, aids, stochastic=rules.stochastic)
            self._rules = rules = replace(rules, fast=False)
        self.draws = Draws(model, rules)
        # Without a path for each image, all images of a pass share one draw.
        self.one_draw_a_pass = rules.stochastic and self.draws.paths is None
        self.passes, self._run, self._lock = Passes(len(x), x.device), 0, threading.Lock()
        free = not rules.batch_dependent and not self.one_draw_a_pass
        self.prepared = PreparedModel(EXACT)
        if rules.fast:
            self.prepared = choose_engine(model, x, self._trial, rules.max_pass if free else 0)
        elif x.device.type == "cpu" and not (self.coupled or self.one_draw_a_pass):
            # Split by the number of images alone, whatever the number of threads.
            self.prepared = PreparedModel(replace(EXACT, side_by_side=True))
        self._lanes = [Lane(model, self.prepared)]
        self._cutter = self._new_cutter()
        ahead = rules.passes_ahead * self._each
        long = ahead >= COMPILE_AHEAD[self.engine.folded] and not rules.batch_dependent
        self.may_compile = long and (self.engine.low or x.device.type != "cpu")

    def _new_cutter(self) -> Cutter:
        good: int | None = self.prepared.fits or self._rules.max_pass
        if self.engine.side_by_side and not self._rules.fast:
            good = None
        return Cutter(
            self.x.device,
            self._rules.max_pass,
            good,
            len(self.x) if self.coupled else None,
            self.one_draw_a_pass,
            torch.get_num_threads() if self.engine.side_by_side else 1,
        )

    @property
    def engine(self) -> Engine:
        """How passes are run."""
        return self.prepared.engine

    @property
    def coupled(self) -> bool:
        """Whether an image's logits depend on the other candidates of the batch."""
        return self._rules.batch_dependent and self._rules.adversary == "joint"

    @property
    def cost(self) -> int:
        """Passes that one answer about an image costs."""
        return len(self.x) if self._rules.batch_dependent and not self.coupled else 1

    @property
    def cache_key(self) -> tuple[object, ...]:
        """Everything besides model and batch that can change an answer."""
        rules, cutter = self._rules, self._cutter
        return str(self.engine), rules.adversary, cutter.good, cutter.threads, rules.targeted

    def exactly(self, x: Tensor, rows: Tensor | None, begun: int = 0) -> Tensor:
        """Runs and counts one draw for each candidate in float32; returns logits (n, n_classes).

        Args:
            x: Candidates (n, c, h, w).
            rows: Positions (n,) in the batch; ``None`` if unknown.
            begun: Candidates of the query that were run before, draw after draw.
        """
        lane = Lane(self._model, PreparedModel(EXACT))
        return self.run(lane, x, rows, self._path(begun, len(x)))[0]

    def run(
        self, lane: Lane, x: Tensor, rows: Tensor | None, path: Tensor | None
    ) -> tuple[Tensor, Outputs]:
        """Runs and counts one draw for each candidate.

        Returns:
            Float32 logits (n, n_classes), and the outputs of watched layers.
        """
        times = 2 if self._aided is not None and self._aided.is_double(x) else 1
        with self._lock:
            self.passes.add("forwards", rows, times * (len(x) if rows is None else self.cost))
            self._run += times * len(x)
        z, seen = self._logits(lane, x, rows, path)
        return z.float(), seen

    def count_backward(self, rows: Tensor) -> None:
        """Counts a backward pass for each of ``rows``."""
        with self._lock:
            self.passes.add("backwards", rows, self.cost)
            self._run += len(rows)

    def charge(self, spent: Spent) -> None:
        """Counts passes whose results are reused from another attack."""
        self.passes.forwards += spent.forwards
        self.passes.backwards += spent.backwards
        self._run += int((spent.forwards + spent.backwards).sum())

    def in_passes(self, x: Tensor, work: Callable[[Pass], R]) -> list[tuple[Tensor, R]]:
        """Calls ``work`` on each pass of a query; returns its candidates (m,) and its result.

        Where passes run side by side, ``work`` does so too. A query that runs out of memory is
        repeated in smaller passes.
        """
        while True:
            n, k = self.begin(x)
            parts = [(i, self._path(begun, len(i))) for begun, i in self._cutter.passes(n, k)]

            def make(lane: Lane, part: tuple[Tensor, Tensor | None]) -> tuple[Tensor, R]:
                return part[0], work(Pass(self, lane, *part))

            try:
                if self.engine.side_by_side:
                    return side_by_side(self._lanes_for(len(parts)), make, parts)
                return [make(self._lanes[0], part) for part in parts]
            except RuntimeError as error:
                if not self._cutter.halve(error):
                    raise

    def begin(self, x: Tensor) -> tuple[int, int]:
        """Samples the draws of a query; returns the number of candidates and of draws."""
        self._compile_when_due(x)
        self.draws.begin(len(x) // len(self.x) if self.coupled else len(x))
        return len(x), self.draws.number

    def _lanes_for(self, parts: int) -> list[Lane]:
        """Returns one lane per thread; they are made once there is work for more than one."""
        n = torch.get_num_threads() if self._aided is None else 1
        if parts > 1 and len(self._lanes) < n:
            models = replicas(self._model, n)
            prepared = one_per_thread(self.prepared, models)
            self._lanes = [Lane(*pair) for pair in zip(models, prepared, strict=False)]
        return self._lanes

    def _path(self, begun: int, n: int) -> Tensor | None:
        """Returns the path of a pass, see ``Draws.path``."""
        if not self.coupled:
            return self.draws.path(begun, n)
        path = self.draws.path(begun // len(self.x), 1)
        return path[:, 0] if path is not None and path.ndim > 1 else path

    def _compile_when_due(self, x: Tensor) -> None:
        """Compiles the model once a long search is well under way.

        When depends on the number of passes, not on time, so that a search repeats itself exactly.
        """
        if not self.may_compile or self._run * self._each < COMPILE_AFTER:
            return
        self.may_compile = False
        self.prepared = compile_if_faster(self._model, self.prepared, x, self._trial)
        self._lanes, self._cutter = [Lane(self._model, self.prepared)], self._new_cutter()

    @property
    def _each(self) -> float:
        """Seconds of a pass; forward and backward count as two."""
        return self.prepared.seconds / 2

    def _trial(self, prepared: PreparedModel, x: Tensor) -> Tensor:
        """Runs a timing pass: not counted, and on throw-away paths."""
        with self.draws.held(prepared.copy or self._model, self.draws.throwaway(len(x))):
            return prepared(self._model, x)

    def _logits(
        self, lane: Lane, x: Tensor, rows: Tensor | None, path: Tensor | None
    ) -> tuple[Tensor, Outputs]:
        if not self._rules.batch_dependent or self.coupled:
            return self._forward(lane, x, path)
        assert rows is not None
        answers: list[Tensor] = []
        outputs: list[Outputs] = []
        for i, (candidate, row) in enumerate(zip(x, rows, strict=True)):
            companions = self.x.index_copy(0, row[None], candidate[None])
            own = path[:, i] if path is not None and path.ndim > 1 else path
            z, seen = self._forward(lane, companions, own)
            answers.append(z[row])
            outputs.append({name: value[row] for name, value in seen.items()})
        names = outputs[0] if outputs else ()
        return torch.stack(answers), {n: torch.stack([o[n] for o in outputs]) for n in names}

    def _forward(self, lane: Lane, x: Tensor, path: Tensor | None) -> tuple[Tensor, Outputs]:
        """Runs images that the model sees together."""
        net = lane.prepared.copy or lane.model

        def own(x: Tensor) -> Tensor:
            with self.draws.held(net, path):
                return lane.prepared(lane.model, x)

        return (own(x), {}) if self._aided is None else self._aided(own, x, path)
