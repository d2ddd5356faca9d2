"""How a query is cut into passes."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from bench.oracle.memory import give_back, out_of_memory


class Cutter:
    """Cuts queries into passes that are fast, and that memory suffices for.

    Args:
        device: Where passes are run.
        fits: Images in a pass, at most.
        good: Images in a pass that are fastest; passes are about as large, and all alike, so that
            no small one is left over.
        whole: Size of batches that must not be cut; ``None`` where there are none.
        by_draw: Whether a pass may hold one draw only.
    """

    def __init__(
        self,
        device: torch.device,
        fits: int,
        good: int,
        whole: int | None,
        by_draw: bool,
    ) -> None:
        self._device, self.fits, self.good = device, fits, good
        self._whole, self._by_draw = whole, by_draw
        self._tried = fits

    def passes(self, n: int, k: int) -> Iterator[torch.Tensor]:
        """Yields the candidates (m,) of each pass over k draws of n candidates."""
        total = n * k
        alike = -(-total // max(1, round(total / self.good)))
        size = min(self.fits, alike) if self._whole is None else self._whole
        size = min(size, n if self._by_draw else total)
        self._tried = size
        for begun in range(0, total, max(size, 1)):
            yield torch.arange(begun, min(begun + size, total), device=self._device) % n

    def halve(self, error: RuntimeError) -> bool:
        """Says whether to ask again, in smaller passes from now on, as memory did not suffice."""
        if not out_of_memory(error) or self._whole is not None or self._tried == 1:
            return False
        give_back(self._device)
        self.fits = max(1, self._tried // 2)
        return True
