"""Reads an attack's parameters off the signature of a library's class or function."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import Field, StrictBool, StrictInt, StrictStr, create_model

from bench.attacks.base import Attack, AttackFunction
from bench.attacks.declared_libraries import Facts
from bench.attacks.params import Count, Positive
from bench.core.ball import LIBRARY_NORMS
from bench.core.errors import UserError, did_you_mean, one_line
from bench.core.spec import Number, Spec

COUNTED = ("n_iter", "n_restarts")

_Whole = Annotated[StrictInt, Field(ge=0)]


@dataclass(frozen=True)
class Library:
    """A library of attacks, which is imported when one of them is asked for.

    Attributes:
        prefix: Before the colon in an attack's name.
        title: Name in prose.
        distribution: Name in package indexes.
        install: Argument of ``pip install``.
        home: URL of its page.
        module: Module that exports its attacks.
        version: Version of all its attacks here; raised whenever what they return changes.
        words: Maps its names of parameters to rbench's.
        radius: Arguments of a bounded attack that take the radius.
        withheld: Other arguments that are no parameters: they come from elsewhere, or no file of
            plain data can hold them.
    """

    prefix: str
    title: str
    distribution: str
    install: str
    home: str
    module: str
    version: int
    words: Mapping[str, str]
    radius: frozenset[str]
    withheld: frozenset[str]

    def attacks(self, name: str) -> Any:
        """Returns the module of its attacks.

        Args:
            name: The attack that is asked for, for the message.

        Raises:
            UserError: When the library is not installed, or fails to import.
        """
        try:
            return importlib.import_module(self.module)
        except ModuleNotFoundError as error:
            if error.name != self.module.partition(".")[0]:
                raise self._broken(name, error) from error
            needs = f"{self.prefix}:{name} needs {self.distribution}"
            raise UserError(f"{needs}: pip install {self.install}") from error
        except Exception as error:  # foreign code runs here
            raise self._broken(name, error) from error

    def _broken(self, name: str, error: Exception) -> UserError:
        return UserError(
            f"{self.prefix}:{name} needs {self.distribution}, which is here but cannot be "
            f"imported: {one_line(error, None)}"
        )

    def exports(self, what: Callable[[object], bool]) -> dict[str, Any]:
        """Returns the members of its module that satisfy a predicate (``inspect.isclass``)."""
        found = vars(self.attacks("*"))
        return {name: found[name] for name in sorted(found) if what(found[name])}

    def find(self, name: str, names: Callable[[], Mapping[str, str]]) -> Any:
        """Returns the class or function of an attack.

        Args:
            name: Without the prefix.
            names: Returns every attack of the library, with the reason to refuse it, or ``""``.

        Raises:
            UserError: When the library is missing, has no such attack, or it cannot be used.
        """
        attacks = self.attacks(name)
        refusals = names()
        if name not in refusals:
            same = [known for known in refusals if known.lower() == name.lower()]
            usable = [known for known, reason in refusals.items() if not reason]
            prefixed = [f"{self.prefix}:{known}" for known in same or usable]
            hint = did_you_mean(f"{self.prefix}:{same[0] if same else name}", prefixed)
            raise UserError(f"unknown attack '{self.prefix}:{name}'{hint}")
        if refusals[name]:
            raise UserError(f"attack '{self.prefix}:{name}' cannot be used: {refusals[name]}")
        return getattr(attacks, name)

    def attack(
        self, name: str, call: Callable[..., Any], run: AttackFunction, facts: Facts
    ) -> Attack:
        """Returns the entry of an attack, its parameters read off the class or function."""
        verb = "in" if facts.bounded else "minimizes"
        norm = facts.norm or "the norm of the threat model"
        link = re.search(r"https?://[^\s\]\"'<>`]+", call.__doc__ or "")
        return Attack(
            name=f"{self.prefix}:{name}",
            version=self.version,
            kind=facts.kind,
            norms=facts.norms,
            params=self._params_model(name, call, facts),
            run=run,
            summary=f"{call.__name__} of {self.title}, {verb} {norm}",
            url=link[0].rstrip(".,)") if link else self.home,
            library=self.distribution,
            keeps_batch=facts.keeps_batch,
            traits=facts.traits,
        )

    def _params_model(self, name: str, call: Callable[..., Any], facts: Facts) -> type[Spec]:
        """Returns the parameters of an attack as a model that checks them."""
        withheld = self.withheld | self.radius if facts.bounded else self.withheld
        fields: dict[str, Any] = {}
        for argument in inspect.signature(call).parameters.values():
            word = self.words.get(argument.name, argument.name)
            argument = _documented(word, argument, inspect.getdoc(call) or "")
            kind = None if argument.name in withheld else _kind(word, argument)
            if kind is not None:
                default = None if word == "alpha" else argument.default
                needed = default is inspect.Parameter.empty
                fields[word] = (kind, ... if needed else default)
        model: type[Spec] = create_model(f"{name}Params", __base__=Spec, **fields)
        return model

    def arguments(
        self,
        call: Callable[..., Any],
        params: Spec,
        radius: float | None = None,
        elsewhere: Mapping[str, object] | None = None,
    ) -> dict[str, Any]:
        """Returns the arguments of a class or function of the library.

        Args:
            call: The class or function.
            params: In our words. A step size of ``None`` has the ratio to the radius that the
                defaults of the library have, and is left out where these say none.
            radius: Radius of the ball; ``None`` for an attack that takes none.
            elsewhere: Further arguments; those that it does not take are left out.
        """
        takes = inspect.signature(call).parameters
        given = dict(elsewhere or {})
        if radius is not None:
            given |= dict.fromkeys(self.radius, radius)
        ours = params.model_dump()
        found: dict[str, Any] = {}
        for key, argument in takes.items():
            word = self.words.get(key, key)
            if key in given:
                found[key] = given[key]
            elif word == "alpha" and ours.get(word, 0) is None:
                balls = [takes[ball].default for ball in self.radius if ball in takes]
                if radius is not None and balls and argument.default is not None:
                    found[key] = radius * argument.default / balls[0]
            elif word in ours:
                found[key] = ours[word]
        return found

    @contextmanager
    def refusing(self, name: str, params: Spec) -> Iterator[None]:
        """Makes what a constructor raises about its arguments a ``UserError``."""
        try:
            yield
        except (TypeError, ValueError, NotImplementedError) as error:
            attack = f"{self.prefix}:{name}"
            raise UserError(f"attack '{attack}' refused {params!r}: {error}") from error


def other_norm(norm: str) -> str:
    """Returns why an attack that minimizes another norm cannot serve."""
    return f"it minimizes {norm}; attacks of libraries serve {' or '.join(LIBRARY_NORMS)}"


def missing(package: str) -> str:
    """Returns that an attack needs a package, ``""`` where it is installed."""
    absent = importlib.util.find_spec(package) is None
    return f"it needs {package}: pip install {package}" if absent else ""


def _documented(word: str, argument: inspect.Parameter, doc: str) -> inspect.Parameter:
    """Returns an argument with a default of type float if ``doc`` says that it is one."""
    whole = type(argument.default) is int and word not in COUNTED
    if whole and re.search(rf"\b{argument.name} \(float\)", doc):
        return argument.replace(default=float(argument.default))
    return argument


def _kind(word: str, argument: inspect.Parameter) -> Any:
    """Returns the pydantic type of an argument, ``None`` if plain data cannot express it."""
    default, hint = argument.default, argument.annotation
    types = set(re.findall(r"\b(?:bool|int|float|str)\b", _said(hint)))
    if word != "alpha" and re.search("(?i)tuple|list|dict|callable|ndarray", _said(hint)):
        return None
    if word == "alpha":
        return Positive | None
    if word in COUNTED and (isinstance(default, int) or types == {"int"}):
        return Count if default is not None else Count | None
    if isinstance(default, bool):
        return StrictBool if types <= {"bool"} else None
    if choices := _choices(hint):
        return Literal[choices]
    if isinstance(default, float) or (isinstance(default, int) and "float" in types):
        return Number
    if isinstance(default, int):
        return _Whole | None if "Optional" in _said(hint) else _Whole
    if isinstance(default, str):
        return StrictStr
    return _or_none(types) if default is None else None


def _said(hint: object) -> str:
    """Returns an annotation as it was written: libraries give types, or strings of them."""
    return hint.__name__ if isinstance(hint, type) else str(hint)


def _or_none(types: set[str]) -> Any:
    """Returns the type of an argument that may be left open."""
    if "float" in types:
        return Number | None
    if "int" in types:
        return _Whole | None
    return StrictStr | None if "str" in types else None


def _choices(hint: object) -> tuple[Any, ...]:
    """Returns the values of a ``Literal``, or of a union of them."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    parts = [_choices(part) for part in get_args(hint)]
    return tuple(v for part in parts for v in part) if parts and all(parts) else ()
