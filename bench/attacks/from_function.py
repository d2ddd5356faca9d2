"""An attack that is a plain function: ``f(model, x, y, eps) -> x_adv``."""

from __future__ import annotations

import dis
import functools
import hashlib
import inspect
import secrets
import sys
import types
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from bench.attacks.base import Attack, Budget
from bench.core.attack import AttackInfo, ParamsError, Traits
from bench.core.ball import NORMS
from bench.core.errors import UserError
from bench.core.spec import Spec, canonical_json
from bench.models.network_hash import code_text, hash_tensors, is_library, network_hash

PREFIX = "function:"
"""Begins the names of such attacks in cells."""

VERSION = 1
"""Of how functions are called; part of the identity of their cells."""

AttackCallable = Callable[..., Tensor]
"""``f(model, x, y, eps, **arguments)``: ``model`` maps images (b, c, h, w) to logits (b, classes),
with gradients, and every pass through it is counted; ``x`` are the clean images, ``y`` their labels
(b,), ``eps`` the radius in pixels in [0, 1]. It returns x_adv (b, c, h, w)."""


class FunctionParams(Spec):
    """What tells one function from another.

    Attributes:
        code: Hash of its code and of what it uses; empty where an identity is given.
        identity: A text that the user vouches for: another one whenever the function changes.
        arguments: Further keyword arguments of the function.
    """

    code: str = ""
    identity: str = ""
    arguments: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class FunctionAttack:
    """A function as an attack.

    Attributes:
        attack: Its declaration, as an entry of the registry would be.
        info: With its parameters filled in.
        unknown: What stands in the way of an identity; empty if nothing does.
    """

    attack: Attack
    info: AttackInfo
    unknown: str = ""


def function_attack(
    function: AttackCallable, arguments: Mapping[str, Any] | None = None, identity: str = ""
) -> FunctionAttack:
    """Returns a function as an attack, for any norm.

    Its identity is the hash of its compiled code, of the user's functions and classes that it
    names, and of the values that it closes over or reads from its module: numbers, texts, tensors,
    arrays, modules with weights. Of libraries it is name and version.

    Args:
        function: See ``AttackCallable``.
        arguments: Further keyword arguments, plain JSON values.
        identity: Stands for the hash.

    Raises:
        UserError: When it cannot be called so, or the arguments are no plain values.
    """
    given = dict(arguments or {})
    name = name_of(function)
    try:
        canonical_json(given)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"expected arguments that are numbers, texts or lists of them, found {given!r} "
            f"({error}); bind others with functools.partial"
        ) from None
    _check_call(function, name, given)
    code, unknown = ("", "") if identity else _hash_of(function)
    params = FunctionParams(code=code, identity=identity, arguments=given)
    attack = Attack(
        name=PREFIX + name,
        version=VERSION,
        kind="bounded",
        norms=tuple(NORMS),
        params=FunctionParams,
        run=functools.partial(_run, function),
        summary="a Python function",
        url="",
        traits=Traits(gradients="partly"),
    )
    info = AttackInfo(
        name=attack.name,
        version=VERSION,
        library="",
        params=params.model_dump(mode="json", exclude_defaults=True),
        kind="bounded",
        keeps_batch=True,  # else the oracle refuses its passes
        may_be_fast=False,
        passes_per_image=None,
    )
    return FunctionAttack(attack, info, unknown)


def name_of(function: AttackCallable) -> str:
    """Returns the name of a function, or of what is called like one."""
    plain = function.func if isinstance(function, functools.partial) else function
    name = getattr(plain, "__name__", type(plain).__name__)
    return str(name).strip("<>")


def _run(
    function: AttackCallable,
    oracle: Any,
    x: Tensor,
    y: Tensor,
    budget: Budget,
    params: FunctionParams,
    seed: int,
) -> Any:
    eps = budget.radius(name_of(function))
    return function(oracle.module(), x, y, eps, **params.arguments)


