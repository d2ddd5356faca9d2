"""Run folders that mean harm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
from hostile_data import flipped
from hostile_place import Cases, Place

CASES = Cases()

DEEP_JSON = '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"


# run.json


def text_case(text: str | bytes) -> Callable[[Place], list[str]]:
    def make(place: Place) -> list[str]:
        place.write("run/store/run.json", text)
        return ["report", "run"]

    return make


for _name, (_text, _says) in {
    "not-json": ("{", "damaged JSON"),
    "not-utf8": (b"\xff\xfe", "damaged JSON"),
    "too-deep": (DEEP_JSON, "damaged JSON"),
    "endless-integer": ('{"schema_version": 1' + "0" * 10_000 + "}", "damaged JSON"),
    "of-another-version": ('{"schema_version": 999}', "written by a newer rbench"),
    "a-list": ("[]", "expected an object with a schema_version"),
    "pickle": (b"\x80\x02cos\nmkdir\nU\x06canary\x85R.", "damaged JSON"),
}.items():
    CASES.add(f"run.json {_name}", _says)(text_case(_text))

MANIFEST: dict[str, tuple[Callable[[Any], object], str]] = {
    "cell-id-leaves": (
        lambda v: v["cells"][0].update(cell_id="../../../../etc"),
        "cells.0.cell_id: String should match",
    ),
    "analysis-id-leaves": (
        lambda v: v["analyses"][0].update(analysis_id="../../x"),
        "analyses.0.analysis_id: String should match",
    ),
    "suite-of-text": (lambda v: v.update(suite={"suite": "x"}), "suite.data: Field required"),
    "suite-name-leaves": (
        lambda v: v["suite"].update(suite="../../etc"),
        "suite.suite: String should match",
    ),
    "report-of-a-module": (
        lambda v: v["suite"].update(reports=[{"kind": "os:system"}]),
        "suite.reports",
    ),
    "published-leaves": (
        lambda v: v["suite"]["reports"][0].update(published="../../../../etc/passwd"),
        "unknown published table",
    ),
    "half-a-surrogate-pair": (
        lambda v: v["suite"].update(title="\ud800"),
        "surrogates not allowed",
    ),
}
for _name, (_change, _says) in MANIFEST.items():

    def _manifest_case(place: Place, change: Callable[[Any], object] = _change) -> list[str]:
        return place.manifest(change)

    CASES.add(f"run.json {_name}", _says)(_manifest_case)


# Cells


@CASES.add("info.json too deep", "damaged JSON")
def _(place: Place) -> list[str]:
    (place.entry("cells") / "info.json").write_text(DEEP_JSON)
    return ["report", "run"]


@CASES.add("info.json of NaN", "damaged JSON")
def _(place: Place) -> list[str]:
    path = place.attacked_cell() / "info.json"
    path.write_text(path.read_text().replace('"attack_params": {', '"attack_params": {"a": NaN, '))
    return ["report", "run"]


@CASES.add("info.json with half a surrogate pair", "damaged JSON")
def _(place: Place) -> list[str]:
    path = place.attacked_cell() / "info.json"
    text = path.read_text()
    path.write_text(text.replace('"attack_params": {', '"attack_params": {"a": "\\ud800", '))
    return ["report", "run"]


@CASES.add("info.json of another cell", "expected the same three times")
def _(place: Place) -> list[str]:
    place.json(place.entry("cells") / "info.json", lambda v: v["info"]["spec"].update(seed=7))
    return ["report", "run"]


INFO: dict[str, tuple[Callable[[Any], object], str]] = {
    "checkpoint-leaves": (
        lambda v: v["info"]["spec"].update(checkpoint="../checkpoints/good"),
        "expected the name of a folder",
    ),
    "checkpoint-absolute": (
        lambda v: v["info"]["spec"].update(checkpoint="/etc"),
        "expected the name of a folder",
    ),
    "attack-of-a-module": (
        lambda v: v["info"]["spec"].update(attack="os:system"),
        "unknown attack",
    ),
    "data-of-another-kind": (
        lambda v: v["info"]["spec"]["data"].update(name="npz:/etc/passwd"),
        "not a readable .npz",
    ),
}
for _name, (_change, _says) in INFO.items():

    def _info_case(place: Place, change: Callable[[Any], object] = _change) -> list[str]:
        return place.info(place.attacked_cell(), change)

    CASES.add(f"info.json {_name}", _says, code=3)(_info_case)


@CASES.add("rows altered", "rows.parquet: damaged or altered")
def _(place: Place) -> list[str]:
    path = place.entry("cells") / "rows.parquet"
    path.write_bytes(flipped(path.read_bytes()))
    return ["report", "run"]


@CASES.add("rows truncated", "rows.parquet: damaged or altered")
def _(place: Place) -> list[str]:
    path = place.entry("cells") / "rows.parquet"
    path.write_bytes(path.read_bytes()[:-50])
    return ["report", "run"]


@CASES.add("rows truncated with their hash", "damaged Parquet file")
def _(place: Place) -> list[str]:
    folder = place.entry("cells")
    return place.table(folder, (folder / "rows.parquet").read_bytes()[:-50])


@CASES.add("rows are a pickle", "damaged Parquet file")
def _(place: Place) -> list[str]:
    return place.table(place.entry("cells"), place.pickled())


@CASES.add("rows of other columns", "expected the columns index")
def _(place: Place) -> list[str]:
    return place.table(place.entry("cells"), pa.table({"evil": [1]}))


@CASES.add("rows of a pickled type", "expected the columns index")
def _(place: Place) -> list[str]:
    """What pyarrow before 14.0.1 unpickled."""
    kind = pa.schema(
        [
            pa.field(
                "index",
                pa.binary(),
                metadata={
                    b"ARROW:extension:name": b"arrow.py_extension_type",
                    b"ARROW:extension:metadata": place.pickled(),
                },
            )
        ]
    )
    return place.table(place.entry("cells"), pa.table([[b"x"]], schema=kind))


ROWS: dict[str, tuple[str, list[Any], str]] = {
    "nan": ("robust", [float("nan")] * 4, "robust"),
    "beyond-one": ("robust", [7.0, 0.0, 0.0, 0.0], "robust"),
    "infinite-distance": ("linf", [float("inf")] * 4, "linf"),
    "status-of-its-own": ("status", ["<script>"] * 4, "status"),
    "played-of-its-own": ("played", ["<script>"] * 4, "played"),
    "index-twice": ("index", [0, 0, 1, 2], "index"),
}
for _name, (_column, _values, _says) in ROWS.items():

    def _row_case(place: Place, column: str = _column, values: list[Any] = _values) -> list[str]:
        return place.column(place.attacked_cell(), column, values)

    CASES.add(f"rows {_name}", _says)(_row_case)


# Chunks


def rerun(place: Place) -> list[str]:
    """Removes the attacked cell, so that a run goes on from its chunk."""
    import shutil

    shutil.rmtree(place.attacked_cell())
    return ["run", "suite.yaml", "--out", "run", "--no-probe", "--workers", "1", "--device", "cpu"]


@CASES.add("chunk altered", "damaged or altered")
def _(place: Place) -> list[str]:
    path = place.entry("chunks") / "rows.parquet"
    path.write_bytes(flipped(path.read_bytes()))
    return rerun(place)


@CASES.add("chunk renamed", "expected the same three times")
def _(place: Place) -> list[str]:
    folder = place.entry("chunks")
    folder.rename(folder.with_name(folder.name.replace("000001", "000002")))
    return rerun(place)


@CASES.add("chunk too deep", "damaged JSON")
def _(place: Place) -> list[str]:
    (place.entry("chunks") / "info.json").write_text(DEEP_JSON)
    return rerun(place)


@CASES.add("weights altered between plan and run", "the file is truncated or altered", code=3)
def _(place: Place) -> list[str]:
    arguments = rerun(place)
    path = place.checkpoint / "model.safetensors"
    path.write_bytes(flipped(path.read_bytes()))
    return arguments


# Repair


REPAIRS: dict[str, Callable[[Any], object]] = {
    "checkpoint-of-two-lines": lambda v: v["info"]["spec"].update(checkpoint="a\nb"),
    "attack-of-terminal-codes": lambda v: v["info"]["spec"].update(attack="\x1b]0;owned\x07"),
}
for _name, _change in REPAIRS.items():

    def _repair_case(place: Place, change: Callable[[Any], object] = _change) -> list[str]:
        place.info(place.attacked_cell(), change)
        (place.store / "run.json").unlink()
        return ["repair", "run"]

    CASES.add(f"repair {_name}", "one line of printable text")(_repair_case)


@CASES.add("repair of what is too deep", "damaged JSON", code=3)
def _(place: Place) -> list[str]:
    (place.attacked_cell() / "info.json").write_text(DEEP_JSON)
    (place.store / "run.json").write_text(DEEP_JSON)
    return ["repair", "run"]
