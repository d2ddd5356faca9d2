"""The draws behind an oracle's answers: independent, stratified, or none but a surrogate's pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bench.core.errors import UserError
from bench.norms import find_paths, mean_field, pinned

if TYPE_CHECKING:
    from bench.oracle.engine import Access


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

        Passes take them in order, draw by draw, so it does not matter how the query is cut.

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

    def path(self, begun: int, n: int) -> Tensor | None:
        """Returns the path of a pass: (n_layers,), or (n_layers, n); ``None`` where there is none.

        A path that is pinned already stays. Else each image has its own, unless images share
        statistics: then each whole batch has one, or each candidate that is alone in one.

        Args:
            begun: Paths of the query, draw after draw, that earlier passes take.
            n: Paths that this one takes.
        """
        if self.paths is None or self.paths.pinned is not None:
            return None if self.paths is None else self.paths.pinned
        if self.mean_field:
            return None
        assert self._ahead is not None
        return self._ahead[:, begun : begun + n]

    @contextmanager
    def held(self, model: nn.Module, path: Tensor | None) -> Iterator[None]:
        """Holds a path of ``path`` in the model or a copy of it; the surrogate has none."""
        if path is not None:
            with pinned(model, path):
                yield
        elif self.mean_field:
            with mean_field(model):
                yield
        else:
            yield

    def aside(self, n: int) -> Tensor | None:
        """Returns the path of a pass over n images that nobody misses."""
        if self.paths is None or self.paths.pinned is not None:
            return None if self.paths is None else self.paths.pinned
        generator = torch.Generator().manual_seed(0)
        return self.paths.sample(None if self._access.batch_dependent else n, generator)
