"""Stored analyses come back as they were, whole or not at all, and damage is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from bench.core.analysis import AnalysisInfo, AnalysisSpec, Subject
from bench.core.cell import DataSpec
from bench.core.errors import UserError
from bench.core.threat import ThreatModel
from bench.store.analysis_store import AnalysisStore

VALUES = pd.DataFrame(
    {
        "model": [0, 1],
        "cosine": [0.25, float("nan")],
        "name": ["stem", "é | \\"],
        "png": [b"\x89PNG\x00", b""],
    }
)


def make_info(complete: bool = True, seed: int = 0) -> AnalysisInfo:
    subject = Subject(checkpoint="ck", sha256="0" * 64, stats="batch", batch_size=2, n_draws=1)
    spec = AnalysisSpec(
        analysis="made",
        version=1,
        params={"points": 3},
        subjects=(subject,),
        data=DataSpec(name="fashion-mnist", limit=2),
        data_hash="d",
        threat_model=ThreatModel(eps=0.1),
        attack=None,
        seed=seed,
    )
    return AnalysisInfo(
        analysis_id=spec.analysis_id,
        spec=spec,
        complete=complete,
        error="" if complete else "no image is right",
        seconds=1.5,
        machine="cpu, 1 thread",
        versions={"torch": "2.8"},
        date="2026-01-02T03:04:05Z",
    )


def test_values_and_info_survive_the_round_trip(tmp_path: Path) -> None:
    store, info = AnalysisStore(tmp_path), make_info()
    assert not store.has(info.analysis_id) and store.ids() == []
    store.write(info, VALUES)
    found_info, found = AnalysisStore(tmp_path).read(info.analysis_id)
    assert found_info == info
    assert found.drop(columns="png").equals(
        VALUES.drop(columns="png").astype({"name": found["name"].dtype})
    )
    assert [bytes(png) for png in found["png"]] == VALUES["png"].tolist()
    assert store.ids() == [info.analysis_id]
    files = sorted(p.name for p in (tmp_path / "store/analyses" / info.analysis_id).iterdir())
    assert files == ["info.json", "values.parquet"]


def test_equal_values_give_equal_bytes(tmp_path: Path) -> None:
    info = make_info()
    contents = []
    for name in ("a", "b"):
        AnalysisStore(tmp_path / name).write(info, VALUES)
        path = tmp_path / name / "store/analyses" / info.analysis_id / "values.parquet"
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]


def test_an_incomplete_one_is_to_be_run_again_and_replaced(tmp_path: Path) -> None:
    store, failed = AnalysisStore(tmp_path), make_info(complete=False)
    store.write(failed, pd.DataFrame())
    assert store.stored(failed.analysis_id) and not store.has(failed.analysis_id)
    assert len(store.read(failed.analysis_id)[1]) == 0
    store.write(make_info(), VALUES)
    assert store.has(failed.analysis_id)
    assert [p.name for p in (tmp_path / "store/analyses").iterdir()] == [failed.analysis_id]


def test_what_is_not_a_table_of_values_is_not_written(tmp_path: Path) -> None:
    store = AnalysisStore(tmp_path)
    with pytest.raises(ValueError, match="not that of its spec"):
        store.write(make_info().model_copy(update={"analysis_id": "0" * 16}), VALUES)
    with pytest.raises(ValueError, match="column 'flag' is bool"):
        store.write(make_info(), pd.DataFrame({"flag": [True]}))
    assert store.ids() == []


def test_one_from_before_ids_held_the_rules_is_still_read(tmp_path: Path) -> None:
    store, info = AnalysisStore(tmp_path), make_info()
    store.write(info, VALUES)
    former = info.spec.former_id
    assert former == "70cdc9565cead627" != info.analysis_id
    root = tmp_path / "store/analyses"
    (root / info.analysis_id).rename(root / former)
    path = root / former / "info.json"
    value = json.loads(path.read_text())
    value["info"]["analysis_id"] = former
    path.write_text(json.dumps(value))
    assert store.has(former) and store.read(former)[0].spec == info.spec
    assert not store.stored(info.analysis_id)  # a run makes it anew


def alter(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(bytes(content))


def newer(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99}))


def reseeded(path: Path) -> None:
    value = json.loads(path.read_text())
    value["info"]["spec"]["seed"] = 5
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("values.parquet", alter, "damaged or altered"),
        ("values.parquet", Path.unlink, "no such file"),
        ("info.json", Path.unlink, "no such file"),
        ("info.json", newer, "found 99, written by a newer rbench"),
        ("info.json", reseeded, "the same three times"),
    ],
)
def test_damage_is_named_with_its_remedy(
    tmp_path: Path, name: str, damage: Callable[[Path], None], message: str
) -> None:
    store, info = AnalysisStore(tmp_path), make_info()
    store.write(info, VALUES)
    damage(tmp_path / "store/analyses" / info.analysis_id / name)
    for read in (store.has, store.read):
        with pytest.raises(UserError, match=message) as caught:
            read(info.analysis_id)
        assert name in str(caught.value)
