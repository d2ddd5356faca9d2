"""Imports other people's checkpoints: files of tensors, with the names of their parameters.

Nothing is guessed from shapes or from the order of a file: a name that no rule translates stays,
and loading then lists it as unexpected.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from bench.core.errors import UserError, did_you_mean
from bench.core.model_spec import ARCHITECTURES, ModelSpec, residual_depth
from bench.core.spec import sha256_file
from bench.models import Classifier, build_model
from bench.untrusted.weights import read_safetensors, read_torch_file
from bench.zoo.checkpoint import FOREIGN_SUFFIXES, refuse_not_finite
from bench.zoo.foreign_names import LeftOut, left_out, our_names, shown

_MAX_DEPTH = 8
"""Of nested mappings; a pickle may contain itself."""
_COUNTER = "num_batches_tracked"
_ROUNDING = 1e-3
"""Of means and standard deviations, of images in [0, 1]."""


@dataclass(frozen=True)
class ForeignFile:
    """A state dict found in a file.

    Attributes:
        path: The file.
        sha256: Of the file.
        key: Path to the state dict inside the file, such as ``state_dict``; empty at the top.
        entries: The state dict; loading refuses entries that are not tensors.
        beside: What lies beside the state dict, by name.
    """

    path: Path
    sha256: str
    key: str
    entries: Mapping[str, object]
    beside: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class OwnScale:
    """The input normalization that a file holds.

    Attributes:
        mean: One per channel, for images in [0, 1].
        std: One per channel.
        names: Of the two in the file.
        note: A sentence for the card.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    names: tuple[str, str]
    note: str

    def agrees(self, mean: Sequence[float], std: Sequence[float]) -> bool:
        """Returns whether others are the same, to three digits."""
        pairs = zip((*self.mean, *self.std), (*mean, *std), strict=True)
        return all(abs(a - b) < _ROUNDING for a, b in pairs)


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
        raise UserError(f"{path}: no such file; expected weights in {', '.join(FOREIGN_SUFFIXES)}")
    if path.suffix not in FOREIGN_SUFFIXES:
        raise UserError(
            f"{path}: expected a file in {', '.join(FOREIGN_SUFFIXES)}, found '{path.suffix}'; "
            "rename it if it is one of these"
        )
    content = read_safetensors(path) if path.suffix == ".safetensors" else read_torch_file(path)
    found = dict(_state_dicts(content))
    where = _choose(path, found, content, key)
    return ForeignFile(path, sha256_file(path), where, found[where], _beside(content, where))


def _beside(content: object, key: str) -> dict[str, object]:
    """Returns the named entries of the outermost mapping, if the state dict is not that itself."""
    if not key or not isinstance(content, Mapping):
        return {}
    return {name: value for name, value in content.items() if isinstance(name, str)}


_PAIRS = {
    "mean": "std",
    "mu": "sigma",
    "_mean": "_std",
    "means": "stds",
    "image_mean": "image_std",
    "input_mean": "input_std",
    "pixel_mean": "pixel_std",
}
"""Last parts of the names by which files call the mean and standard deviation of their input."""
_SCALES = {*_PAIRS, *_PAIRS.values()}
_LARGEST = 1.5
"""A mean above it is one of pixels in 0..255."""


def own_scale(file: ForeignFile, channels: int) -> OwnScale | None:
    """Returns the mean and std that a file holds, in its state dict or beside it.

    ``None`` if there are none, or several that differ.
    """
    found: list[OwnScale] = []
    for where in (file.entries, file.beside):
        for name in where:
            prefix, dot, last = name.rpartition(".")
            partner = f"{prefix}{dot}{_PAIRS.get(last, '')}"
            mean, std = (_values(where.get(one), channels) for one in (name, partner))
            if last in _PAIRS and mean and std and min(std) > 0:
                found.append(_scale(mean, std, (name, partner)))
    alike = {(one.mean, one.std) for one in found}
    return found[0] if len(alike) == 1 else None


