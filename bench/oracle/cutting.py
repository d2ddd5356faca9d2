"""How a query is cut into passes."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from bench.oracle.memory import give_back, out_of_memory

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
