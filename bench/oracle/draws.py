"""The random paths behind an oracle's answers: independent, stratified, or the mean field."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from bench.core.errors import UserError
from bench.norms import find_paths, mean_field, pinned
from bench.oracle.engine import QueryRules


class Draws:
    """Samples the paths for the passes of one oracle.

    With ``eot: mean_field`` there is nothing to sample: passes run through another model, the
    surrogate of ``bench.norms.mean_field``. Such a pass counts as one and costs slightly more, as
    every branch of each norm runs. It is deterministic but decides nothing, so the model still
    counts as stochastic.

    Args:
        model: The model; one without RNA layers draws by itself, if at all.
        rules: Whether the model draws, and how draws are chosen.

    Attributes:
        paths: The paths of its RNA layers, or ``None``.

    Raises:
        UserError: When ``rules.eot`` needs RNA layers and the model has none.
    """

    def __init__(self, model: nn.Module, rules: QueryRules) -> None:
        self._model, self._rules = model, rules
        self.paths = find_paths(model)
        if rules.stochastic and rules.eot != "plain" and self.paths is None:
            raise UserError(
                f"eot {rules.eot} is for models with layers that draw a path at random (rna); "
                "this one has none; use plain"
            )
        self._real = False
        self._generator = torch.Generator().manual_seed(rules.seed)
        self._ahead: Tensor | None = None

    @property
    def mean_field(self) -> bool:
        """Whether passes currently run through the mean-field surrogate."""
        return self._rules.stochastic and self._rules.eot == "mean_field" and not self._real

    @property
    def number(self) -> int:
        """Draws per answer; 1 for a deterministic model and for the surrogate."""
        return self._rules.eot_iter if self._rules.stochastic and not self.mean_field else 1

    @contextmanager
    def from_model(self) -> Iterator[None]:
        """Queries the model itself, not the surrogate, in this context."""
        before, self._real = self._real, True
        try:
            yield
        finally:
            self._real = before

    def begin(self, n_paths: int) -> None:
        """Samples the paths of a query before its passes.

        Passes take them in order, draw by draw, so results do not depend on how a query is split.

        Args:
            n_paths: Paths per draw of the whole query.
        """
        self._ahead = None
        if self.paths is None or self.paths.pinned is not None or self.mean_field:
            return
        if self._rules.stochastic and self._rules.eot == "stratified":
            self._ahead = self.paths.sample_stratified(n_paths, self.number, self._generator)
        else:
            self._ahead = self.paths.sample(n_paths * self.number, self._generator)

    def path(self, begun: int, n: int) -> Tensor | None:
        """Returns the path of a pass, (n_layers,) or (n_layers, n); ``None`` without RNA layers.

        A pinned path stays. Otherwise each image has its own, unless images share statistics: then
        each whole batch has one, or each candidate that replaces one image of a clean batch.

        Args:
            begun: Paths of the query, draw after draw, that earlier passes took.
            n: Paths that this pass takes.
        """
        if self.paths is None or self.paths.pinned is not None:
            return None if self.paths is None else self.paths.pinned
        if self.mean_field:
            return None
        assert self._ahead is not None
        return self._ahead[:, begun : begun + n]

    @contextmanager
    def held(self, model: nn.Module, path: Tensor | None) -> Iterator[None]:
        """Pins a path in the model or a copy of it; the surrogate needs none."""
        if path is not None:
            with pinned(model, path):
                yield
        elif self.mean_field:
            with mean_field(model):
                yield
        else:
            yield

    def throwaway(self, n: int) -> Tensor | None:
        """Samples paths for a timing pass over n images, apart from the attack's random stream."""
        if self.paths is None or self.paths.pinned is not None:
            return None if self.paths is None else self.paths.pinned
        generator = torch.Generator().manual_seed(0)
        return self.paths.sample(None if self._rules.batch_dependent else n, generator)
