"""A folder with everything that a command reads, all of it sound, for one thing to be spoilt."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image
from safetensors.torch import save_file

from bench.core.analysis import AnalysisInfo
from bench.core.cell import RULES
from bench.core.model_spec import ModelSpec
from bench.core.paths import Where
from bench.core.result import CellInfo, Row
from bench.core.spec import digest, sha256_file
from bench.models import build_model
from bench.run.prepare import local_lookup
from bench.store.analysis_store import AnalysisStore
from bench.store.run_store import Chunk, RunStore
from bench.suite.load import load_suite
from bench.suite.plan import make_plan
from bench.zoo import Card, CleanAccuracy, save_checkpoint

IMAGES, N = 128, 4
"""In the data set, and of these in the run."""
SUITE = """
suite: hostile
data: {name: "npz:data.npz", limit: 4}
threat_model: {norm: linf, eps: 0.1}
batch_size: 2
search: exact
convergence_images: 0
sentinel: false
models: [good]
attacks: [natural, fgsm]
analyses: [{analysis: examples, attack: fgsm, params: {images: 2}}]
reports: [leaderboard, examples]
"""


Rbench = Callable[[list[str]], tuple[int, str, str]]
"""Runs a command line; returns exit code, output and errors."""


class Canary:
    """Pickles as a call that makes a folder; where the folder is, something was run."""

    def __init__(self, how: str, path: Path) -> None:
        self.how, self.path = how, path

    def __reduce__(self) -> tuple[Any, ...]:
        import builtins
        import os

        text = f"__import__('os').mkdir({str(self.path)!r})"
        calls: dict[str, tuple[Any, ...]] = {
            "system": (os.system, (f"mkdir {self.path}",)),
            "mkdir": (os.mkdir, (str(self.path),)),
            "eval": (builtins.eval, (text,)),
            "exec": (builtins.exec, (text,)),
        }
        return calls[self.how]


class Place:
    """The folder, which is also the working directory of the command."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.canary = root / "canary"
        self.checkpoint = root / "checkpoints" / "good"
        self.store = root / "run" / "store"

    # Making things.

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def pickled(self, how: str = "mkdir", protocol: int = 2) -> bytes:
        return pickle.dumps(Canary(how, self.canary), protocol)

    def suite(self, old: str = "", new: str = "", *, text: str = SUITE) -> list[str]:
        """Writes the suite with a change; returns the arguments that plan it."""
        assert old in text
        self.write("suite.yaml", text.replace(old, new) if old else text)
        return ["plan", "suite.yaml", "--no-time", "--out", "new"]

    def data(self, name: str) -> list[str]:
        """Returns the arguments that plan the suite on other data."""
        return self.suite('"npz:data.npz"', json.dumps(name))

    # Spoiling things.

    def card(self, **changes: Any) -> list[str]:
        """Changes the card; returns the arguments that look at the checkpoint."""
        path = self.checkpoint / "card.yaml"
        content = yaml.safe_load(path.read_text())
        for key, value in changes.items():
            inner, _, last = key.rpartition("__")
            (content[inner] if inner else content)[last] = value
        path.write_text(yaml.safe_dump(content))
        return ["probe", "good"]

    def card_text(self, text: str) -> list[str]:
        (self.checkpoint / "card.yaml").write_text(text)
        return ["probe", "good"]

    def weights(self, change: Callable[[dict[str, Any]], object]) -> list[str]:
        """Changes the weights, and the card with them; returns the arguments that probe."""
        path = self.checkpoint / "model.safetensors"
        from safetensors.torch import load_file

        tensors = dict(load_file(path))
        change(tensors)
        save_file(tensors, path)
        return self.card(sha256=sha256_file(path))

    def raw_weights(self, change: Callable[[bytes], bytes]) -> list[str]:
        """Changes the bytes of the weights, and the card with them."""
        path = self.checkpoint / "model.safetensors"
        path.write_bytes(change(path.read_bytes()))
        return self.card(sha256=sha256_file(path))

    def json(self, path: Path, change: Callable[[Any], object]) -> None:
        value = json.loads(path.read_text())
        change(value)
        path.write_text(json.dumps(value))

    def manifest(self, change: Callable[[Any], object]) -> list[str]:
        self.json(self.store / "run.json", change)
        return ["report", "run"]

    def entry(self, kind: str, number: int = -1) -> Path:
        """Returns the folder of a stored cell, chunk or analysis."""
        return sorted((self.store / kind).iterdir())[number]

    def attacked_cell(self) -> Path:
        folders = (self.store / "cells").iterdir()
        return next(f for f in folders if '"attack": "fgsm"' in (f / "info.json").read_text())

    def info(self, folder: Path, change: Callable[[Any], object]) -> list[str]:
        """Changes an info.json, and gives its folder the id that its spec now has."""
        self.json(folder / "info.json", change)
        value = json.loads((folder / "info.json").read_text())
        spec = {k: v for k, v in value["info"]["spec"].items() if (k, v) != ("eot", "plain")}
        new = digest(spec | {"rules": RULES})
        old = value["info"]["cell_id"]
        for path in (folder / "info.json", self.store / "run.json"):
            path.write_text(path.read_text().replace(old, new))
        folder.rename(folder.with_name(folder.name.replace(old, new)))
        examples = self.store / "examples" / old
        if examples.is_dir():
            examples.rename(examples.with_name(new))
        return ["verify", "run"]

    def table(self, folder: Path, table: pa.Table | bytes) -> list[str]:
        """Replaces a stored table, and its hash with it."""
        (path,) = folder.glob("*.parquet")
        if isinstance(table, bytes):
            path.write_bytes(table)
        else:
            pq.write_table(table, path)
        key = "values_sha256" if path.stem == "values" else "rows_sha256"
        self.json(folder / "info.json", lambda v: v.update({key: sha256_file(path)}))
        return ["report", "run"]

    def column(self, folder: Path, name: str, values: list[Any]) -> list[str]:
        """Replaces a column of a stored table by values of the same type."""
        (path,) = folder.glob("*.parquet")
        table = pq.read_table(path)
        at = table.schema.get_field_index(name)
        field = table.schema.field(at)
        kept = len(table) if not values else len(values)
        table = table.slice(0, kept).set_column(at, field, pa.array(values, field.type))
        return self.table(folder, table)

    def example_file(self) -> Path:
        return next((self.store / "examples").rglob("*.parquet"))


