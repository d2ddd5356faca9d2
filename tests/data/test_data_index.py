"""Slices by position: what they hold, what they refuse, and that no other id has changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bench.core.analysis import AnalysisSpec
from bench.core.cell import RULES, CellSpec, DataSpec
from bench.core.errors import UserError
from bench.core.paths import Where
from bench.core.spec import digest
from bench.core.threat import ThreatModel
from bench.data.slice import slice_index, take_slice
from bench.report.text import data_text
from bench.run.prepare import local_lookup
from bench.suite.load import load_suite

positions = st.lists(st.integers(0, 59), min_size=1, max_size=60, unique=True)


def cell(**data: Any) -> CellSpec:
    return CellSpec(
        checkpoint="net",
        sha256="a" * 64,
        stats="population",
        data=DataSpec(**data),
        data_hash="d" * 64,
        threat_model=ThreatModel(eps=0.1),
        attack="pgd",
        attack_version=1,
        attack_params={"n_iter": 20, "alpha": None},
        protocol="white_box",
        batch_size=50,
        n_draws=1,
        seed=0,
    )


@given(index=positions, n=st.integers(1, 60))
def test_a_slice_by_position_holds_these_images_in_this_order(index: list[int], n: int) -> None:
    spec = DataSpec(name="mnist", index=tuple(index))
    assert slice_index(spec, np.zeros(60, np.int64)).tolist() == index
    assert spec.n_images == len(index)
    assert slice_index(spec.first(n), np.zeros(60, np.int64)).tolist() == index[:n]


def test_it_equals_the_slice_that_holds_the_same() -> None:
    other = take_slice(DataSpec(name="fashion-mnist", limit=9, seed=5, offset=2))
    same = take_slice(DataSpec(name="fashion-mnist", index=tuple(other.index.tolist())))
    assert same.sha256 == other.sha256
    np.testing.assert_array_equal(same.x, other.x)
    np.testing.assert_array_equal(same.index, other.index)


def test_positions_past_the_end_are_refused() -> None:
    with pytest.raises(UserError, match="below the split's 60 images, found 60"):
        slice_index(DataSpec(name="mnist", index=(3, 60)), np.zeros(60, np.int64))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"index": ()}, "at least 1"),
        ({"index": (1, -1)}, "greater than or equal to 0"),
        ({"index": (4, 2, 4)}, "found 4 twice"),
        ({"index": (1,), "limit": 1}, "found both"),
        ({"index": (1,), "offset": 1}, "found both"),
        ({"index": (1,), "seed": 0}, "found both"),
        ({"index": (1,), "stratified": True}, "found both"),
    ],
)
def test_what_is_no_list_of_positions_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DataSpec(name="mnist", **fields)


def test_a_slice_without_an_index_has_none_in_its_id() -> None:
    sliced = {"split": "train", "limit": 64, "offset": 8, "seed": 3, "stratified": True}
    for fields in ({}, sliced):
        spec = cell(name="mnist", **fields)
        written = spec.model_dump(mode="json", exclude={"eot"})
        assert "index" not in written["data"]
        assert spec.cell_id == digest(written | {"rules": RULES})


def test_stored_cells_keep_their_ids() -> None:
    reports = Path(__file__).parents[2] / "reports"
    for path in sorted(reports.glob("*/store/cells/*/info.json"))[::20]:
        info = json.loads(path.read_text())["info"]
        assert CellSpec.model_validate(info["spec"]).cell_id == path.parent.name
    for path in sorted(reports.glob("*/store/analyses/*/info.json")):
        info = json.loads(path.read_text())["info"]
        assert AnalysisSpec.model_validate(info["spec"]).analysis_id == path.parent.name


def test_an_index_is_part_of_the_id_and_is_written() -> None:
    one, other = cell(name="mnist", index=(1, 2)), cell(name="mnist", index=(2, 1))
    assert len({one.cell_id, other.cell_id, cell(name="mnist").cell_id}) == 3
    assert CellSpec.model_validate_json(one.model_dump_json()) == one
    assert "index" not in cell(name="mnist").model_dump(mode="json")["data"]
    assert "2 images chosen by position" in data_text(one.data)


def test_a_suite_may_name_its_images(tmp_path: Path) -> None:
    text = (
        "suite: few\ndata: {name: fashion-mnist, index: [7, 3]}\n"
        "threat_model: {norm: linf, eps: 0.1}\nmodels: [none-here]\nattacks: [natural]\n"
    )
    (tmp_path / "few.yaml").write_text(text)
    lookup = local_lookup(Where(tmp_path))
    suite = load_suite(tmp_path / "few.yaml", lookup, skip_missing=True)
    assert suite.spec.data.index == (7, 3)
    (tmp_path / "few.yaml").write_text(text.replace("[7, 3]", "[7, 7]"))
    with pytest.raises(UserError, match=r"few.yaml:2: data.index: .* found 7 twice"):
        load_suite(tmp_path / "few.yaml", lookup, skip_missing=True)
