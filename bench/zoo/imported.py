"""Other people's checkpoints: files of tensors, read without running anything that is in them."""

from __future__ import annotations

import pickle
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
from bench.untrusted.pickle_depth import check_torch_file
from bench.zoo.checkpoint import read_safetensors, refuse_not_finite

# From the names that others give to parameters to ours.
#
# Nothing is guessed from shapes or from the order of a file: a name that no rule knows stays as it
# is, and loading then lists it as unexpected.


WRAPPERS = ("module.", "model.", "_orig_mod.", "net.")
"""What DataParallel, torch.compile and habit put before every name; taken off, also repeatedly."""


@dataclass(frozen=True)
class Rule:
    """A pattern that is looked for in a name, and what stands in its place.

    Attributes:
        pattern: Named groups may be used in ``ours``. The group ``from_one`` is a number that
            counts from 1 there and from 0 here.
        ours: The replacement, with ``{group}`` for what a group has found.
        known_from: Whose names these are.
    """

    pattern: str
    ours: str
    known_from: str

    def apply(self, name: str) -> str:
        """Returns a name with every occurrence of the pattern replaced."""
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
"""Applied in this order to every name; names of this project pass unchanged."""


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
                "to take a prefix off, write PREFIX="
            )
        pairs.append((old, new))
    return pairs


def our_names(theirs: Sequence[str], renames: Sequence[tuple[str, str]] = ()) -> dict[str, str]:
    """Returns a name of ours for each of theirs, as ``{ours: theirs}``.

    First ``WRAPPERS`` are taken off, then the renames replace prefixes, each in its turn, then
    ``RULES`` apply.

    Raises:
        UserError: When a rename's old prefix begins no name, or two names become one.
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


TORCH_SUFFIXES = (".pt", ".pth", ".th", ".tar", ".ckpt", ".bin")
SUFFIXES = (*TORCH_SUFFIXES, ".safetensors")
_MAX_DEPTH = 8
"""Of nested mappings; a pickle may hold itself."""
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class ForeignFile:
    """A state dict as it lies in a file.

    Attributes:
        path: The file.
        sha256: Of the file.
        key: Where in the file the state dict was, such as ``state_dict``; empty at the top.
        entries: The state dict; what is not a tensor is refused when it is loaded.
    """

    path: Path
    sha256: str
    key: str
    entries: Mapping[str, object]


@dataclass(frozen=True)
class Imported:
    """A foreign model in our form.

    Attributes:
        model: In eval mode.
        notes: What had to be done beyond renaming, in sentences.
    """

    model: Classifier
    notes: tuple[str, ...]


def read_foreign(path: Path, key: str | None = None) -> ForeignFile:
    """Reads a file of weights and finds the state dict in it.

    A state dict is a mapping from names to values of which one at least is a tensor of two or more
    dimensions. It is looked for at the top and under names, not in lists or under numbers, so an
    optimizer's state is never mistaken for it.

    Args:
        path: ``.safetensors``, or what ``torch.save`` wrote. It is read with ``weights_only``.
        key: Which state dict, where there are several.

    Raises:
        UserError: When the file is missing or unreadable, needs code to be run, or does not hold
            exactly one state dict and ``key`` does not name one.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected weights in {', '.join(SUFFIXES)}")
    if path.suffix not in SUFFIXES:
        raise UserError(
            f"{path}: expected a file in {', '.join(SUFFIXES)}, found '{path.suffix}'; rename it "
            "if it is one of these"
        )
    content = read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    found = dict(_state_dicts(content))
    where = _choose(path, found, content, key)
    return ForeignFile(path, sha256_file(path), where, found[where])


def _read_torch(path: Path) -> object:
    try:
        check_torch_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        if asked is None:
            raise UserError(f"{path}: {_unreadable(error)}") from None
        raise UserError(
            f"{path}: expected tensors alone, found a file that asks for {asked[1]}; nothing of it "
            "was run. If you trust it, read it once elsewhere with "
            "torch.load(..., weights_only=False), and torch.save its state dict alone"
        ) from None
    except Exception as error:  # a damaged pickle raises whatever its bytes make of it
        raise UserError(f"{path}: {_unreadable(error)}") from None


def _unreadable(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "TorchScript" in text:
        return "a TorchScript archive, which holds code; save its state_dict() instead"
    _, _, reason = text.partition("WeightsUnpickler error: ")
    return f"not a readable file of torch.save ({type(error).__name__}: {(reason or text)[:200]})"


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
    are set to 0 where a file has none at all: PyTorch before 0.4.1 knew none.

    Args:
        file: The weights.
        spec: What they are of.
        renames: Prefixes of names that are replaced before the rules apply, see ``our_names``.

    Raises:
        UserError: When the spec cannot be built; or with every missing and every unexpected name,
            and every one of another shape or type.
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
    """Returns a line for every name that is missing, unexpected, or not what it should be."""
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
    """Whether an entry is an ordinary tensor of the right shape, floating point where ours is."""
    return (
        isinstance(value, Tensor)
        and not vars(value)  # a file may put anything in the place of a tensor's methods
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
        return "(a nested tensor)"  # of no one shape
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
    """Returns a foreign name as it is, or escaped where it could disturb a terminal."""
    return text if text.isprintable() else ascii(text)
