"""What ``evaluate()`` shows on stderr while it works: how far it is, and the time left."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from tqdm import tqdm

from bench.oracle.passes import listening

UNKNOWN = 100
"""Passes an image that an attack is taken to need which does not tell."""

FIRST, EVERY = 1.5, 10.0
"""Seconds until the first line, and between two lines, where stderr is a file or a pipe."""


class _Bar(tqdm):  # type: ignore[type-arg]
    """Without the thread by which tqdm watches its bars."""

    monitor_interval = 0


class Progress:
    """Shows the parts of an evaluation: a bar on a terminal or in a notebook, elsewhere lines.

    Use it as a context manager. A part counts by its estimated passes over single images.

    Args:
        total: Estimated passes of all parts.
        shown: Whether anything is printed.
    """

    def __init__(self, total: float, *, shown: bool) -> None:
        self._total, self._shown, self._done, self._part = max(total, 1.0), shown, 0.0, ""
        self._bar: _Bar | None = None
        self._timer: threading.Timer | None = None
        self._began = self._last = 0.0

    def __enter__(self) -> Progress:
        self._began = self._last = time.monotonic()
        if self._shown and (sys.stderr.isatty() or "ipykernel" in sys.modules):
            form = "{desc}: {percentage:3.0f} % |{bar:20}| {elapsed} gone, about {remaining} left"
            self._bar = _Bar(
                total=self._total, bar_format=form, leave=False, file=sys.stderr, miniters=0
            )
        elif self._shown:
            self._timer = threading.Timer(FIRST, self._line)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._bar is not None:
            self._bar.close()

    @contextmanager
    def part(self, name: str, passes: float) -> Iterator[None]:
        """Shows a part while it runs; passes that the oracle counts move the bar.

        Args:
            name: What is done.
            passes: Its share of the total. It counts in full at the end, and not more before.
        """
        self._part, begun = name, self._done
        if self._bar is not None:
            self._bar.set_description_str(name)

        def heard(n: float) -> None:
            self._to(min(self._done + n, begun + 0.98 * passes))

        try:
            with listening(heard):
                yield
        finally:
            self._to(begun + passes)

    def _to(self, done: float) -> None:
        more, self._done = done - self._done, done
        if self._bar is not None:
            self._bar.update(min(more, self._total - self._bar.n))
        elif self._shown and time.monotonic() - self._last > EVERY:
            self._line()

    def _line(self) -> None:
        """Prints how far it is."""
        self._last = time.monotonic()
        gone, share = self._last - self._began, min(self._done / self._total, 1.0)
        left = f", about {gone * (1 - share) / share:.0f} s left" if share > 0.02 else ""
        sys.stderr.write(f"evaluate: {self._part}: {share:.0%} done{left}\n")
        sys.stderr.flush()