@dataclass(frozen=True)
class Hostile:
    """A file that means harm.

    Attributes:
        name: Of the case.
        says: A part of the message.
        make: Makes it; returns the arguments of ``rbench``.
        code: Exit code.
    """

    name: str
    says: str
    make: Callable[[Place], list[str]]
    code: int = 2


class Cases(list[Hostile]):
    """Collects cases by decorator."""

    def add(
        self, name: str, says: str, code: int = 2
    ) -> Callable[[Callable[[Place], list[str]]], None]:
        def taken(make: Callable[[Place], list[str]]) -> None:
            self.append(Hostile(name, says, make, code))

        return taken


def make_place(root: Path) -> Place:
    """Makes the folder: data, a checkpoint, and a run of it with chunks and examples."""
    place = Place(root)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (IMAGES, 8, 8), np.uint8)
    np.savez(root / "data.npz", x=x, y=np.arange(IMAGES) % 3)
    fields = {"arch": "resnet20", "channels": 1, "size": 8, "classes": 3}
    spec = ModelSpec.model_validate({**fields, "norm": "bn", "mean": [0.5], "std": [0.5]})
    card = Card(
        name="good",
        model=spec,
        dataset="npz:data.npz",
        training="none",
        clean_accuracy=CleanAccuracy(value=0.3, n=1, split="npz:data.npz test"),
        versions={},
        sha256="0" * 64,
    )
    save_checkpoint(place.checkpoint, build_model(spec, seed=1).net, card)
    place.suite()
    make_run(place)
    return place


def make_run(place: Place, word: str = "zero") -> None:
    """Stores a run of the suite; ``word`` is what every text in it says."""
    lookup = local_lookup(Where(place.root / "checkpoints", place.root))
    plan = make_plan(load_suite(place.root / "suite.yaml", lookup))
    store = RunStore(place.root / "run")
    about: dict[str, Any] = {
        "complete": True,
        "seconds": 1.0,
        "machine": word,
        "versions": {word: word},
        "date": word,
    }
    for cell in plan.cells:
        info = CellInfo(
            cell_id=cell.cell_id,
            spec=cell.spec,
            attack_kind=cell.attack_kind,
            cluster="sample",
            alarms=() if word == "zero" else (word,),
            **about,
        )
        rows = [_row(i) for i in range(N)]
        store.write_cell(info, rows)
        if cell.attack_kind != "none":
            for batch in range(2):
                images = np.zeros((2, 1, 8, 8), np.float32)
                store.examples.write(cell.cell_id, batch, [2 * batch, 2 * batch + 1], images)
            store.chunks.write(Chunk(0, 1, info, rows[:2]))
    store.write_manifest(plan.manifest())
    (look,) = plan.analyses
    values = pd.DataFrame([_example(i, word) for i in range(2)])
    known = AnalysisInfo(analysis_id=look.analysis_id, spec=look.spec, **about)
    AnalysisStore(place.root / "run").write(known, values)


def _row(i: int) -> Row:
    return Row(i, 0, 0, 1.0, 1, 0.0, 0.0, "adv", 0.1, 0.5, "ok", i // 2, 2.0, 1.0)


def _example(place: int, word: str) -> dict[str, Any]:
    target = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(target, "PNG")
    png = target.getvalue()
    said = {"pred": 0, "name": word, "confidence": 0.5}
    return {
        "model": 0,
        "place": place,
        "index": place,
        "label": 0,
        "label_name": word,
        **{f"clean_{key}": value for key, value in said.items()},
        **{f"adv_{key}": value for key, value in said.items()},
        "linf": 0.1,
        "l2": 0.5,
        "magnification": 5.0,
        **{f"{name}_png": png for name in ("clean", "adv", "difference")},
    }


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
