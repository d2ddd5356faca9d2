"""Signs of life of commands that take a while: a bar on a terminal, lines in a pipe."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console

from bench.cli.options import console, duration, errors, say

EVERY = 10.0
"""Seconds between two lines where nobody sees a bar, unless told otherwise."""


class Working:
    """Says at once what a command does, and then how far it is and how long it will take.

    On a terminal that is a bar, which is gone at the end; elsewhere a line on stderr at the start,
    and another one now and then, so that what is piped holds results alone. Use it as a context
    manager; it imports nothing that takes time.

    Args:
        text: What is done, for example ``probing fmnist-resnet20-bn``.
        total: Number of steps, if there are any.
        every: Seconds between two lines where nobody sees a bar.
        silent: Whether nothing is shown.
    """

    def __init__(
        self, text: str, total: float | None = None, *, every: float = EVERY, silent: bool = False
    ) -> None:
        self._text, self._total, self._done = text, total, 0.0
        self._every, self._silent = every, silent
        self._began = self._last = time.monotonic()

    def __enter__(self) -> Working:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        shown: Console = console if console.is_terminal else errors
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        lines = not shown.is_terminal
        disabled = lines or self._silent
        self._bar = Progress(*columns, console=shown, transient=True, disable=disabled)
        self._task = self._bar.add_task(self._plain(self._text), total=self._total)
        if lines and not self._silent:
            say(errors, f"{self._text} ...")
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def step(self, text: str = "", done: float | None = None, total: float | None = None) -> None:
        """Notes that one more step is done, or ``done`` of ``total``.

        Args:
            text: What is done now, in place of the text before; empty for the same.
            done: Steps done, where it is not one more.
            total: Steps in all, where that was not known.
        """
        self._text = text or self._text
        self._done = self._done + 1 if done is None else done
        self._total = self._total if total is None else total
        shown = self._plain(self._text)
        self._bar.update(self._task, completed=self._done, total=self._total, description=shown)
        now = time.monotonic()
        if self._bar.disable and not self._silent and now - self._last > self._every:
            self._last = now
            say(errors, self._text + self._how_far(now - self._began))

    def _how_far(self, gone: float) -> str:
        """Returns for example ``: 12 of 60, about 3 min 20 s left``."""
        if not self._total:
            return f": {self._done:g} done"
        left = gone * max(self._total - self._done, 0) / max(self._done, 1e-9)
        return f": {self._done:g} of {self._total:g}, about {duration(left)} left"

    @staticmethod
    def _plain(text: str) -> str:
        """Returns a text in which rich sees no markup."""
        from rich.markup import escape

        return escape(text)
