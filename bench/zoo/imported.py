"""Imports other people's checkpoints: files of tensors, with the names of their parameters.

Nothing is guessed from shapes or from the order of a file: a name that no rule translates stays,
and loading then lists it as unexpected.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bench.core.errors import UserError, did_you_mean
from bench.core.model_spec import ModelSpec
from bench.core.spec import sha256_file
from bench.models import Classifier, build_model
from bench.untrusted.weights import read_safetensors, read_torch_file
from bench.zoo.checkpoint import refuse_not_finite

TORCH_SUFFIXES = (".pt", ".pth", ".th", ".tar", ".ckpt", ".bin")
SUFFIXES = (*TORCH_SUFFIXES, ".safetensors")
_MAX_DEPTH = 8
"""Of nested mappings; a pickle may contain itself."""
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class ForeignFile:
    """A state dict found in a file.

    Attributes:
        path: The file.
        sha256: Of the file.
        key: Path to the state dict inside the file, such as ``state_dict``; empty at the top.
        entries: The state dict; loading refuses entries that are not tensors.
    """

    path: Path
    sha256: str
    key: str
    entries: Mapping[str, object]


@dataclass(frozen=True)
class Imported:
    """An imported model.

    Attributes:
        model: In eval mode.
        notes: Conversions beyond renaming, one sentence each.
    """

    model: Classifier
    notes: tuple[str, ...]


def read_foreign(path: Path, key: str | None = None) -> ForeignFile:
    """Reads a file of weights and finds the state dict in it.

    A state dict is a mapping from names to values with at least one tensor of two or more
    dimensions. It is searched for at the top and under names, not in lists or under numbers, so an
    optimizer's state is never mistaken for one.

    Args:
        path: ``.safetensors``, or a file of ``torch.save``, which is read with ``weights_only``.
        key: Path of the state dict, if there are several.

    Raises:
        UserError: When the file is missing or unreadable, asks for code to be run, or does not
            contain exactly one state dict and ``key`` does not name one.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected weights in {', '.join(SUFFIXES)}")
    if path.suffix not in SUFFIXES:
        raise UserError(
            f"{path}: expected a file in {', '.join(SUFFIXES)}, found '{path.suffix}'; rename it "
            "if it is one of these"
        )
    content = read_safetensors(path) if path.suffix == ".safetensors" else read_torch_file(path)
    found = dict(_state_dicts(content))
    where = _choose(path, found, content, key)
    return ForeignFile(path, sha256_file(path), where, found[where])


def _state_dicts(
    tree: object, path: str = "", depth: int = 0
) -> Iterator[tuple[str, dict[str, object]]]:
    if not isinstance(tree, Mapping) or depth > _MAX_DEPTH:
        return
    named = {key: value for key, value in tree.items() if isinstance(key, str)}
    if len(named) == len(tree) and any(
        isinstance(value, Tensor) and value.ndim > 1 for value in named.values()
    ):
        yield path, named
    for key, value in named.items():
        yield from _state_dicts(value, f"{path}.{key}" if path else key, depth + 1)


def _choose(
    path: Path, found: Mapping[str, Mapping[str, object]], content: object, key: str | None
) -> str:
    if key is not None:
        if key in found:
            return key
        raise UserError(
            f"{path}: there is no mapping of tensors at '{_shown(key)}'{did_you_mean(key, found)}"
        )
    if len(found) == 1:
        return next(iter(found))
    if found:
        listed = ", ".join(f"'{_shown(k)}' ({len(v)} entries)" for k, v in found.items())
        raise UserError(f"{path}: several mappings of tensors: {listed}; choose one with --key")
    keys = list(content)[:10] if isinstance(content, Mapping) else []
    holds = ", ".join(_shown(str(k)) for k in keys) or type(content).__name__
    raise UserError(f"{path}: expected a mapping from names to tensors, found {holds}")


