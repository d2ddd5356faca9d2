"""Stored images and analyses that mean harm, and folders that lead elsewhere."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from hostile_data import flipped, npy_header, npz, png_header, zipped
from hostile_place import Canary, Cases, Place
from hostile_stores import DEEP_JSON, rerun

CASES = Cases()

# Adversarial examples


def example(table: pa.Table | bytes) -> Callable[[Place], list[str]]:
    def make(place: Place) -> list[str]:
        path = place.example_file()
        path.write_bytes(table) if isinstance(table, bytes) else pq.write_table(table, path)
        return ["verify", "run"]

    return make


def images(values: Any, index: Any = (0, 1), shape: bytes | None = b"1,8,8") -> pa.Table:
    table = pa.table({"index": pa.array(index), "x_adv": values})
    return table if shape is None else table.replace_schema_metadata({b"rbench.shape": shape})


def floats(n: int = 2) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(n * 64, np.float32)), 64)


EXAMPLES: dict[str, tuple[pa.Table | bytes, str]] = {
    "pickle": (b"\x80\x02cos\nmkdir\nU\x06canary\x85R.", "not a file of adversarial examples"),
    "not-lists": (images(pa.array([1.0, 2.0])), "not a file of adversarial examples"),
    "structs": (
        images(pa.array([{"a": 1.0}, {"a": 2.0}])),
        "not a file of adversarial examples",
    ),
    "texts": (images(pa.array([["x"] * 64] * 2)), "not a file of adversarial examples"),
    "without-shape": (images(floats(), shape=None), "not a file of adversarial examples"),
    "shape-of-text": (images(floats(), shape=b"a,b"), "not a file of adversarial examples"),
    "shape-too-large": (
        images(floats(), shape=b"99999999999999999999,8,8"),
        "not a file of adversarial examples",
    ),
    "of-other-images": (images(floats(), index=(5, 6)), "for the same images"),
    "one-too-few": (images(floats(1), index=(0,)), "for the same images"),
}
for _name, (_table, _says) in EXAMPLES.items():
    CASES.add(f"adversarial example {_name}", _says, code=3)(example(_table))


@CASES.add("adversarial example altered", "not a file of adversarial examples", code=3)
def _(place: Place) -> list[str]:
    path = place.example_file()
    path.write_bytes(flipped(path.read_bytes()))
    return ["verify", "run"]


@CASES.add("adversarial example of NaN", "stored examples and results differ", code=1)
def _(place: Place) -> list[str]:
    values = pa.FixedSizeListArray.from_arrays(pa.array(np.full(128, np.nan, np.float32)), 64)
    return example(images(values))(place)


# Adversarial examples of strangers


def foreign(name: str, content: bytes | Callable[[Place], bytes]) -> Callable[[Place], list[str]]:
    def make(place: Place) -> list[str]:
        place.write(name, content if isinstance(content, bytes) else content(place))
        about = ["--model", "good", "--data", "npz:data.npz", "--threat", "linf:0.1"]
        return ["verify", "--x-adv", name, *about]

    return make


def saved(value: Any) -> bytes:
    target = io.BytesIO()
    torch.save(value, target)
    return target.getvalue()


def nested(levels: int) -> Any:
    value: Any = torch.zeros(1)
    for _ in range(levels):
        value = [value]
    return value


def canary_array(place: Place) -> Any:
    return np.array([Canary("mkdir", place.canary)], object)


FOREIGN: dict[str, tuple[str, bytes | Callable[[Place], bytes], str]] = {
    "torch-runs": ("a.pt", lambda p: saved(Canary("mkdir", p.canary)), "nothing of it was run"),
    "pickle-as-torch": ("a.pt", lambda p: p.pickled(), "adv"),
    "pickle-as-numpy": ("a.npy", lambda p: p.pickled(), "not a readable .npy or .npz"),
    "object-array": ("a.npz", lambda p: npz(x_adv=canary_array(p)), "as numbers, not as objects"),
    "terabytes": ("a.npz", zipped(npy_header("(1000000000000, 8, 8)")), "not a readable .npy"),
    "shape-is-code": (
        "a.npy",
        npy_header("__import__('os').mkdir('canary')"),
        "not a readable .npy",
    ),
    "one-value-for-terabytes": (
        "a.pt",
        lambda p: saved(torch.zeros(1).expand(2**40, 1, 8, 8)),
        "for 128 images",
    ),
    "too-many-arrays": ("a.pt", lambda p: saved([torch.zeros(2)] * 1_001), "more than 1000 arrays"),
    "nested": ("a.pt", lambda p: saved(nested(20)), "nested deeper than 8 levels"),
    "sparse": ("a.pt", lambda p: saved(torch.zeros(2, 1, 8, 8).to_sparse()), "no plain array"),
    "huge-labels": (
        "a.npz",
        npz(x_adv=np.zeros((2, 8, 8), np.float32), labels=np.array([2**63, 1], np.uint64)),
        "its labels are not those of the data",
    ),
    "negative-positions": (
        "a.npz",
        npz(x_adv=np.zeros((2, 8, 8), np.float32), index=np.array([-1, 1])),
        "positions: index",
    ),
    "control-codes": (
        "a.pt",
        lambda p: saved({"\x1b[31m": torch.zeros(2), "\x07": torch.zeros(2)}),
        "expected images of shape",
    ),
    "another-format": ("a.pkl", lambda p: p.pickled(), "expected a file of arrays"),
}
for _name, (_file, _content, _says) in FOREIGN.items():
    CASES.add(f"foreign examples {_name}", _says)(foreign(_file, _content))


# Analyses


def looks(place: Place) -> pa.Table:
    return pq.read_table(place.entry("analyses") / "values.parquet")


@CASES.add("analysis of other columns", "values.parquet")
def _(place: Place) -> list[str]:
    return place.table(place.entry("analyses"), pa.table({"evil": [1]}))


@CASES.add("analysis with columns of other types", "values.parquet")
def _(place: Place) -> list[str]:
    table = looks(place)
    texts = [pa.array(["x"] * len(table)) for _ in table.column_names]
    return place.table(place.entry("analyses"), pa.table(texts, table.column_names))


@CASES.add("analysis with pictures that are none", "not a readable image")
def _(place: Place) -> list[str]:
    return place.column(place.entry("analyses"), "clean_png", [b"<svg onload=alert(1)>"] * 2)


@CASES.add("analysis with a picture bomb", "not a readable image")
def _(place: Place) -> list[str]:
    return place.column(place.entry("analyses"), "clean_png", [png_header(60_000, 60_000)] * 2)


@CASES.add("analysis of infinite numbers", "an infinite number")
def _(place: Place) -> list[str]:
    return place.column(place.entry("analyses"), "magnification", [float("inf")] * 2)


@CASES.add("analysis of models that there are not", "values.parquet does not hold")
def _(place: Place) -> list[str]:
    return place.column(place.entry("analyses"), "model", [7, 7])


@CASES.add("analysis with metadata for pandas that is none", "report.html", code=0)
def _(place: Place) -> list[str]:
    table = looks(place).replace_schema_metadata({b"pandas": b"{" * 50})
    return place.table(place.entry("analyses"), table)


@CASES.add("analysis too deep", "damaged JSON")
def _(place: Place) -> list[str]:
    (place.entry("analyses") / "info.json").write_text(DEEP_JSON)
    return ["report", "run"]


# Folders that lead elsewhere


@CASES.add("lock leads elsewhere", "symbolic links")
def _(place: Place) -> list[str]:
    arguments = rerun(place)
    precious = place.write("precious", "do not lose this")
    (place.store / ".lock").symlink_to(precious)
    return arguments


@CASES.add("format of another file", "unknown format")
def _(place: Place) -> list[str]:
    return ["report", "run", "--format", "../../evil"]


@CASES.add("comparison of another file", "unknown published table")
def _(place: Place) -> list[str]:
    return ["report", "run", "--compare", "../../etc/passwd"]
