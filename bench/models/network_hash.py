"""The hash of all tensors that a network can reach, wherever it keeps them.

A state dict holds parameters and buffers. It lacks tensors in plain attributes, modules in lists
and dicts, what forward closes over, and globals of the module that defines it; and of packed
integer weights it holds tuples. Two networks that differ there must not have one identity.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import re
import sys
import types
import zipfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_CONTAINERS = (list, tuple, deque)
_VALUES = (Tensor, np.ndarray, bytes, bytearray, torch.jit.ScriptModule)
"""What is hashed; a TorchScript network holds its constants out of Python's sight."""
_MANGLED = re.compile(rb"_*torch_mangle_\d+\.?")
"""A part of the names in TorchScript code that depends on what else a process has loaded."""

_SCALARS = (str, int, float, complex)

Found = tuple[str, object]
"""A path such as ``.layers[0].scale``, and what is there."""


def network_hash(net: nn.Module, beside: Sequence[str] | None = None) -> str | None:
    """Returns the sha256 of a network's tensors: names, dtypes, shapes and values.

    Args:
        net: The network. Hash it before a forward pass, which may leave tensors in attributes.
        beside: What ``hash_beside`` returned for it, to be used again; ``None`` to find out.

    Returns:
        The hash; ``None`` if no tensor can be reached, so that nothing would tell two of a kind
        apart. Without tensors beside it, it is that of the state dict and the buffers.
    """
    entries = {**dict(net.named_buffers()), **net.state_dict()}
    # What a state dict has beside tensors is reached from the network.
    state = {name: value for name, value in entries.items() if isinstance(value, Tensor)}
    others = hash_beside(net, hash_outside(net)) if beside is None else list(beside)
    if others:
        return _hash([hash_tensors(state), *others])
    return hash_tensors(state) if state else None


def hash_beside(net: nn.Module, outside: str) -> list[str]:
    """Returns a text for each tensor that a network reaches beside its parameters and buffers.

    Args:
        net: The network.
        outside: What ``hash_outside`` returned for it.
    """
    known = {id(value) for value in (*net.parameters(), *net.buffers())}
    found = [
        (path, value)
        for path, value in _walk(("", net))
        if _is_value(value) and id(value) not in known and not _derived(value, known)
    ]
    return [*_digests(found), *filter(None, [outside])]


def hash_outside(net: nn.Module) -> str:
    """Returns the sha256 of tensors in classes and globals that a network's own code names.

    Passes may change these for the whole process, so they are to be hashed once. Empty if there
    are none.
    """
    roots: list[Found] = []
    for kind in dict.fromkeys(type(value) for _, value in _walk(("", net))):
        roots += _of_class(kind)
    for path, value in _walk(("", net)):
        if isinstance(value, types.FunctionType):
            roots += _globals(path, value, set())
    known = {id(value) for value in (*net.parameters(), *net.buffers())}
    found = [one for one in _walk(*roots) if _is_value(one[1]) and id(one[1]) not in known]
    return _hash(_digests(found)) if found else ""


def settings_hash(net: nn.Module) -> str:
    """Returns a hash of what beside tensors decides a network's output, for one version of Python.

    That is code, modes, hooks, and plain values such as a temperature: attributes of all that is
    reached, and globals of the modules that define it.
    """
    texts: list[str] = []
    kinds: dict[type, None] = {}
    for path, value in _walk(("", net)):
        kinds[type(value)] = None
        if isinstance(value, types.FunctionType):
            texts.append(f"{path} {code_text(value.__code__)}")
        elif not isinstance(value, set | frozenset) and not _is_value(value):
            parts = _parts(path, value)
            texts += [f"{name} {one!r}" for name, one in parts if isinstance(one, _SCALARS)]
    for kind in kinds:
        texts.append(f"{kind.__module__}.{kind.__qualname__}")
        texts += [f"{name} {one!r}" for name, one in _of_class(kind) if isinstance(one, _SCALARS)]
        own = [one for one in kind.__mro__ if not is_library(one.__module__)]
        plain = (_unwrapped(value) for one in own for value in vars(one).values())
        texts += [code_text(f.__code__) for f in plain if isinstance(f, types.FunctionType)]
    return _hash(sorted(texts))