def _values(value: object, channels: int) -> tuple[float, ...] | None:
    """Returns one finite number per channel; ``None`` for anything else."""
    if isinstance(value, Tensor) and value.numel() in (1, channels) and not value.is_complex():
        value = value.detach().flatten().tolist()
    single = [value] if isinstance(value, int | float) else value
    if not isinstance(single, list | tuple) or len(single) not in (1, channels):
        return None
    if not all(isinstance(one, int | float) and math.isfinite(one) for one in single):
        return None
    numbers = tuple(float(f"{one:.7g}") for one in single)  # float32 has no more digits
    return numbers if len(numbers) == channels else numbers * channels


def _scale(mean: tuple[float, ...], std: tuple[float, ...], names: tuple[str, str]) -> OwnScale:
    units = ""
    if max(mean) > _LARGEST:
        mean, std = (tuple(one / 255 for one in values) for values in (mean, std))
        units = ", there in units of 0..255"
    told = f"found in the file as {shown(names[0])} and {shown(names[1])}{units}"
    return OwnScale(mean, std, names, told)


def _state_dicts(
    tree: object, path: str = "", depth: int = 0
) -> Iterator[tuple[str, dict[str, object]]]:
    if not isinstance(tree, Mapping) or depth > _MAX_DEPTH:
        return
    named = {key: value for key, value in tree.items() if isinstance(key, str)}
    if len(named) == len(tree) and any(
        isinstance(value, Tensor) and value.ndim > 1 and key.rpartition(".")[2] not in _SCALES
        for key, value in named.items()
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
            f"{path}: there is no mapping of tensors at '{shown(key)}'{did_you_mean(key, found)}"
        )
    if len(found) == 1:
        return next(iter(found))
    if found:
        listed = ", ".join(f"'{shown(k)}' ({len(v)} entries)" for k, v in found.items())
        raise UserError(f"{path}: several mappings of tensors: {listed}; choose one with --key")
    keys = list(content)[:10] if isinstance(content, Mapping) else []
    holds = ", ".join(shown(str(k)) for k in keys) or type(content).__name__
    raise UserError(f"{path}: expected a mapping from names to tensors, found {holds}")


def load_foreign(
    file: ForeignFile,
    spec: ModelSpec,
    renames: Sequence[tuple[str, str]] = (),
    drops: Sequence[str] = (),
) -> Imported:
    """Builds the model and loads the file's weights, strictly.

    Half and double precision become float32. Counters of batches, which inference does not use,
    are set to 0 if the file has none at all, as PyTorch before 0.4.1 did not save them. Left out
    are entries that no pass uses (``foreign_names.UNUSED``), the input's mean and std, which are
    the specification's, and what ``drops`` names.

    Args:
        file: The weights.
        spec: The model.
        renames: Prefixes of names to replace before the rules apply, see ``our_names``.
        drops: Patterns of names to leave out, see ``left_out``.

    Raises:
        UserError: When the spec cannot be built; or with a summary of the names that are missing,
            unexpected, or of another shape or type, and what to do about it.
    """
    without = left_out(list(file.entries), drops)
    origins = our_names(_kept(file, spec, without), renames)
    model = build_model(spec)
    expected = model.net.state_dict()
    weights = _absent_counters(origins, expected)
    problems = _problems(file, origins, expected, weights)
    if problems:
        raise UserError(_misfit(file, spec, problems, origins))
    notes = [str(one) for one in without]
    if weights:
        notes.append(f"{len(weights)} counters {_COUNTER} were absent and are 0.")
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


def _kept(file: ForeignFile, spec: ModelSpec, without: Sequence[LeftOut]) -> list[str]:
    """Returns the names of the entries that are neither left out nor the input's mean and std."""
    scale = own_scale(file, spec.channels)
    gone = {name for one in without for name in one.names} | set(scale.names if scale else ())
    return [name for name in file.entries if name not in gone]