def load_foreign(
    file: ForeignFile, spec: ModelSpec, renames: Sequence[tuple[str, str]] = ()
) -> Imported:
    """Builds the model and loads the file's weights, strictly.

    Half and double precision become float32. Counters of batches, which inference does not use,
    are set to 0 if the file has none at all, as PyTorch before 0.4.1 did not save them.

    Args:
        file: The weights.
        spec: The model.
        renames: Prefixes of names to replace before the rules apply, see ``our_names``.

    Raises:
        UserError: When the spec cannot be built; or with a list of all names that are missing,
            unexpected, or of another shape or type.
    """
    model = build_model(spec)
    origins = our_names(list(file.entries), renames)
    expected = model.net.state_dict()
    notes = []
    counted = any(name.endswith(_COUNTER) for name in origins)
    absent = [] if counted else [name for name in expected if name.endswith(_COUNTER)]
    weights: dict[str, Tensor] = {name: torch.zeros_like(expected[name]) for name in absent}
    if absent:
        notes.append(f"{len(absent)} counters {_COUNTER} were absent and are 0.")
    problems = _problems(file, origins, expected, weights)
    if problems:
        raise UserError(_misfit(file, spec, problems))
    found = {ours: file.entries[theirs] for ours, theirs in origins.items()}
    tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    kinds = {str(v.dtype) for v in tensors.values() if v.is_floating_point()} - {"torch.float32"}
    if kinds:
        notes.append(f"Converted to float32 from {', '.join(sorted(kinds))}.")
    for name, value in tensors.items():
        weights[name] = value.to(expected[name].dtype)
    refuse_not_finite(weights, f"{file.path}: not imported", "the file is damaged or diverged")
    model.net.load_state_dict(weights, strict=True)
    return Imported(model.eval(), tuple(notes))


def _problems(
    file: ForeignFile,
    origins: Mapping[str, str],
    expected: Mapping[str, Tensor],
    filled: Mapping[str, Tensor],
) -> list[str]:
    """Returns a line for every name that is missing, unexpected, or of another shape or type."""
    lines = [
        f"missing: {name} {tuple(value.shape)}"
        for name, value in expected.items()
        if name not in origins and name not in filled
    ]
    for ours, theirs in origins.items():
        value = file.entries[theirs]
        also = "" if ours == theirs else f", in the file {_shown(theirs)}"
        if ours not in expected:
            lines.append(f"unexpected: {_shown(ours)} {_kind(value)}{also}")
        elif not _fits(value, expected[ours]):
            lines.append(f"{ours} is {_kind(value)}, expected {_kind(expected[ours])}{also}")
    return lines


def _fits(value: object, expected: Tensor) -> bool:
    """Returns whether an entry is a plain tensor of the right shape and kind of number."""
    return (
        isinstance(value, Tensor)
        and not vars(value)  # attributes from the file could shadow a tensor's methods
        and value.shape == expected.shape
        and value.is_floating_point() == expected.is_floating_point()
        and not value.is_complex()
        and value.layout is torch.strided
        and value.device.type == "cpu"
    )


def _kind(value: object) -> str:
    if not isinstance(value, Tensor):
        return f"({type(value).__name__}, not a tensor)"
    if vars(value):
        return "(a tensor with attributes of its own)"
    if value.is_nested:
        return "(a nested tensor)"  # has no single shape
    kind = str(value.dtype).removeprefix("torch.")
    plain = kind == "float32" and value.layout is torch.strided
    return f"{tuple(value.shape)}" + ("" if plain else f" {kind}")


def _misfit(file: ForeignFile, spec: ModelSpec, problems: Sequence[str]) -> str:
    built = f"{spec.arch} with norm {spec.norm.label()}, shortcut {spec.shortcut}"
    advice = "choose another --arch or --norm, or translate names with --rename OLD=NEW"
    other = "conv" if spec.shortcut == "pad" else "pad"
    has_choice = spec.arch in ("resnet20", "resnet38", "resnet50")
    if has_choice and all(".shortcut." in line for line in problems):
        advice = f"only the shortcuts differ: try --shortcut {other}"
    return "\n  ".join([f"{file.path}: the weights do not fit {built}; {advice}", *problems])