def code_text(code: types.CodeType) -> str:
    """Returns what compiled code does, as a text: the same in every process of a Python version."""
    consts = [_const_text(const) for const in code.co_consts]
    names = [*code.co_names, *code.co_varnames, *code.co_freevars]
    return repr((sys.version_info[:2], code.co_code.hex(), consts, names))


def _const_text(const: object) -> str:
    if isinstance(const, types.CodeType):
        return code_text(const)
    return repr(sorted(map(repr, const))) if isinstance(const, frozenset) else repr(const)


def hash_tensors(tensors: Mapping[str, Any]) -> str:
    """Returns the sha256 of tensors: names, dtypes, shapes and values; skips other entries."""
    hasher = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        if isinstance(value, Tensor):
            hasher.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode() + b"\n")
            for part in _raw(value):
                hasher.update(part)
    return hasher.hexdigest()


def _raw(value: Tensor) -> Iterator[Any]:
    """Yields the bytes of a tensor's values, and of the scales of a quantized one."""
    value = value.detach()
    if hasattr(value, "__tensor_flatten__"):  # a subclass around others, as of torchao
        for name in value.__tensor_flatten__()[0]:
            yield from _raw(getattr(value, name))
        return
    if value.is_meta:
        return
    if value.is_quantized:
        yield from _raw(value.int_repr())
        yield str(value.qscheme()).encode()
        if value.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
            yield json.dumps([value.q_scale(), value.q_zero_point()]).encode()
        else:
            yield from _raw(value.q_per_channel_scales())
            yield from _raw(value.q_per_channel_zero_points())
        return
    if value.is_nested:
        for part in value.unbind():
            yield from _raw(part)
        return
    plain = value if value.layout is torch.strided else value.to_dense()
    plain = plain.resolve_conj().resolve_neg().cpu().contiguous()
    yield plain.reshape(-1).view(torch.uint8).numpy().data