def _absent_counters(
    origins: Mapping[str, str], expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Returns counters of batches at 0, if the file has none at all."""
    if any(name.endswith(_COUNTER) for name in origins):
        return {}
    return {n: torch.zeros_like(v) for n, v in expected.items() if n.endswith(_COUNTER)}


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
        also = "" if ours == theirs else f", in the file {shown(theirs)}"
        if ours not in expected:
            lines.append(f"unexpected: {shown(ours)} {_kind(value)}{also}")
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


_LISTED = 5
"""Names of each kind that an error lists."""
_OWN_CODE = (
    "for a network that rbench list models lacks, write a function that builds and loads it, and "
    "name that as python:MODULE:FUNCTION"
)


def _misfit(
    file: ForeignFile, spec: ModelSpec, problems: Sequence[str], origins: Mapping[str, str]
) -> str:
    built = f"{spec.arch} with norm {spec.norm.label()}, shortcut {spec.shortcut}"
    head = f"{file.path}: the weights do not fit {built}; {_advice(file, spec, problems, origins)}"
    return "\n  ".join([head, *_summed_up(problems)])


def _advice(
    file: ForeignFile, spec: ModelSpec, problems: Sequence[str], origins: Mapping[str, str]
) -> str:
    """Returns what to do about weights that do not fit."""
    other = "conv" if spec.shortcut == "pad" else "pad"
    has_choice = residual_depth(spec.arch) is not None
    if has_choice and all(".shortcut." in line for line in problems):
        return f"only the shortcuts differ: try --shortcut {other}"
    if fitting := _fitting(file, spec, origins):
        return f"they fit {' and '.join(fitting)}"
    if all(line.startswith("unexpected: ") for line in problems):
        return (
            "the file holds more than this network: leave out what no forward pass of its own uses "
            f"with --drop 'PATTERN', or choose another --arch or --norm; {_OWN_CODE}"
        )
    return (
        "choose another --arch or --norm, translate names with --rename OLD=NEW, or leave entries "
        f"out with --drop 'PATTERN'; {_OWN_CODE}"
    )


def _fitting(file: ForeignFile, spec: ModelSpec, origins: Mapping[str, str]) -> list[str]:
    """Returns options under which the weights fit another architecture of this project."""
    blocks = {name.split(".")[2] for name in origins if re.match(r"stages\.0\.\d+\.", name)}
    head = file.entries.get(origins.get("fc.weight", ""))
    width = head.shape[1] if isinstance(head, Tensor) and head.ndim == 2 else 0
    by_rule = [f"resnet{6 * len(blocks) + 2}", f"wrn-{6 * len(blocks) + 4}-{width // 64}"]
    found = []
    for arch in dict.fromkeys([*ARCHITECTURES, *by_rule]):
        for shortcut in ("pad", "conv") if residual_depth(arch) else ("pad",):
            if _fits_as(file, spec, origins, {"arch": arch, "shortcut": shortcut}):
                found.append(f"--arch {arch}" + " --shortcut conv" * (shortcut == "conv"))
    return found


def _fits_as(
    file: ForeignFile, spec: ModelSpec, origins: Mapping[str, str], changes: Mapping[str, str]
) -> bool:
    """Returns whether the weights fit a model of another architecture or shortcut."""
    try:
        other = ModelSpec.model_validate({**spec.model_dump(), **changes})
        with torch.device("meta"):
            expected = build_model(other).net.state_dict()
    except (UserError, ValueError):  # there is no such network, or not with this norm
        return False
    return not _problems(file, origins, expected, _absent_counters(origins, expected))


def _summed_up(problems: Sequence[str]) -> list[str]:
    """Returns the first lines of each kind of problem, and how many there are more."""
    lines = []
    for kind in ("missing", "unexpected", ""):
        some = [one for one in problems if _kind_of(one) == kind]
        lines += some[:_LISTED]
        if len(some) > _LISTED:
            lines.append(f"... and {len(some) - _LISTED} more {kind or 'of another shape or type'}")
    return lines


def _kind_of(problem: str) -> str:
    word = problem.partition(": ")[0]
    return word if word in ("missing", "unexpected") else ""
