"""A generic name-to-thing registry with lazy entries, some of them from other packages."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar, cast

from bench.core.errors import UserError, did_you_mean
from bench.core.plugins import Plugin, only_plugin, plugins

T = TypeVar("T")


class Registry(Generic[T]):
    """Maps names to values that may be imported only when they are asked for.

    Args:
        kind: What an entry is called in messages, for example ``"attack"``.
        group: Entry points of other packages that add to it (``rbench.attacks``); empty for none.
        adopt: Turns what a plugin's entry point names into an entry. Raises ``ValueError``, with
            what was expected, for anything else.
    """

    def __init__(
        self, kind: str, group: str = "", adopt: Callable[[Plugin, object], T] | None = None
    ) -> None:
        self.kind, self.group = kind, group
        self._adopt = adopt
        self._entries: dict[str, T] = {}
        self._targets: dict[str, str] = {}
        self._adopted: dict[Plugin, T] = {}

    def add(self, name: str, value: T) -> None:
        """Registers a value; raises ``ValueError`` when the name is taken."""
        self._claim(name)
        self._entries[name] = value

    def add_lazy(self, name: str, target: str) -> None:
        """Registers ``"module:attribute"``, imported on first use."""
        self._claim(name)
        self._targets[name] = target

    def _claim(self, name: str) -> None:
        if self._own(name):
            raise ValueError(f"{self.kind} '{name}' is registered twice")

    def get(self, name: str) -> T:
        """Returns the entry.

        Raises:
            UserError: With the nearest name when there is none; when a plugin claims a name that
                is taken; when a plugin cannot be imported, or is not what it should be.
        """
        if name not in self:
            raise UserError(f"unknown {self.kind} '{name}'{did_you_mean(name, self)}")
        plugin = self.plugin(name)
        if plugin is not None:
            return self._from(plugin)
        if name not in self._entries:
            module, _, attribute = self._targets[name].partition(":")
            entry = cast(T, getattr(importlib.import_module(module), attribute))
            self._entries[name] = entry
        return self._entries[name]

    def plugin(self, name: str) -> Plugin | None:
        """Returns whose entry a name is, ``None`` for rbench's own; errors as for ``get``."""
        return only_plugin(self.kind, self.group, name, own=self._own(name))

    def _from(self, plugin: Plugin) -> T:
        if plugin not in self._adopted:
            found = plugin.load(self.kind)
            try:
                self._adopted[plugin] = (
                    self._adopt(plugin, found) if self._adopt else cast(T, found)
                )
            except ValueError as error:
                raise plugin.broken(self.kind, str(error)) from error
        return self._adopted[plugin]

    def remove(self, name: str) -> None:
        """Takes a name out again, for example one that a test registered."""
        del self._entries[name]

    def _own(self, name: object) -> bool:
        return name in self._entries or name in self._targets

    def _names(self) -> set[str]:
        added = plugins(self.group) if self.group else {}
        return {*self._targets, *self._entries, *added}

    def __contains__(self, name: object) -> bool:
        return self._own(name) or name in self._names()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._names()))

    def __len__(self) -> int:
        return len(self._names())