def _hash(texts: list[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _digests(found: Iterable[Found]) -> list[str]:
    """Returns a line for each value, sorted: the elements of a set have no order."""
    return sorted(f"{path} {_digest(value)}" for path, value in found)


def _digest(value: object) -> str:
    if isinstance(value, Tensor):
        return hash_tensors({"": value})
    if isinstance(value, np.ndarray):
        head = f"{value.dtype.str} {value.shape}".encode()
        return hashlib.sha256(head + np.ascontiguousarray(value).tobytes()).hexdigest()
    if isinstance(value, torch.jit.ScriptModule):
        return _script_digest(value)
    assert isinstance(value, bytes | bytearray)
    return hashlib.sha256(value).hexdigest()


def _script_digest(net: torch.jit.ScriptModule) -> str:
    """Returns the sha256 of a TorchScript network: code, tensors and constants."""
    file = io.BytesIO()
    torch.jit.save(net, file)
    hasher = hashlib.sha256()
    with zipfile.ZipFile(file) as archive:
        for name in sorted(archive.namelist()):
            inner = name.partition("/")[2]  # below the archive's own name
            if inner.startswith(("data/", "constants/", "code/")) and name.endswith(
                tuple("0123456789") if not inner.startswith("code/") else ".py"
            ):
                plain = _MANGLED.sub(b"", archive.read(name)) if name.endswith(".py") else b""
                hasher.update(plain or archive.read(name))
    return hasher.hexdigest()


def _derived(value: object, known: set[int]) -> bool:
    """Returns whether a tensor was computed from parameters that are known, as weight norm does."""
    if not isinstance(value, Tensor) or value.grad_fn is None:
        return False
    stack: list[Any] = [value.grad_fn]
    seen, leaves = set(), []
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaves += [node.variable] if hasattr(node, "variable") else []
        stack += [following for following, _ in node.next_functions]
    return bool(leaves) and all(id(leaf) in known for leaf in leaves)


def _is_value(value: object) -> bool:
    """Returns whether a value is hashed itself; an array of objects is a container."""
    holds_objects = isinstance(value, np.ndarray) and value.dtype.kind == "O"
    return isinstance(value, _VALUES) and not holds_objects


def _walk(*roots: Found) -> Iterator[Found]:
    """Yields every object that can be reached from others, once, and those themselves."""
    seen: dict[int, object] = {}  # keeps the objects, so that no id is used again
    stack = list(reversed(roots))
    while stack:
        path, value = stack.pop()
        if value is None or isinstance(value, str | int | float | complex) or id(value) in seen:
            continue
        seen[id(value)] = value
        yield path, value
        if not _is_value(value):
            stack.extend(reversed(list(_parts(path, value))))


def _parts(path: str, value: object) -> Iterator[Found]:
    """Yields what an object holds."""
    if isinstance(value, np.ndarray):
        yield path, value.tolist()
    elif isinstance(value, Mapping):
        for i, (key, one) in enumerate(value.items()):
            yield f"{path}[{key if isinstance(key, str | int) else i}]", one
    elif isinstance(value, _CONTAINERS):
        yield from ((f"{path}[{i}]", one) for i, one in enumerate(value))
    elif isinstance(value, set | frozenset):
        yield from ((f"{path}{{}}", one) for one in value)
    elif isinstance(value, functools.partial):
        yield f"{path}.partial", (value.func, value.args, value.keywords)
    elif isinstance(value, types.MethodType):
        yield from ((f"{path}.self", value.__self__), (path, value.__func__))
    elif isinstance(value, types.FunctionType):
        yield from _of_function(path, value)
    elif isinstance(value, torch.ScriptObject):  # packed integer weights, for one
        if hasattr(value, "unpack"):
            yield f"{path}.unpack", value.unpack()
    elif isinstance(value, nn.Module) or not _is_plain(value):
        yield from _attributes(path, value)


def _is_plain(value: object) -> bool:
    """Returns whether an object is Python's, torch's or numpy's own, and holds no weights."""
    top = type(value).__module__.partition(".")[0]
    return top in sys.stdlib_module_names or top in ("torch", "numpy")


def _attributes(path: str, value: object) -> Iterator[Found]:
    for name, one in getattr(value, "__dict__", {}).items():
        # The three dicts of a module hold its entries by name, as attributes do.
        yield (path if name in ("_parameters", "_buffers", "_modules") else f"{path}.{name}"), one
    slots = [slot for kind in type(value).__mro__ for slot in vars(kind).get("__slots__", ())]
    for name in slots:
        yield f"{path}.{name}", getattr(value, name, None)


def _of_function(path: str, function: types.FunctionType) -> Iterator[Found]:
    """Yields what a function closes over, and its defaults."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield f"{path}.{name}", cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    yield f"{path}.defaults", (function.__defaults__, function.__kwdefaults__)


def _of_class(kind: type) -> Iterator[Found]:
    """Yields the attributes of a network's own classes, and globals that their methods name."""
    for one in kind.__mro__:
        if is_library(one.__module__):
            continue
        for name, value in vars(one).items():
            plain = _unwrapped(getattr(value, "__func__", getattr(value, "fget", value)))
            if isinstance(plain, types.FunctionType):
                yield from _globals(f"{one.__qualname__}.{name}", plain, set())
            elif name not in ("__dict__", "__weakref__"):
                yield f"{one.__qualname__}.{name}", value


def _unwrapped(value: object) -> object:
    """Returns the function behind decorators, such as ``torch.no_grad()``."""
    while isinstance(value, types.FunctionType) and "__wrapped__" in vars(value):
        value = vars(value)["__wrapped__"]
    return value


def _globals(path: str, function: types.FunctionType, seen: set[types.CodeType]) -> Iterator[Found]:
    """Yields globals that a function of the user's, or one that it calls, names."""
    if is_library(function.__module__ or ""):
        return
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        if code in seen:
            continue
        seen.add(code)
        codes += [const for const in code.co_consts if isinstance(const, types.CodeType)]
        for name in code.co_names:
            value = _unwrapped(function.__globals__.get(name))
            if isinstance(value, types.FunctionType):
                yield from _globals(f"{path}.{name}", value, seen)
            elif not isinstance(value, type | types.ModuleType):
                yield f"{path}:{name}", value


@functools.cache
def is_library(module: str) -> bool:
    """Returns whether a module was installed, so that its version tells what is in it."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names or top == "bench":
        return True
    file = getattr(sys.modules.get(top), "__file__", None) or ""
    return bool({"site-packages", "dist-packages"} & set(Path(file).parts))
