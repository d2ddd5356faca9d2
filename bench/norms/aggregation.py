"""Random Normalization Aggregation (RNA).

Source: Dong et al., NeurIPS 2022, section 4 and algorithm 1,
https://github.com/UniSerj/Random-Norm-Aggregation. Each normalization layer holds a pool of norms,
each with its own affine parameters, and draws one of them inside ``forward``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Paths:
    """Chooses the branches of all RNA layers of one model.

    A path is an int64 tensor (n_layers,) or (n_layers, b): the branch of each layer, the same for
    the whole batch or one per sample.

    Attributes:
        scope: ``"layer"`` or ``"network"`` (one choice, shared by all layers).
        per: ``"batch"`` or ``"sample"``.
        pinned: The path in force, or ``None`` to draw a new one in each forward pass.
        averaged: Whether layers return the mean of their branches, see ``mean_field``.
    """

    def __init__(self, scope: str, per: str, seed: int = 0) -> None:
        self.scope, self.per = scope, per
        self.sizes: list[int] = []
        self.pinned: Tensor | None = None
        self.averaged = False
        self._generator = torch.Generator().manual_seed(seed)
        self._shared: Tensor | None = None
        self._seen: set[int] = set()

    def __deepcopy__(self, memo: dict[int, object]) -> Paths:
        copy = Paths(self.scope, self.per)
        memo[id(self)] = copy
        copy.sizes = list(self.sizes)
        copy.pinned = None if self.pinned is None else self.pinned.clone()
        copy.averaged = self.averaged
        copy._generator.set_state(self._generator.get_state())
        return copy

    def __getstate__(self) -> dict[str, object]:
        state = {k: v for k, v in self.__dict__.items() if k != "_generator"}
        return state | {"generator_state": self._generator.get_state()}

    def __setstate__(self, state: dict[str, object]) -> None:
        generator_state = state.pop("generator_state")
        self.__dict__.update(state)
        self._generator = torch.Generator()
        assert isinstance(generator_state, Tensor)
        self._generator.set_state(generator_state)

    def join(self, n_branches: int) -> int:
        """Registers a layer; returns its index."""
        self.sizes.append(n_branches)
        return len(self.sizes) - 1

    def seed(self, seed: int) -> None:
        """Restarts the stream of draws."""
        self._generator.manual_seed(seed)
        self._shared = None
        self._seen.clear()

    def sample(self, n: int | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Samples paths without using them: (n_layers,), or (n_layers, n) for n paths."""
        shape = () if n is None else (n,)
        source = self._generator if generator is None else generator
        if self.scope == "network":
            choice = torch.randint(min(self.sizes), shape, generator=source)
            return choice.expand(len(self.sizes), *shape).clone()
        return torch.stack([torch.randint(k, shape, generator=source) for k in self.sizes])

    def sample_stratified(
        self, n: int | None, k: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """Samples k paths for each of n images that use a layer's branches equally often.

        Over an image's k draws, each branch of a layer occurs k / n_branches times, rounded down
        or up. Which branches occur once more, and the order, are random, independently for every
        image and layer (one choice for all layers under scope ``network``). So each single draw has
        the distribution of ``sample``, and a mean over draws stays unbiased. Main effects of single
        layers vanish from the mean's variance once k is a multiple of the number of branches.
        Interactions between layers remain: their variance is up to twice that of independent draws
        for k = 2, and hardly more for large k. Two draws from a pool of two are antithetic: the
        second takes every branch that the first does not.

        Args:
            n: Number of images; ``None`` for paths that apply to whole batches.
            k: Number of draws.
            generator: Source of randomness; ``None`` for the model's own stream.

        Returns:
            Paths (n_layers, k * n), the first draw of all images before the second; (n_layers, k)
            without n.
        """
        images = 1 if n is None else n
        source = self._generator if generator is None else generator
        if self.scope == "network":
            choice = _balanced(min(self.sizes), images, k, source)
            return choice.expand(len(self.sizes), len(choice)).clone()
        return torch.stack([_balanced(size, images, k, source) for size in self.sizes])

    def choose(self, layer: int, batch: int) -> Tensor:
        """Returns this layer's branch in the current pass: shape () or (batch,)."""
        if self.pinned is not None:
            return self.pinned[layer]
        shape = (batch,) if self.per == "sample" else ()
        if self.scope == "layer":
            return torch.randint(self.sizes[layer], shape, generator=self._generator)
        if layer in self._seen or self._shared is None or self._shared.shape != shape:
            self._seen.clear()
            self._shared = torch.randint(min(self.sizes), shape, generator=self._generator)
        self._seen.add(layer)
        return self._shared


def _balanced(size: int, n: int, k: int, generator: torch.Generator) -> Tensor:
    """Samples k numbers below ``size``, equally often, for each of n images; (k * n,) by draw.

    Each image is dealt the numbers in turn, in a random order, and its k are then shuffled.
    """
    names = torch.rand(n, size, generator=generator, dtype=torch.float64).argsort(1)
    dealt = names[:, torch.arange(k) % size]
    order = torch.rand(n, k, generator=generator, dtype=torch.float64).argsort(1)
    return dealt.gather(1, order).T.reshape(-1)


class RandomNormAggregation(nn.Module):
    """One RNA layer: a pool of norms, of which a pass uses one per batch or per sample."""

    def __init__(self, branches: list[nn.Module], paths: Paths) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.paths = paths
        self.layer = paths.join(len(branches))

    def forward(self, x: Tensor) -> Tensor:
        """Normalizes (b, c, h, w) by the drawn branch; same shape out."""
        if self.paths.averaged:
            return self._mean(x)
        choice = self.paths.choose(self.layer, x.shape[0])
        if choice.ndim == 0:
            return self._branch(int(choice), x)
        if choice.shape[0] != x.shape[0]:
            raise ValueError(f"a path for {choice.shape[0]} samples met a batch of {x.shape[0]}")
        counts = torch.bincount(choice, minlength=len(self.branches)).tolist()
        used = [index for index, count in enumerate(counts) if count]
        if len(used) == 1:
            return self._branch(used[0], x)
        order = choice.argsort(stable=True)  # groups the samples by branch: two copies in all
        sizes = [counts[index] for index in used]
        parts = torch.split_with_sizes(x.index_select(0, order.to(x.device)), sizes)
        y = torch.cat([self._branch(i, part) for i, part in zip(used, parts, strict=True)])
        return y.index_select(0, order.argsort().to(x.device))

    def _mean(self, x: Tensor) -> Tensor:
        total = self._branch(0, x)
        for index in range(1, len(self.branches)):
            total = total + self._branch(index, x)
        return total / len(self.branches)

    def _branch(self, index: int, x: Tensor) -> Tensor:
        y: Tensor = self.branches[index](x)
        return y


def find_paths(model: nn.Module) -> Paths | None:
    """Returns the ``Paths`` of a model's RNA layers, or ``None`` if it has none."""
    for module in model.modules():
        if isinstance(module, RandomNormAggregation):
            return module.paths
    return None


@contextmanager
def pinned(model: nn.Module, path: Tensor) -> Iterator[None]:
    """Pins one path, (n_layers,) or (n_layers, b), in this context.

    Raises:
        ValueError: When the model has no RNA layers or the path does not fit them.
    """
    paths = find_paths(model)
    if paths is None:
        raise ValueError("the model has no RNA layers, so there is no path to pin")
    n_layers = len(paths.sizes)
    if path.ndim not in (1, 2) or path.shape[0] != n_layers or path.dtype != torch.int64:
        found = f"{path.dtype} of shape {tuple(path.shape)}"
        raise ValueError(f"expected an int64 path over {n_layers} layers, found {found}")
    limits = torch.tensor(paths.sizes, device=path.device).view(-1, *[1] * (path.ndim - 1))
    if bool(((path < 0) | (path >= limits)).any()):
        raise ValueError(f"the path names a branch beyond the layers' {paths.sizes} branches")
    before, paths.pinned = paths.pinned, path
    try:
        yield
    finally:
        paths.pinned = before


@contextmanager
def mean_field(model: nn.Module) -> Iterator[None]:
    """Makes every RNA layer return the mean of its branches in this context.

    That is another model: what follows a layer is not linear, so its logits are not the RNA model's
    mean logits over paths, and they do not tell how often the RNA model errs. It is a surrogate
    whose gradient can guide an attack, at the cost of one pass through the convolutions and every
    branch of the norms; nothing is ever scored on it. It is deterministic and ignores a pinned
    path.

    Raises:
        ValueError: When the model has no RNA layers, or is in training mode.
    """
    paths = find_paths(model)
    if paths is None:
        raise ValueError("the model has no RNA layers, so it has no mean field")
    if model.training:
        raise ValueError("the mean field of a model in training mode would update its statistics")
    before, paths.averaged = paths.averaged, True
    try:
        yield
    finally:
        paths.averaged = before
