"""How passes of a model are run: on which engine, in what sizes, and how they are counted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from bench.oracle.draws import Draws
from bench.oracle.engine import EXACT, Access, Engine, Twin, give_back, out_of_memory
from bench.oracle.evaluation import Spent
from bench.oracle.fast import compiled_twin, fastest_twin, twins_for_threads
from bench.oracle.passes import Passes
from bench.oracle.side_by_side import replicas, side_by_side

SHARED, WORTH, LARGEST, MOST = 16, 20, 64, 16
"""Where passes are cut by the number of images alone: images that two threads share, images that a
pass has at least where there are more, images in a pass at most, and passes up to which this
holds."""


def alike(n: int) -> int:
    """Returns the size of passes over n images that several threads share, however many there are.

    Two passes where there are images for two; more, as long as each has enough to be fast.
    """
    passes = 2 if n >= SHARED else 1
    while passes < MOST and n / (2 * passes) >= WORTH:
        passes *= 2
    return min(-(-n // passes), LARGEST)


class Cutter:
    """Cuts queries into passes that are fast, and that memory suffices for.

    Args:
        device: Where passes are run.
        fits: Images in a pass, at most.
        good: Images in a pass that are fastest; passes are about as large, and all alike, so that
            no small one is left over. ``None`` cuts by the number of images alone.
        whole: Size of batches that must not be cut; ``None`` where there are none.
        by_draw: Whether a pass may hold one draw only.
        threads: That share the passes of a query.
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
        """Yields where each pass over k draws of n candidates begins, and its candidates (m,)."""
        total = n * k
        size = min(self.fits, self._alike(total)) if self._whole is None else self._whole
        size = min(size, n if self._by_draw else total)
        self._tried = size
        for begun in range(0, total, max(size, 1)):
            last = min(begun + size, total)
            images = torch.arange(begun, last, device=self._device)
            yield begun, images if k == 1 else images % n

    def _alike(self, total: int) -> int:
        if self.good is None:
            return alike(total)
        passes = max(1, round(total / self.good))
        if self.threads > 1:
            passes = max(1, min(-(-passes // self.threads) * self.threads, total))
        return -(-total // passes)

    def halve(self, error: RuntimeError) -> bool:
        """Says whether to ask again, in smaller passes from now on, as memory did not suffice."""
        if not out_of_memory(error) or self._whole is not None or self._tried == 1:
            return False
        give_back(self._device)
        self.fits = max(1, self._tried // 2)
        return True


R = TypeVar("R")

COMPILE_AFTER = 5.0
"""Seconds that a search has taken before its model is compiled."""

COMPILE_AHEAD = {True: 30.0, False: 300.0}
"""Seconds that it may take in all, for a model to be compiled: with its norms folded, which takes
some seconds, and with norms to be computed, which takes a minute and pays less. On a CPU float32
gains nothing by it."""


@dataclass(frozen=True)
class Lane:
    """What a thread runs, and no other thread.

    Attributes:
        model: The model, or a copy of its modules.
        twin: How it is searched.
    """

    model: nn.Module
    twin: Twin


@dataclass(frozen=True)
class Pass:
    """One pass of a query, in the thread that makes it.

    Attributes:
        runner: Whose it is.
        lane: What the thread runs.
        images: The candidates (m,) of the query that it is about.
        path: The path of each, where the model has paths.
    """

    runner: Runner
    lane: Lane
    images: Tensor
    path: Tensor | None

    def fast(self, x: Tensor, rows: Tensor) -> Tensor:
        """Runs a draw of each candidate on the engine; returns float32 logits (m, n_classes)."""
        return self.runner.run(self.lane, x, rows, self.path)

    def exactly(self, x: Tensor, rows: Tensor) -> Tensor:
        """Runs a deterministic model on some candidates as it is."""
        return self.runner.run(Lane(self.lane.model, Twin(EXACT)), x, rows, self.path)


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
        self.passes, self._run, self._lock = Passes(len(x), x.device), 0, threading.Lock()
        free = not access.batch_dependent and not self.one_draw_a_pass
        self.twin = Twin(EXACT)
        if access.fast:
            self.twin = fastest_twin(model, x, self._trial, access.max_pass if free else 0)
        elif x.device.type == "cpu" and not (self.coupled or self.one_draw_a_pass):
            # Cut by the number of images alone, whatever the number of threads.
            self.twin = Twin(replace(EXACT, side_by_side=True))
        self._lanes = [Lane(model, self.twin)]
        self._cutter = self._new_cutter()
        ahead = access.passes_ahead * self._each
        long = ahead >= COMPILE_AHEAD[self.engine.folded] and not access.batch_dependent
        self.may_compile = long and (self.engine.low or x.device.type != "cpu")

    def _new_cutter(self) -> Cutter:
        good: int | None = self.twin.fits or self._access.max_pass
        if self.engine.side_by_side and not self._access.fast:
            good = None
        return Cutter(
            self.x.device,
            self._access.max_pass,
            good,
            len(self.x) if self.coupled else None,
            self.one_draw_a_pass,
            torch.get_num_threads() if self.engine.side_by_side else 1,
        )

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
        return str(self.engine), self._access.adversary, self._cutter.good, self._cutter.threads

    def exactly(self, x: Tensor, rows: Tensor | None, begun: int = 0) -> Tensor:
        """Runs one draw for each candidate in float32, and counts it; returns logits (n, m).

        Args:
            x: Candidates (n, c, h, w).
            rows: Positions (n,) in the batch; ``None`` where nobody knows them.
            begun: Candidates of the query that were run before, draw after draw.
        """
        lane = Lane(self._model, Twin(EXACT))
        return self.run(lane, x, rows, self._path(begun, len(x)))

    def run(self, lane: Lane, x: Tensor, rows: Tensor | None, path: Tensor | None) -> Tensor:
        """Runs one draw for each candidate, and counts it; returns float32 logits."""
        with self._lock:
            self.passes.add("forwards", rows, len(x) if rows is None else self.cost)
            self._run += len(x)
        return self._logits(lane, x, rows, path).float()

    def went_back(self, rows: Tensor) -> None:
        """Counts a backward pass for each of ``rows``."""
        with self._lock:
            self.passes.add("backwards", rows, self.cost)
            self._run += len(rows)

    def charge(self, spent: Spent) -> None:
        """Counts passes that another attack made for this one."""
        self.passes.forwards += spent.forwards
        self.passes.backwards += spent.backwards
        self._run += int((spent.forwards + spent.backwards).sum())

    def in_passes(self, x: Tensor, work: Callable[[Pass], R]) -> list[tuple[Tensor, R]]:
        """Returns the candidates (m,) of each pass of a query, and what ``work`` makes of them.

        Where passes run side by side, ``work`` does so too. A query that memory does not suffice
        for is asked again, in smaller passes.
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
        """Makes ready the draws of a query; returns how many candidates and draws it has."""
        self._compile_when_due(x)
        self.draws.begin(len(x) // len(self.x) if self.coupled else len(x))
        return len(x), self.draws.number

    def _lanes_for(self, parts: int) -> list[Lane]:
        """Returns what threads run, one lane a thread, made once there is work for them."""
        n = torch.get_num_threads()
        if parts > 1 and len(self._lanes) < n:
            models = replicas(self._model, n)
            twins = twins_for_threads(self.twin, models)
            self._lanes = [Lane(*pair) for pair in zip(models, twins, strict=False)]
        return self._lanes

    def _path(self, begun: int, n: int) -> Tensor | None:
        """Returns the path of a pass, see ``Draws.path``."""
        if not self.coupled:
            return self.draws.path(begun, n)
        path = self.draws.path(begun // len(self.x), 1)
        return path[:, 0] if path is not None and path.ndim > 1 else path

    def _compile_when_due(self, x: Tensor) -> None:
        """Compiles the model once a long search is well under way.

        Due is a matter of passes, not of the clock, so that a search repeats itself exactly.
        """
        if not self.may_compile or self._run * self._each < COMPILE_AFTER:
            return
        self.may_compile = False
        self.twin = compiled_twin(self._model, self.twin, x, self._trial)
        self._lanes, self._cutter = [Lane(self._model, self.twin)], self._new_cutter()

    @property
    def _each(self) -> float:
        """Seconds of a pass; there and back are two."""
        return self.twin.seconds / 2

    def _trial(self, twin: Twin, x: Tensor) -> Tensor:
        """Runs a pass that nobody counts, on paths that nobody misses."""
        with self.draws.held(twin.copy or self._model, self.draws.aside(len(x))):
            return twin(self._model, x)

    def _logits(self, lane: Lane, x: Tensor, rows: Tensor | None, path: Tensor | None) -> Tensor:
        net = lane.twin.copy or lane.model
        if not self._access.batch_dependent or self.coupled:
            with self.draws.held(net, path):
                return lane.twin(lane.model, x)
        assert rows is not None
        answers = []
        for i, (candidate, row) in enumerate(zip(x, rows, strict=True)):
            companions = self.x.index_copy(0, row[None], candidate[None])
            own = path[:, i] if path is not None and path.ndim > 1 else path
            with self.draws.held(net, own):
                answers.append(lane.twin(lane.model, companions)[row])
        return torch.stack(answers)
