"""A generic name-to-thing registry with lazy entries, some of them from other packages."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Generic, TypeVar, cast

from pydantic_core import PydanticCustomError

from bench.core.errors import UserError, did_you_mean

R = TypeVar("R")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""No colon: ``foolbox:`` and ``npz:`` stay rbench's own."""


@dataclass(frozen=True)
class Plugin:
    """An entry point of another package.

    Attributes:
        name: As suites name it.
        distribution: Name of the package that brings it.
        version: Of that package.
        entry: The entry point.
    """

    name: str
    distribution: str
    version: str
    entry: importlib.metadata.EntryPoint

    @property
    def origin(self) -> str:
        """The package and its version, in words."""
        return f"{self.distribution} {self.version}".strip()

    def load(self, kind: str) -> object:
        """Imports what the entry point names.

        Args:
            kind: What it should be, for the message.

        Raises:
            UserError: In one line, whatever goes wrong: it is foreign code.
        """
        try:
            return self.entry.load()
        except (Exception, SystemExit) as error:
            raise self.broken(kind, f"{type(error).__name__}: {error}") from error

    def call(self, kind: str, function: Callable[..., object], result: type[R], *args: object) -> R:
        """Calls a function of it.

        Args:
            kind: What it is, for the message.
            function: What its entry point names.
            result: What the function should return.
            *args: What it is given.

        Raises:
            UserError: Its own; or, in one line, whatever else goes wrong: it is foreign code.
        """
        try:
            made = function(*args)
        except UserError:
            raise
        except Exception as error:
            raise self.broken(kind, f"{type(error).__name__}: {error}") from error
        if not isinstance(made, result):
            raise self.broken(kind, f"it returned {type(made).__name__}, not a {result.__name__}")
        return made

    def broken(self, kind: str, why: str) -> UserError:
        """Returns the error that says, in one line, what is wrong with it."""
        told = " ".join(why.split())
        return UserError(f"{kind} '{self.name}' of {self.origin} cannot be used: {told}")


@cache
def plugins(group: str) -> Mapping[str, tuple[Plugin, ...]]:
    """Returns the entry points of a group by name; more than one under a name is a collision.

    This imports none of them. Packages whose metadata cannot be read are passed over, and so are
    names that no suite may use. Of a package that is there twice, the first on the path counts.
    """
    found: dict[str, list[Plugin]] = {}
    for plugin in _read(group):
        if _NAME.fullmatch(plugin.name):
            found.setdefault(plugin.name, []).append(plugin)
    return {name: tuple(found[name]) for name in sorted(found)}


def _read(group: str) -> Iterator[Plugin]:
    """Yields the entry points of a group.

    Names and versions, which take a second to read of all packages, are read only where there is
    such an entry point.
    """
    distributions = list(importlib.metadata.distributions())
    for place, distribution in enumerate(distributions):
        try:
            if group not in (distribution.read_text("entry_points.txt") or ""):
                continue
            name, version = str(distribution.metadata["Name"]), str(distribution.version)
            entries = [entry for entry in distribution.entry_points if entry.group == group]
        except Exception:  # metadata that anybody may have damaged
            continue
        if _key(distribution) not in map(_key, distributions[:place]):
            yield from (Plugin(entry.name, name, version, entry) for entry in entries)


def _key(distribution: importlib.metadata.Distribution) -> str | None:
    """Returns a package's name as installers compare it; ``None`` where it cannot be read."""
    try:
        _ = distribution.version, distribution.entry_points
        return re.sub(r"[-_.]+", "-", str(distribution.metadata["Name"])).lower()
    except Exception:  # metadata that anybody may have damaged
        return None


def known_name(kind: str, group: str, own: Collection[str], name: str) -> str:
    """Returns a name that is rbench's own or a plugin's; for pydantic validators.

    Raises:
        PydanticCustomError: For any other; of the type that a ``Literal`` raises.
        ValueError: For a name that two claim.
    """
    try:
        plugin = only_plugin(kind, group, name, own=name in own)
    except UserError as error:
        raise ValueError(str(error)) from None
    if name not in own and plugin is None:
        names = [repr(known) for known in (*own, *plugins(group))]
        expected = f"{', '.join(names[:-1])} or {names[-1]}"
        raise PydanticCustomError(
            "literal_error", "Input should be {expected}", {"expected": expected}
        )
    return name


def only_plugin(kind: str, group: str, name: str, *, own: bool) -> Plugin | None:
    """Returns the plugin of a name, ``None`` where the name is rbench's own.

    Args:
        kind: What it is called in messages, for example ``attack``.
        group: Of entry points; empty for none.
        name: The name.
        own: Whether rbench has that name itself.

    Raises:
        UserError: When two of rbench and the packages claim the name.
    """
    claims = plugins(group).get(name, ()) if group else ()
    claimants = [*(["rbench"] if own else []), *(plugin.origin for plugin in claims)]
    if len(claimants) > 1:
        raise UserError(
            f"{kind} '{name}' comes from both {' and '.join(claimants)}; uninstall one of them"
            if not own
            else f"{kind} '{name}' is rbench's own, and also comes from "
            f"{' and '.join(claimants[1:])}; uninstall that package, or have it renamed"
        )
    return claims[0] if claims else None


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