def _check_call(function: AttackCallable, name: str, arguments: Mapping[str, Any]) -> None:
    """Raises ``UserError`` unless a function takes (model, x, y, eps) and the arguments."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a built-in without a signature
        return
    try:
        signature.bind("model", "x", "y", "eps")
    except TypeError as error:
        given = set(arguments)
        lacking = "missing a required" in str(error) and given
        if not lacking or not _binds(signature, arguments):
            raise UserError(
                f"expected a function f(model, x, y, eps) that returns x_adv, found "
                f"{name}{signature}; give other arguments beside it, as ({name}, {{...}})"
            ) from None
    unknown = next((key for key in arguments if not _binds(signature, {key: None}, part=True)), "")
    if unknown:
        raise ParamsError(((unknown, f"{name}{signature} takes no such argument"),))


def _binds(signature: inspect.Signature, arguments: Mapping[str, Any], part: bool = False) -> bool:
    bind = signature.bind_partial if part else signature.bind
    try:
        bind("model", "x", "y", "eps", **arguments)
    except TypeError:
        return False
    return True


_PLAIN = (str, int, float, complex, bytes, range, slice, Path, torch.device, torch.dtype)
"""Values that their text tells."""


class _UnknownError(Exception):
    """A value that no hash can be made of."""


def _hash_of(function: AttackCallable) -> tuple[str, str]:
    """Returns the hash of a function, and why it does not tell the function; empty if it does."""
    found: list[str] = []
    try:
        _describe("", function, found, {})
    except _UnknownError as why:
        return secrets.token_hex(8), str(why)
    return hashlib.sha256("\n".join(found).encode()).hexdigest()[:16], ""


def _describe(path: str, value: Any, found: list[str], seen: dict[int, Any]) -> None:
    """Adds lines that tell a value, and all that it refers to.

    Args:
        path: How it is reached, for the lines and for messages.
        value: The value.
        found: The lines.
        seen: Objects that are told already, by id.

    Raises:
        _UnknownError: When nothing tells it from another of its kind.
    """
    if value is None or isinstance(value, _PLAIN):
        found.append(f"{path} {value!r}")
        return
    if id(value) in seen:
        return
    seen[id(value)] = value
    if isinstance(value, list | tuple | Mapping):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        found.append(f"{path} {type(value).__name__} of {len(value)}")
        for key, one in items:
            _describe(f"{path}[{key!r}]", one, found, seen)
    elif isinstance(value, Tensor):
        found.append(f"{path} {hash_tensors({'': value})}")
    elif isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
        raw = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        found.append(f"{path} {value.dtype.str} {value.shape} {raw}")
    elif isinstance(value, types.ModuleType):
        found.append(f"{path} module {_module(value.__name__, path)}")
    elif isinstance(value, functools.partial):
        _describe(path, (value.func, value.args, value.keywords), found, seen)
    elif isinstance(value, types.MethodType):
        _describe(path, (value.__func__, value.__self__), found, seen)
    elif isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
        _describe_code(path, value, found, seen)
    else:
        _describe_object(path, value, found, seen)


def _describe_code(path: str, value: Any, found: list[str], seen: dict[int, Any]) -> None:
    """Adds lines that tell a function or class: its code, or name and version of a library's.

    The compiled code, not the source: that of two functions in one line is the same.
    """
    module = getattr(value, "__module__", None) or ""
    name = getattr(value, "__qualname__", repr(value))
    if is_library(module):
        found.append(f"{path} {name} of {_module(module, path)}")
    elif isinstance(value, types.FunctionType):
        found.append(f"{path} {code_text(value.__code__)}")
        for key, used in _used_by(value).items():
            _describe(f"{path}:{key}", used, found, seen)
    elif isinstance(value, type):
        found.append(f"{path} class {name}")
        for base in value.__mro__[1:]:
            _describe(f"{path}.{base.__name__}", base, found, seen)
        for key, one in vars(value).items():
            plain = getattr(one, "__func__", getattr(one, "fget", one))
            is_code = isinstance(plain, types.FunctionType)
            if is_code or not key.startswith(("__", "_abc_")):
                _describe(f"{path}.{key}", plain, found, seen)
    else:
        raise _UnknownError(f"the code of {name} is not at hand")


def _used_by(function: types.FunctionType) -> dict[str, Any]:
    """Returns what a function closes over, its defaults, and globals that it names."""
    names = _global_names(function.__code__)
    found = {name: function.__globals__[name] for name in names if name in function.__globals__}
    pairs = zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
    for name, cell in pairs:
        with suppress(ValueError):  # not assigned yet
            found[name] = cell.cell_contents
    if function.__defaults__:
        found["defaults"] = function.__defaults__
    if function.__kwdefaults__:
        found["keyword defaults"] = function.__kwdefaults__
    return dict(sorted(found.items()))


def _global_names(code: types.CodeType) -> set[str]:
    """Returns the globals that a function, or one inside it, reads."""
    read = {one.argval for one in dis.get_instructions(code) if one.opname == "LOAD_GLOBAL"}
    inner = (const for const in code.co_consts if isinstance(const, types.CodeType))
    return read.union(*map(_global_names, inner))


def _describe_object(path: str, value: Any, found: list[str], seen: dict[int, Any]) -> None:
    """Adds lines that tell a network, or an object that holds plain values only."""
    kind = type(value)
    if isinstance(value, nn.Module):
        weights = network_hash(value)
        _describe(f"{path} class", kind, found, seen)
        plain = {n: str(m) for n, m in value.named_modules()}
        found.append(f"{path} {weights} {plain}")
        return
    if is_library(kind.__module__) or not hasattr(value, "__dict__"):
        where = path.replace(":", ".").strip(".") or "it"
        raise _UnknownError(f"{where} is a {kind.__name__}, of which no hash can be made")
    _describe(f"{path} class", kind, found, seen)
    _describe(f"{path} fields", vars(value), found, seen)


def _module(name: str, path: str) -> str:
    """Returns name and version of an installed module.

    Raises:
        _UnknownError: For a module of the user's: which parts of it matter is not known.
    """
    if not is_library(name):
        where = path.replace(":", ".").strip(".")
        raise _UnknownError(
            f"{where} is a module of your own, which is not looked through; import the names that "
            "are used: from MODULE import NAME"
        )
    top = sys.modules.get(name.partition(".")[0])
    return f"{name} {getattr(top, '__version__', '')}".strip()
