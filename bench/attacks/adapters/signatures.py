"""What adapters share whose parameters are read off the signatures of a library."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import Field, StrictBool, StrictInt, StrictStr, create_model

from bench.attacks.params import Count, Positive
from bench.core.base import Spec
from bench.core.errors import UserError, did_you_mean
from bench.core.numbers import Number

_Whole = Annotated[StrictInt, Field(ge=0)]


@dataclass(frozen=True)
class Library:
    """A library of attacks that is an extra of rbench.

    Attributes:
        prefix: Before the colon in an attack's name, and the name of the extra.
        distribution: What pip installs.
        module: Where its attacks are.
        words: What it calls a parameter, and what rbench does.
        withheld: Arguments that are no parameters: they come from elsewhere, or no file of plain
            data can hold them.
    """

    prefix: str
    distribution: str
    module: str
    words: Mapping[str, str]
    withheld: frozenset[str]

    @property
    def installed(self) -> bool:
        """Whether it is here; this imports nothing of it."""
        return importlib.util.find_spec(self.module.partition(".")[0]) is not None

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
            install = f"pip install rbench[{self.prefix}]"
            raise UserError(f"{self.prefix}:{name} needs {self.distribution}: {install}") from error
        except Exception as error:  # foreign code runs here
            raise self._broken(name, error) from error

    def _broken(self, name: str, error: Exception) -> UserError:
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return UserError(
            f"{self.prefix}:{name} needs {self.distribution}, which is here but cannot be "
            f"imported: {why}"
        )

    def check_name(self, name: str, refusals: Mapping[str, str]) -> None:
        """Raises ``UserError`` for an attack that there is not, or that cannot be used.

        Args:
            name: Without the prefix.
            refusals: Every attack of the library, with the reason to refuse it, or ``""``.
        """
        if name not in refusals:
            same = [known for known in refusals if known.lower() == name.lower()]
            usable = [known for known, reason in refusals.items() if not reason]
            prefixed = [f"{self.prefix}:{known}" for known in same or usable]
            hint = did_you_mean(f"{self.prefix}:{same[0] if same else name}", prefixed)
            raise UserError(f"unknown attack '{self.prefix}:{name}'{hint}")
        if refusals[name]:
            raise UserError(f"attack '{self.prefix}:{name}' cannot be used: {refusals[name]}")

    def parameters(
        self, call: Callable[..., Any], but: Collection[str] = ()
    ) -> dict[str, tuple[str, Any, Any]]:
        """Returns the parameters of an attack as our word -> (its word, pydantic type, default).

        Args:
            call: The class or function of the library.
            but: Arguments to leave out, besides those that are always withheld.
        """
        found: dict[str, tuple[str, Any, Any]] = {}
        for argument in inspect.signature(call).parameters.values():
            word = self.words.get(argument.name, argument.name)
            if argument.name in self.withheld or argument.name in but:
                continue
            kind = _kind(word, argument)
            if kind is not None:
                default = None if word == "alpha" else argument.default
                needed = default is inspect.Parameter.empty
                found[word] = (argument.name, kind, ... if needed else default)
        return found

    def params_model(
        self, name: str, call: Callable[..., Any], but: Collection[str] = ()
    ) -> type[Spec]:
        """Returns the parameters of an attack as a model that checks them."""
        fields: dict[str, Any] = {
            word: (kind, default) for word, (_, kind, default) in self.parameters(call, but).items()
        }
        model: type[Spec] = create_model(f"{name}Params", __base__=Spec, **fields)
        return model

    def arguments(
        self, call: Callable[..., Any], params: Spec, but: Collection[str] = ()
    ) -> dict[str, Any]:
        """Translates parameters into the arguments of the library, a step size of None left out."""
        given = params.model_dump()
        return {
            theirs: given[word]
            for word, (theirs, _, _) in self.parameters(call, but).items()
            if not (word == "alpha" and given[word] is None)
        }


def _kind(word: str, argument: inspect.Parameter) -> Any:
    """Returns the pydantic type of an argument, ``None`` if plain data cannot express it."""
    default, hint = argument.default, argument.annotation
    types = set(re.findall(r"\b(?:bool|int|float|str)\b", _said(hint)))
    if word != "alpha" and re.search("(?i)tuple|list|dict|callable|ndarray", _said(hint)):
        return None
    if word == "alpha":
        return Positive | None
    if word in ("n_iter", "n_restarts") and (isinstance(default, int) or types == {"int"}):
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
