"""What other installed packages add by entry points: listed by name, imported on use."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

from pydantic_core import PydanticCustomError

from bench.core.errors import UserError

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