def _shown(text: str) -> str:
    """Returns a foreign name, escaped if it could disturb a terminal."""
    return text if text.isprintable() else ascii(text)


WRAPPERS = ("module.", "model.", "_orig_mod.", "net.")
"""Prefixes from DataParallel, torch.compile and habit; stripped from every name, repeatedly."""


@dataclass(frozen=True)
class Rule:
    """A pattern in other people's parameter names, and its replacement in ours.

    Attributes:
        pattern: Its named groups may be used in ``ours``. The group ``from_one`` is a number that
            counts from 1 there and from 0 here.
        ours: The replacement, with ``{group}`` for the match of a group.
        known_from: Projects that use these names.
    """

    pattern: str
    ours: str
    known_from: str

    def apply(self, name: str) -> str:
        """Returns a name with every match of the pattern replaced."""
        return re.sub(self.pattern, self._fill, name)

    def _fill(self, match: re.Match[str]) -> str:
        groups = match.groupdict()
        if "from_one" in groups:
            groups["from_one"] = str(int(groups["from_one"]) - 1)
        return self.ours.format(**groups)


RULES = (
    Rule(
        r"^layer(?P<from_one>[1-9]\d*)\.(?P<block>\d+)\.",
        "stages.{from_one}.{block}.",
        "torchvision, kuangliu/pytorch-cifar, akamaster/pytorch_resnet_cifar10",
    ),
    Rule(
        r"^block(?P<from_one>[1-9]\d*)\.layer\.(?P<block>\d+)\.",
        "stages.{from_one}.{block}.",
        "xternalz/WideResNet-pytorch, yaodongyu/TRADES",
    ),
    Rule(r"(?P<before>^|\.)(?:bn|gn)(?P<k>\d)\.", "{before}norm{k}.", "all of the above"),
    Rule(r"\.downsample\.", ".shortcut.", "torchvision"),
    Rule(r"\.convShortcut\.", ".shortcut.", "xternalz/WideResNet-pytorch, yaodongyu/TRADES"),
    Rule(r"\.norm\.(?P<k>\d+)\.", ".branches.{k}.", "UniSerj/Random-Norm-Aggregation"),
    Rule(r"^(?:linear|classifier)\.", "fc.", "kuangliu, akamaster, VGGs"),
)
"""Applied to every name in this order; names of this project do not change."""


def parse_renames(texts: Iterable[str]) -> list[tuple[str, str]]:
    """Reads ``OLD=NEW`` pairs of prefixes; NEW may be empty.

    Raises:
        UserError: When there is no ``=``, or nothing before it.
    """
    pairs = []
    for text in texts:
        old, equals, new = text.partition("=")
        if not equals or not old:
            raise UserError(
                f"--rename: expected OLD=NEW, two prefixes of names, found '{text}'; "
                "to remove a prefix, write PREFIX="
            )
        pairs.append((old, new))
    return pairs


def our_names(theirs: Sequence[str], renames: Sequence[tuple[str, str]] = ()) -> dict[str, str]:
    """Translates parameter names; returns ``{our name: their name}``.

    First ``WRAPPERS`` are stripped, then the renames replace prefixes, one after the other, then
    ``RULES`` apply.

    Raises:
        UserError: When a rename matches no name, or two names become one.
    """
    plain = {name: _unwrapped(name) for name in theirs}
    for old, new in renames:
        if not any(name.startswith(old) for name in plain.values()):
            some = ", ".join(list(plain.values())[:5])
            raise UserError(f"--rename {old}={new}: no name begins with '{old}'; names are {some}")
        plain = {
            name: new + now.removeprefix(old) if now.startswith(old) else now
            for name, now in plain.items()
        }
    found: dict[str, str] = {}
    for name, now in plain.items():
        for rule in RULES:
            now = rule.apply(now)
        if now in found:
            raise UserError(
                f"'{found[now]}' and '{name}' both become '{now}'; tell them apart with --rename"
            )
        found[now] = name
    return found


def _unwrapped(name: str) -> str:
    while name.startswith(WRAPPERS):
        name = name.partition(".")[2]
    return name
