"""A generic registry of named entries, imported on first use, to which other packages may add."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar, cast

from pydantic_core import PydanticCustomError

from bench.core.errors import UserError, did_you_mean

R = TypeVar("R")
T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""No colon: prefixes such as ``foolbox:`` and ``npz:`` are reserved for rbench."""


@dataclass(frozen=True)
class Plugin:
    """An entry point of another package.

    Attributes:
        name: Its name in suites.
        distribution: Name of the package.
        version: Version of the package.
        entry: The entry point.
    """

    name: str
    distribution: str
    version: str
    entry: importlib.metadata.EntryPoint

    @property
    def origin(self) -> str:
        """The package and its version, for messages."""
        return f"{self.distribution} {self.version}".strip()

    def load(self, kind: str) -> object:
        """Imports the object that the entry point names.

        Args:
            kind: Kind of the object, for messages.

        Raises:
            UserError: In one line, for any error: it is foreign code.
        """
        try:
            return self.entry.load()
        except (Exception, SystemExit) as error:
            raise self.broken(kind, f"{type(error).__name__}: {error}") from error

    def call(self, kind: str, function: Callable[..., object], result: type[R], *args: object) -> R:
        """Calls a function of the plugin.

        Args:
            kind: Kind of the entry, for messages.
            function: The object that its entry point names.
            result: Expected type of the result.
            *args: Arguments of the function.

        Raises:
            UserError: Raised by the function; or, in one line, for any other error of it.
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
        """Returns a one-line error that names the plugin, its package and the problem."""
        told = " ".join(why.split())
        return UserError(f"{kind} '{self.name}' of {self.origin} cannot be used: {told}")


@cache
def plugins(group: str) -> Mapping[str, tuple[Plugin, ...]]:
    """Returns the entry points of a group by name; several under one name are a collision.

    Nothing is imported. Packages with unreadable metadata and names that suites cannot use are
    skipped. If a package is installed twice, the first on the path counts.
    """
    found: dict[str, list[Plugin]] = {}
    for plugin in _read(group):
        if _NAME.fullmatch(plugin.name):
            found.setdefault(plugin.name, []).append(plugin)
    return {name: tuple(found[name]) for name in sorted(found)}


def _read(group: str) -> Iterator[Plugin]:
    """Yields the entry points of a group.

    Names and versions are read only for packages with such an entry point: for all packages this
    would take a second.
    """
    distributions = list(importlib.metadata.distributions())
    for place, distribution in enumerate(distributions):
        try:
            if group not in (distribution.read_text("entry_points.txt") or ""):
                continue
            name, version = str(distribution.metadata["Name"]), str(distribution.version)
            entries = [entry for entry in distribution.entry_points if entry.group == group]
        except Exception:  # damaged metadata can raise anything
            continue
        if _key(distribution) not in map(_key, distributions[:place]):
            yield from (Plugin(entry.name, name, version, entry) for entry in entries)


def _key(distribution: importlib.metadata.Distribution) -> str | None:
    """Returns a package's normalized name (PEP 503); ``None`` if it cannot be read."""
    try:
        _ = distribution.version, distribution.entry_points
        return re.sub(r"[-_.]+", "-", str(distribution.metadata["Name"])).lower()
    except Exception:  # damaged metadata can raise anything
        return None


def known_name(kind: str, group: str, own: Collection[str], name: str) -> str:
    """Returns a name if it is one of rbench's or a plugin's; for pydantic validators.

    Raises:
        PydanticCustomError: For an unknown name; of the type that a ``Literal`` raises.
        ValueError: For a name that is claimed twice.
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
    """Returns the plugin of a name, ``None`` if the name is rbench's own.

    Args:
        kind: Kind of the entry in messages, for example ``attack``.
        group: Group of entry points; empty for none.
        name: The name.
        own: Whether rbench has an entry of that name.

    Raises:
        UserError: If the name is claimed twice, by rbench and a package or by two packages.
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


def _imported(target: str) -> Any:
    """Returns what ``"module:attribute"`` names."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


@dataclass(frozen=True)
class Deferred:
    """A function whose module is imported when it is first called.

    Attributes:
        target: ``"module:function"``.
    """

    target: str

    def __call__(self, *args: Any) -> Any:
        """Calls the function."""
        return _imported(self.target)(*args)


class Registry(Generic[T]):
    """Maps names to entries, some of which are imported on first use.

    Args:
        kind: Kind of an entry in messages, for example ``"attack"``.
        group: Entry points by which other packages add to it (``rbench.attacks``); empty for none.
        adopt: Turns the object of a plugin's entry point into an entry. Raises ``ValueError`` with
            the expected type for anything else.
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
            UserError: For an unknown name, with the closest known one; for a name that is claimed
                twice; for a plugin that cannot be imported or is of the wrong type.
        """
        if name not in self:
            raise UserError(f"unknown {self.kind} '{name}'{did_you_mean(name, self)}")
        plugin = self.plugin(name)
        if plugin is not None:
            return self._from(plugin)
        if name not in self._entries:
            self._entries[name] = cast(T, _imported(self._targets[name]))
        return self._entries[name]

    def plugin(self, name: str) -> Plugin | None:
        """Returns the plugin that a name belongs to, ``None`` for rbench; errors as for ``get``."""
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
        """Removes an entry, for example one that a test registered."""
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
