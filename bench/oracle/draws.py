"""The draws behind an oracle's answers: independent, stratified, or none but a surrogate's pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bench.core.errors import UserError
from bench.norms import Paths, find_paths, mean_field, pinned

if TYPE_CHECKING:
    from bench.oracle.access import Access


class Draws:
    """Where the passes of one oracle get their paths from.

    With ``eot`` ``mean_field`` they need none: they run through another model, the surrogate of
    ``bench.norms.mean_field``. Such a pass counts as one, and costs a little more, as every branch
    of each norm runs. It is deterministic, yet settles nothing, so the model stays ``stochastic``.

    Args:
        model: The model; without RNA layers it draws by itself, if at all.
        access: Whether it draws, and how.

    Attributes:
        paths: Of its RNA layers, or ``None``.

    Raises:
        UserError: When ``access.eot`` needs RNA layers and the model has none.
    """

    def __init__(self, model: nn.Module, access: Access) -> None:
        self._model, self._access = model, access
        self.paths = find_paths(model)
        if access.stochastic and access.eot != "plain" and self.paths is None:
            raise UserError(
                f"eot {access.eot} is for models with layers that draw a path at random (rna); "
                "this one has none; use plain"
            )
        self._real = False
        self._generator = torch.Generator().manual_seed(access.seed)
        self._ahead: Tensor | None = None

    @property
    def mean_field(self) -> bool:
        """Whether passes run through the mean-field surrogate, as they are now."""
        return self._access.stochastic and self._access.eot == "mean_field" and not self._real

    @property
    def number(self) -> int:
        """Draws behind each answer; 1 for a deterministic model, and for the surrogate."""
        return self._access.eot_iter if self._access.stochastic and not self.mean_field else 1

    @contextmanager
    def of_the_model(self) -> Iterator[None]:
        """Asks the model even where ``access`` has a surrogate answer, while the context lasts."""
        before, self._real = self._real, True
        try:
            yield
        finally:
            self._real = before

    def begin(self, n_paths: int) -> None:
        """Draws the paths of a query before its passes.

        Passes take them in turn, draw by draw, so it does not matter how the query is cut.

        Args:
            n_paths: Paths that one draw of the whole query takes.
        """
        self._ahead = None
        if self.paths is None or self.paths.pinned is not None or self.mean_field:
            return
        if self._access.stochastic and self._access.eot == "stratified":
            self._ahead = self.paths.sample_stratified(n_paths, self.number, self._generator)
        else:
            self._ahead = self.paths.sample(n_paths * self.number, self._generator)

    @contextmanager
    def one(self, n: int) -> Iterator[None]:
        """Draws the paths of a pass over n images; a path that is pinned already stays.

        Each image gets its own, unless images share statistics: then the pass has one. The
        surrogate has none.
        """
        if self.mean_field and self.paths is not None and self.paths.pinned is None:
            with mean_field(self._model):
                yield
        else:
            with self._pinned(n, self._next):
                yield

    @contextmanager
    def aside(self, n: int) -> Iterator[None]:
        """Draws the paths of a pass over n images that nobody misses."""
        generator = torch.Generator().manual_seed(0)
        with self._pinned(n, lambda paths, each: paths.sample(each, generator)):
            yield

    @contextmanager
    def _pinned(self, n: int, draw: Callable[[Paths, int | None], Tensor]) -> Iterator[None]:
        if self.paths is None or self.paths.pinned is not None:
            yield
            return
        each = None if self._access.batch_dependent else n
        with pinned(self._model, draw(self.paths, each)):
            yield

    def _next(self, paths: Paths, n: int | None) -> Tensor:
        """Returns the path of a pass over n images, or of one that all its images share."""
        if self._ahead is None:
            return paths.sample(n, self._generator)
        size = 1 if n is None else n
        path, rest = self._ahead[:, :size], self._ahead[:, size:]
        self._ahead = rest if rest.shape[1] else None
        return path[:, 0] if n is None else path
