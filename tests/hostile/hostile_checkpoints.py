"""Checkpoints and foreign weights that mean harm."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import torch
from hostile_data import flipped
from hostile_place import Cases, Place
from hostile_suites import BOMB, DEEP, MERGES, RECIPE, SIXTIES, TEXTS
from safetensors.torch import load_file

from bench.train.recipe import read_recipes, recipe_digest

CASES = Cases()
LIKE = ["--arch", "resnet20", "--norm", "bn", "--dataset", "npz:data.npz", "--name", "new"]


def importing(file: str) -> list[str]:
    return ["zoo", "import", file, *LIKE]


# Cards.

CARDS = {
    "bomb": (BOMB, "aliases expand to more than"),
    "merge-bomb": (MERGES, "aliases expand to more than"),
    "python": (TEXTS["yaml-runs-python"][0], "the tag"),
    "too-deep": (DEEP, "nested deeper than 20 levels"),
    "too-large": (TEXTS["yaml-too-large"][0], "larger than 1000000 bytes"),
    "alias-of-itself": ("name: good\nrecipe: &a {a: *a}\n", "an alias refers to what holds it"),
    "endless-integer": (SIXTIES, "a number of 300001 characters"),
    "a-list": ("[1, 2]", "the whole file"),
}
for _name, (_text, _says) in CARDS.items():

    def _card_case(place: Place, text: str = _text) -> list[str]:
        return place.card_text(text)

    CASES.add(f"card {_name}", _says)(_card_case)

FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "endless-classes": ({"model__classes": 10**12}, "model.classes: Input should be less than"),
    "endless-size": (
        {"model__size": 10**12},
        "expected height and width from 1 to 10000",
    ),
    "size-of-words": (
        {"model__size": [28, "x"]},
        "model.size: expected a whole number, or height and width, found [28, 'x']",
    ),
    "nan-mean": ({"model__mean": [float("nan")]}, "mean and std must be finite"),
    "zero-std": ({"model__std": [0.0]}, "every std greater than 0"),
    "accuracy-of-nan": ({"clean_accuracy__value": float("nan")}, "clean_accuracy.value"),
    "unknown-arch": ({"model__arch": "os.system"}, "unknown arch 'os.system'"),
    "groups-that-do-not-fit": (
        {"model__norm": {"name": "gn", "groups": 10**9}},
        "groups",
    ),
    "sha-of-another-file": ({"sha256": "0" * 64}, "the file is truncated or altered"),
    "sha-with-a-path": ({"sha256": "../" * 21 + "x"}, "sha256: String should match"),
    "data-of-another-kind": ({"dataset": "npz:/etc/passwd"}, "not a readable .npz"),
}
for _name, (_changes, _says) in FIELDS.items():

    def _field_case(place: Place, changes: dict[str, Any] = _changes) -> list[str]:
        return place.card(**changes)

    CASES.add(f"card {_name}", _says)(_field_case)


@CASES.add("history of text", "expected the columns epoch")
def _(place: Place) -> list[str]:
    place.write("checkpoints/good/training.csv", "epoch,loss\n=cmd|'/C calc'!A0,1\n")
    return place.suite()


@CASES.add("history not text", "expected the columns epoch")
def _(place: Place) -> list[str]:
    place.write("checkpoints/good/training.csv", b"\xff\xfe\x00" * 99)
    return place.suite()


@CASES.add("history of a line without end", "expected the columns epoch")
def _(place: Place) -> list[str]:
    place.write("checkpoints/good/training.csv", "epoch," + "x" * 200_000 + "\n1,1\n")
    return place.suite()


# Weights beside a card that vouches for them.


def safetensors(header: object, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def first(tensors: dict[str, Any]) -> str:
    return next(name for name in tensors if tensors[name].is_floating_point())


def nan(tensors: dict[str, Any]) -> None:
    tensors[first(tensors)].view(-1)[0] = float("nan")


def other_shape(tensors: dict[str, Any]) -> None:
    tensors[first(tensors)] = torch.zeros(7, 7)


def other_type(dtype: torch.dtype) -> Callable[[dict[str, Any]], None]:
    def change(tensors: dict[str, Any]) -> None:
        tensors[first(tensors)] = tensors[first(tensors)].to(dtype)

    return change


WEIGHTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "nan": (nan, "tensors with NaN or infinite values"),
    "wrong-shape": (other_shape, "the weights do not fit"),
    "wrong-type": (other_type(torch.int64), "is int64, expected float32"),
    "half": (other_type(torch.float16), "is float16, expected float32"),
    "eight-bits": (other_type(torch.float8_e4m3fn), "is float8_e4m3fn, expected float32"),
    "missing": (lambda t: t.pop(first(t)), "1 missing"),
    "one-too-many": (lambda t: t.update(evil=torch.zeros(1)), "1 unexpected: evil"),
}
for _name, (_change, _says) in WEIGHTS.items():

    def _weight_case(
        place: Place, change: Callable[[dict[str, Any]], object] = _change
    ) -> list[str]:
        return place.weights(change)

    CASES.add(f"weights {_name}", _says)(_weight_case)

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
RAW: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "truncated": (lambda raw: raw[:-100], "not a readable safetensors file"),
    "empty": (lambda raw: b"", "not a readable safetensors file"),
    "header-of-exabytes": (lambda raw: b"\xff" * 8 + raw[8:], "not a readable safetensors file"),
    "header-flipped": (lambda raw: raw[:20] + b"\xff" + raw[21:], "not a readable safetensors"),
    "header-too-deep": (
        lambda raw: safetensors(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        "not a readable safetensors file",
    ),
    "offsets-beyond-the-end": (
        lambda raw: safetensors({"a": {**F32, "data_offsets": [0, 2**60]}}, bytes(8)),
        "not a readable safetensors file",
    ),
    "offsets-overlap": (
        lambda raw: safetensors({"a": F32, "b": F32}, bytes(8)),
        "not a readable safetensors file",
    ),
    "shape-overflows": (
        lambda raw: safetensors({"a": {**F32, "shape": [2**62, 2**62]}}, bytes(8)),
        "not a readable safetensors file",
    ),
    "type-unknown-to-torch": (
        lambda raw: safetensors({"a": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}, b"0"),
        "the weights do not fit",
    ),
    "pickle": (lambda raw: b"\x80\x02cos\nmkdir\nU\x06canary\x85R.", "not a readable safetensors"),
}
for _name, (_spoil, _says) in RAW.items():

    def _raw_case(place: Place, spoil: Callable[[bytes], bytes] = _spoil) -> list[str]:
        return place.raw_weights(spoil)

    CASES.add(f"safetensors {_name}", _says)(_raw_case)


@CASES.add("safetensors altered without the card", "the file is truncated or altered")
def _(place: Place) -> list[str]:
    path = place.checkpoint / "model.safetensors"
    path.write_bytes(flipped(path.read_bytes()))
    return ["probe", "good"]


@CASES.add("zoo verify names what differs", "", code=1)
def _(place: Place) -> list[str]:
    path = place.checkpoint / "model.safetensors"
    path.write_bytes(flipped(path.read_bytes()))
    return ["zoo", "verify", "--quick"]


@CASES.add("zoo verify takes folders of any name", "", code=1)
def _(place: Place) -> list[str]:
    place.checkpoint.rename(place.checkpoint.with_name("[red]\x1b]0;owned\x07"))
    return ["zoo", "verify", "--quick"]


# Foreign files.


def saved(value: object) -> bytes:
    target = io.BytesIO()
    torch.save(value, target)
    return target.getvalue()


def archive(program: bytes) -> bytes:
    """A file of torch.save around a pickle of one's own."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as made:
        made.writestr("archive/data.pkl", program)
        made.writestr("archive/version", "3\n")
        made.writestr("archive/byteorder", "little")
    return target.getvalue()


