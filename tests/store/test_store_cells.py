"""A run's store gives back what was put in, and says clearly when it cannot."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.core.cell import CellSpec, DataSpec
from bench.core.errors import UserError
from bench.core.result import CellInfo, Row
from bench.core.threat import ThreatModel
from bench.store.manifest import Manifest, ManifestCell
from bench.store.run_store import RunStore


def make_info(complete: bool = True, **changes: Any) -> CellInfo:
    spec = CellSpec(
        checkpoint="ck",
        sha256="0" * 64,
        stats="batch",
        data=DataSpec(name="fashion-mnist", limit=2),
        data_hash="d",
        threat_model=ThreatModel(eps=0.1),
        attack="fgsm",
        attack_version=1,
        attack_params={"alpha": 0.1},
        protocol="white_box",
        batch_size=2,
        n_draws=1,
        seed=0,
    ).model_copy(update=changes)
    return CellInfo(
        cell_id=spec.cell_id,
        spec=spec,
        complete=complete,
        error="" if complete else "the attack left the ball",
        attack_kind="bounded",
        cluster="batch",
        alarms=("clean accuracy is low",),
        seconds=1.5,
        machine="cpu, 1 thread",
        versions={"torch": "2.8"},
        date="2026-01-02T03:04:05Z",
    )


ROWS = [
    Row(7, 1, 1, 1.0, 2, 0.0, 0.0, "adv", 0.1, 2.5, "ok", 0, 2.0, 1.0),
    Row(3, 4, 4, 0.95, -1, None, None, "adv", math.inf, 9.0, "out_of_ball", 0, 2.0, 1.0),
]


def test_rows_and_info_survive_the_round_trip_in_order(tmp_path: Path) -> None:
    store, info = RunStore(tmp_path), make_info()
    store.write_cell(info, ROWS)
    assert RunStore(tmp_path).read_cell(info.cell_id) == (info, ROWS)
    assert store.cell_ids() == [info.cell_id]
    frame = store.frame(info.cell_id)
    assert list(frame["index"]) == [7, 3]
    assert frame["robust"].isna().tolist() == [False, True]


def test_a_cell_without_rows_can_be_stored(tmp_path: Path) -> None:
    store, info = RunStore(tmp_path), make_info(complete=False)
    store.write_cell(info, [])
    assert store.read_cell(info.cell_id) == (info, [])
    assert len(store.frame(info.cell_id)) == 0


def test_has_is_true_only_for_complete_cells_and_a_new_attempt_replaces_the_old(
    tmp_path: Path,
) -> None:
    store, failed = RunStore(tmp_path), make_info(complete=False)
    assert not store.has(failed.cell_id)
    store.write_cell(failed, [])
    assert not store.has(failed.cell_id)
    store.write_cell(make_info(), ROWS)
    assert store.has(failed.cell_id)
    assert store.read_cell(failed.cell_id)[1] == ROWS
    assert [p.name for p in (tmp_path / "store/cells").iterdir()] == [failed.cell_id]


def test_a_write_that_fails_half_way_leaves_no_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, info = RunStore(tmp_path), make_info()

    def no_rename(self: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "rename", no_rename)
    with pytest.raises(UserError, match=r"No space left on device.*run the same command again"):
        store.write_cell(info, ROWS)
    assert store.cell_ids() == []
    assert not store.has(info.cell_id)
    assert list((tmp_path / "store/cells").iterdir()) == []


def test_the_remains_of_a_killed_write_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "store/cells/.0123456789abcdef.xyz").mkdir(parents=True)
    assert RunStore(tmp_path).cell_ids() == []


def test_wrong_cells_are_not_written(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    with pytest.raises(ValueError, match="not that of its spec"):
        store.write_cell(make_info().model_copy(update={"cell_id": "0" * 16}), ROWS)
    with pytest.raises(ValueError, match="twice"):
        store.write_cell(make_info(), [ROWS[0], ROWS[0]])
    with pytest.raises(pa.ArrowException):
        store.write_cell(make_info(), [Row(**{**ROWS[0].__dict__, "label": "shirt"})])
    assert store.cell_ids() == []


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flip_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(bytes(content))


def overwrite(content: bytes) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        path.write_bytes(content)

    return apply


def edit(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        value = json.loads(path.read_text())
        change(value)
        path.write_text(json.dumps(value))

    return apply


DAMAGE: list[tuple[str, Callable[[Path], None], str]] = [
    ("rows.parquet", truncate, "damaged or altered"),
    ("rows.parquet", flip_byte, "damaged or altered"),
    ("rows.parquet", Path.unlink, "no such file"),
    ("info.json", truncate, "damaged JSON"),
    ("info.json", overwrite(b""), "damaged JSON"),
    ("info.json", overwrite(b"\xff\xfe"), "damaged JSON"),
    ("info.json", overwrite(b"[]"), "schema_version"),
    ("info.json", Path.unlink, "no such file"),
    ("info.json", edit(lambda v: v.update(schema_version=2)), "newer rbench; upgrade"),
    ("info.json", edit(lambda v: v.update(schema_version=0)), "older rbench"),
    ("info.json", edit(lambda v: v["info"].pop("machine")), "info.machine"),
    ("info.json", edit(lambda v: v["info"].update(extra=1)), "info.extra"),
    ("info.json", edit(lambda v: v["info"].update(cell_id="0" * 16)), "the same three times"),
    ("info.json", edit(lambda v: v["info"]["spec"].update(seed=5)), "the same three times"),
]


@pytest.mark.parametrize(("name", "damage", "message"), DAMAGE)
def test_damage_is_named_with_file_and_remedy(
    tmp_path: Path, name: str, damage: Callable[[Path], None], message: str
) -> None:
    store, info = RunStore(tmp_path), make_info()
    store.write_cell(info, ROWS)
    path = tmp_path / "store/cells" / info.cell_id / name
    damage(path)
    for read in (store.has, store.read_cell):
        with pytest.raises(UserError, match=message) as caught:
            read(info.cell_id)
        assert str(path) in str(caught.value)
        assert "run" in str(caught.value).split(";")[-1]


def test_parquet_with_other_columns_is_refused(tmp_path: Path) -> None:
    store, info = RunStore(tmp_path), make_info()
    store.write_cell(info, ROWS)
    folder = tmp_path / "store/cells" / info.cell_id
    pq.write_table(pa.table({"index": [1]}), folder / "rows.parquet")
    sha256 = hashlib.sha256((folder / "rows.parquet").read_bytes()).hexdigest()
    edit(lambda v: v.update(rows_sha256=sha256))(folder / "info.json")
    with pytest.raises(UserError, match=r"rows\.parquet: expected the columns index, label"):
        store.read_cell(info.cell_id)


def test_the_manifest_survives_and_its_damage_is_named(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "run")
    with pytest.raises(UserError, match=r"run: no such folder; expected the folder of a run"):
        store.read_manifest()
    cell = ManifestCell(
        model_index=0, attack_index=0, model_label="m", attack_label="a", cell_id="0" * 16
    )
    manifest = Manifest(suite={"suite": "s", "data": {"name": "é"}}, cells=(cell,))
    store.write_manifest(manifest)
    store.write_manifest(manifest)
    assert store.read_manifest() == manifest
    path = tmp_path / "run/store/run.json"
    assert [p.name for p in path.parent.iterdir()] == ["run.json"]
    edit(lambda v: v.update(schema_version=9))(path)
    with pytest.raises(UserError, match="expected schema version 1, found 9"):
        store.read_manifest()
    truncate(path)
    with pytest.raises(UserError, match="damaged JSON"):
        store.read_manifest()


def test_a_planned_cell_needs_an_id_or_a_refusal() -> None:
    place = {"model_index": 0, "attack_index": 0, "model_label": "m", "attack_label": "a"}
    assert ManifestCell.model_validate({**place, "refused": "drops samples"}).cell_id is None
    with pytest.raises(ValueError, match="refused"):
        ManifestCell.model_validate(place)
    with pytest.raises(ValueError, match="pattern"):
        ManifestCell.model_validate({**place, "cell_id": "../../etc/passwd"})
