"""``python:MODULE:CALLABLE``: a network that a function of yours returns.

The only scheme that runs code named by a suite, so it requires ``--trust-code``. The function takes
no arguments and returns an ``nn.Module`` of images in [0, 1]. Keys missing from the query may be in
an attribute ``declares`` of the module, a mapping with the same keys.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from bench.core.errors import UserError, one_line, place_of
from bench.core.model_spec import as_size
from bench.core.model_uri import ModelUri
from bench.core.paths import Where
from bench.core.spec import sha256_file
from bench.models.external.library_model import Declared, LibraryModel
from bench.norms import weights_seeded

_NAMES = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_WHOLE, _FLAGS = ("size", "channels", "classes"), ("stochastic", "batch_dependent")
_LISTS, _TEXTS = ("mean", "std"), ("identity",)
KEYS = (*_WHOLE, *_LISTS, *_FLAGS, *_TEXTS)


def open_python(uri: ModelUri, where: Where) -> LibraryModel:
    """Returns the network of a callable; nothing is imported until it is described or loaded."""
    module, name = _trusted(uri, where)
    said = _said(uri)
    return LibraryModel(uri, lambda: _build(uri, module, name, said))


def import_callable(uri: ModelUri, where: Where) -> tuple[Callable[..., Any], str]:
    """Returns the callable of a URI, and the sha256 of the file that defines its module.

    Raises:
        UserError: When its code is not trusted, or cannot be imported.
    """
    return _import(uri, *_trusted(uri, where))


def _trusted(uri: ModelUri, where: Where) -> tuple[str, str]:
    """Returns module and name of a URI; raises ``UserError`` unless its code is trusted."""
    module, _, name = uri.path.partition(":")
    if not _NAMES.fullmatch(module) or not _NAMES.fullmatch(name):
        raise UserError(f"{uri.text}: expected python:MODULE:CALLABLE, found '{uri.path}'")
    if not where.trust_code:
        raise UserError(
            f"{uri.text}: runs code of the module '{module}'; if you trust it, add --trust-code"
        )
    return module, name


def _said(uri: ModelUri) -> dict[str, Any]:
    """Returns the values that the query declares."""
    found: dict[str, Any] = {key: uri.whole(key) for key in _WHOLE if key != "size"}
    found["size"] = uri.size()
    found |= {key: uri.numbers(key) for key in _LISTS}
    found |= {key: uri.flag(key) for key in _FLAGS}
    found |= {key: uri.query.get(key) for key in _TEXTS}
    return {key: value for key, value in found.items() if value is not None}


def _build(
    uri: ModelUri, module: str, name: str, said: Mapping[str, Any]
) -> tuple[nn.Module, Declared]:
    make, code = _import(uri, module, name)
    try:
        with weights_seeded(0):
            net = make()
        own = dict(getattr(net, "declares", {}))
    except (Exception, SystemExit) as error:  # foreign code can raise anything
        raise UserError(f"{uri.text}: {one_line(error)}{place_of(error)}") from None
    if not isinstance(net, nn.Module):
        raise UserError(f"{uri.text}: expected an nn.Module, found {type(net).__name__}")
    values = {**own, **said}
    unknown, missing = set(values) - set(KEYS), [key for key in _WHOLE if key not in values]
    if unknown or missing:
        beside = ", ".join((*_LISTS, *_FLAGS, *_TEXTS))
        raise UserError(
            f"{uri.text}: expected {', '.join(_WHOLE)} in the query or in the network's declares, "
            f"and only {beside} beside; found {', '.join(values) or 'none'}"
        )
    return net, _declared(uri, values, code)


def _declared(uri: ModelUri, values: dict[str, Any], code: str) -> Declared:
    """Checks the declared values; mean defaults to 0 and std to 1."""
    size = values["size"]
    if isinstance(size, tuple | list) and [type(part) for part in size] == [int, int]:
        values = {**values, "size": as_size(*size)}
    elif type(size) is not int:
        raise UserError(
            f"{uri.text}: declares: size must be of type int, or (height, width), found "
            f"{type(size).__name__}"
        )
    kinds = {"channels": int, "classes": int, "mean": tuple, "std": tuple, "identity": str}
    for key, value in values.items():
        kind = type(value) if key == "size" else kinds.get(key, bool)
        if type(value) is not kind:
            must = f"{key} must be of type {kind.__name__}"
            raise UserError(f"{uri.text}: declares: {must}, found {type(value).__name__}")
    plain = {"mean": (0.0,) * values["channels"], "std": (1.0,) * values["channels"]}
    return Declared(
        arch=f"python:{uri.path}",
        training="as its code says",
        code=code,
        std_known="std" in values,
        **{**plain, **values},
    )


def _import(uri: ModelUri, module: str, name: str) -> tuple[Callable[..., Any], str]:
    """Returns the callable, and the sha256 of the file that defines its module."""
    here = os.getcwd()
    if here not in sys.path:  # last, so that it shadows nothing that is installed
        sys.path.append(here)
    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:  # the module's code can raise anything
        why = one_line(error) + place_of(error)
        raise UserError(f"{uri.text}: cannot be imported in {here} ({why})") from None
    if not callable(found):
        raise UserError(f"{uri.text}: expected a callable, found {type(found).__name__}")
    file = getattr(sys.modules[module], "__file__", None)
    return found, sha256_file(Path(file)) if file else ""