def with_attributes(place: Place) -> bytes:
    """Sound weights, but for one whose methods are its own."""
    tensors: dict[str, Any] = dict(load_file(place.checkpoint / "model.safetensors"))
    name = first(tensors)
    changed = torch.nn.Parameter(tensors[name])
    for method in ("is_floating_point", "is_complex", "isfinite", "to", "detach"):
        setattr(changed, method, 5)
    return saved({**tensors, name: changed})


def nested() -> Any:
    return torch.nested.nested_tensor([torch.zeros(2, 2), torch.zeros(3, 2)])


_NESTED = b")" + b"\x85" * 1_000_000
FOREIGN: dict[str, tuple[Callable[[Place], bytes], str]] = {
    "calls-mkdir": (lambda p: archive(p.pickled("mkdir")), "nothing of it was run"),
    "calls-system": (lambda p: archive(p.pickled("system")), "nothing of it was run"),
    "calls-eval": (lambda p: archive(p.pickled("eval")), "nothing of it was run"),
    "calls-exec": (lambda p: archive(p.pickled("exec")), "nothing of it was run"),
    "bare-pickle": (lambda p: p.pickled("mkdir"), "nothing of it was run"),
    "protocol-4": (lambda p: archive(p.pickled("system", 4)), "not a readable file of torch.save"),
    "whole-model": (lambda p: saved(torch.nn.Linear(2, 2)), "nothing of it was run"),
    "truncated": (lambda p: saved({"a": torch.zeros(9, 9)})[:-300], "not a readable file"),
    "empty": (lambda p: b"", "not a readable file of torch.save"),
    "key-nested-too-deep": (
        lambda p: archive(b"\x80\x02}(" + _NESTED + b"K\x01u."),
        "nested deeper than",
    ),
    "old-form-key-nested-too-deep": (
        lambda p: b"\x80\x02}(" + _NESTED + b"K\x01u.",
        "nested deeper than",
    ),
    "holds-itself": (
        lambda p: archive(b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s."),
        "expected a mapping",
    ),
    "no-tensors": (lambda p: saved({"a": 1}), "expected a mapping from names to tensors"),
    "complex": (lambda p: saved({"conv": torch.zeros(3, 3, dtype=torch.complex64)}), "do not fit"),
    "sparse": (lambda p: saved({"conv": torch.zeros(3, 3).to_sparse()}), "do not fit"),
    "quantized": (
        lambda p: saved(
            {"conv": torch.quantize_per_tensor(torch.zeros(3, 3), 0.1, 0, torch.qint8)}
        ),
        "bad.pt: ",
    ),
    "nested": (lambda p: saved({"conv": nested()}), "bad.pt: "),
    "with-attributes": (with_attributes, "a tensor with attributes of its own"),
    "terminal-codes": (
        lambda p: saved({"\x1b]0;owned\x07": torch.zeros(3, 3)}),
        "unexpected: '\\x1b]0;owned\\x07'",
    ),
}
for _name, (_make, _says) in FOREIGN.items():

    def _foreign_case(place: Place, make: Callable[[Place], bytes] = _make) -> list[str]:
        place.write("bad.pt", make(place))
        return importing("bad.pt")

    CASES.add(f"foreign {_name}", _says)(_foreign_case)


@CASES.add("foreign of all NaN", "tensors with NaN or infinite values")
def _(place: Place) -> list[str]:
    tensors = dict(load_file(place.checkpoint / "model.safetensors"))
    nan(tensors)
    torch.save(tensors, place.root / "nan.pt")
    return importing("nan.pt")


@CASES.add("foreign name leaves the folder", "--name: expected small letters")
def _(place: Place) -> list[str]:
    place.write("bad.pt", b"")
    return [*importing("bad.pt")[:-1], "../../new"]


@CASES.add("foreign name with line break", "--name: expected small letters")
def _(place: Place) -> list[str]:
    place.write("bad.pt", b"")
    return [*importing("bad.pt")[:-1], "new\n"]


# The state of an unfinished training.


def _state(place: Place, content: bytes) -> list[str]:
    place.write("recipe.yaml", RECIPE)
    place.write("made/tiny/train_state.pt", content)
    return ["train", "recipe.yaml", "--no-compile", "--out", "made", "--device", "cpu"]


def _digest(place: Place) -> str:
    (recipe,) = read_recipes(place.write("recipe.yaml", RECIPE))
    return recipe_digest(recipe)


STATES: dict[str, tuple[Callable[[Place], bytes], str]] = {
    "calls-mkdir": (lambda p: archive(p.pickled("mkdir")), "not a readable training state"),
    "key-nested-too-deep": (
        lambda p: archive(b"\x80\x02}(" + _NESTED + b"K\x01u."),
        "not a readable training state",
    ),
    "a-list": (lambda p: saved([1, 2]), "not a readable training state"),
    "truncated": (lambda p: saved({"recipe": "x"})[:-99], "not a readable training state"),
    "of-another": (lambda p: saved({"recipe": "x"}), "belongs to another recipe"),
    "without-a-model": (lambda p: saved({"recipe": _digest(p)}), "not a readable training state"),
    "with-another-model": (
        lambda p: saved({"recipe": _digest(p), "model": {"a": torch.zeros(1)}}),
        "not a readable training state",
    ),
}
for _name, (_make, _says) in STATES.items():

    def _state_case(place: Place, make: Callable[[Place], bytes] = _make) -> list[str]:
        return _state(place, make(place))

    CASES.add(f"state {_name}", _says)(_state_case)
