"""Stopping a run from outside: what is at work is finished, and nothing is begun."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether to stop, and why.

    Attributes:
        signal: That asked for it; ``None`` where nobody did.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    @property
    def asked(self) -> bool:
        """Whether somebody asked to stop."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """Of a command that was stopped, as shells have it; 0 where it was not."""
        return 128 + self.signal if self.signal is not None else 0


@contextmanager
def stop_on_signals(told: Callable[[Stop], None]) -> Iterator[Stop]:
    """Yields what turns true on the first SIGINT or SIGTERM; a second one ends the run at once.

    Only a program's main thread hears signals; in another, nothing is changed.

    Args:
        told: Called on the first signal.

    Raises:
        KeyboardInterrupt: Inside the context, on the second.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def hear(number: int, frame: FrameType | None) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.signal = signal.Signals(number)
        told(stop)

    before = {number: signal.signal(number, hear) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
