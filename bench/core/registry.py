"""A generic name-to-thing registry with lazy entries."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Generic, TypeVar, cast

from bench.core.errors import UserError, did_you_mean

T = TypeVar("T")


class Registry(Generic[T]):
    """Maps names to values that may be imported only when they are asked for.

    Args:
        kind: What an entry is called in messages, for example ``"attack"``.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}
        self._targets: dict[str, str] = {}

    def add(self, name: str, value: T) -> None:
        """Registers a value; raises ``ValueError`` when the name is taken."""
        self._claim(name)
        self._entries[name] = value

    def add_lazy(self, name: str, target: str) -> None:
        """Registers ``"module:attribute"``, imported on first use."""
        self._claim(name)
        self._targets[name] = target

    def _claim(self, name: str) -> None:
        if name in self:
            raise ValueError(f"{self.kind} '{name}' is registered twice")

    def get(self, name: str) -> T:
        """Returns the entry; raises ``UserError`` with the nearest name when there is none."""
        if name not in self:
            raise UserError(f"unknown {self.kind} '{name}'{did_you_mean(name, self)}")
        if name not in self._entries:
            module, _, attribute = self._targets[name].partition(":")
            entry = cast(T, getattr(importlib.import_module(module), attribute))
            self._entries[name] = entry
        return self._entries[name]

    def remove(self, name: str) -> None:
        """Takes a name out again, for example one that a test registered."""
        del self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._targets

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({**self._targets, **self._entries}))

    def __len__(self) -> int:
        return len({**self._targets, **self._entries})
