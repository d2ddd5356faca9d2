from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.core.cell import CellSpec, DataSpec
from bench.core.spec import canonical_json, digest, sha256_file
from bench.core.threat import ThreatModel

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, width=32),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
).filter(lambda v: "inf" not in repr(v).lower())


@pytest.mark.process
@settings(deadline=None)
@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_the_order_of_keys_does_not_matter(value: dict[str, Any]) -> None:
    reversed_keys = dict(reversed(list(value.items())))
    assert digest(reversed_keys) == digest(value)


def test_the_digest_is_the_sha256_of_the_text() -> None:
    text = '{"a":[1,2.5,null,true],"b":"\\u00e9"}'
    value = {"b": "é", "a": [1, 2.5, None, True]}
    assert canonical_json(value) == text
    assert digest(value, 64) == hashlib.sha256(text.encode()).hexdigest()
    assert len(digest(value)) == 16


def test_nan_has_no_identity() -> None:
    with pytest.raises(ValueError, match="JSON"):
        digest({"eps": float("nan")})


def test_the_hash_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"abc" * 100_000)
    assert sha256_file(path) == hashlib.sha256(b"abc" * 100_000).hexdigest()


BASE: dict[str, Any] = {
    "checkpoint": "a",
    "sha256": "0" * 64,
    "stats": None,
    "data": {"name": "mnist", "limit": 4},
    "data_hash": "1" * 64,
    "threat_model": {"eps": "8/255"},
    "attack": "pgd",
    "attack_version": 1,
    "attack_params": {"n_iter": 20},
    "protocol": "white_box",
    "batch_size": 8,
    "n_draws": 1,
    "seed": 0,
}
CHANGES: list[dict[str, Any]] = [
    {"checkpoint": "b"},
    {"sha256": "2" * 64},
    {"stats": "batch"},
    {"data": {"name": "mnist", "limit": 5}},
    {"data": {"name": "mnist", "limit": 4, "seed": 0}},
    {"data_hash": "3" * 64},
    {"threat_model": {"eps": "7/255"}},
    {"threat_model": {"eps": "8/255", "norm": "l2"}},
    {"threat_model": {"eps": "8/255", "eps_space": "normalized"}},
    {"attack": "fgsm"},
    {"attack_version": 2},
    {"library": "torchattacks 3.5.1"},
    {"attack_params": {"n_iter": 21}},
    {"eot": "stratified"},
    {"protocol": "fixed_path"},
    {"surrogate": {"checkpoint": "b", "sha256": "2" * 64, "stats": None}},
    {"surrogate": {"checkpoint": "b", "sha256": "2" * 64, "stats": "batch"}},
    {"adversary": "single"},
    {"eot_iter": 2},
    {"batch_size": 9},
    {"n_draws": 2},
    {"search": "fast"},
    {"seed": 1},
    {"adaptive": {"gradient_model": {"name": "b", "sha256": "2" * 64}}},
    {"adaptive": {"gradient_model": {"name": "b", "sha256": "3" * 64}}},
    {"adaptive": {"loss": {"name": "python:a:b", "sha256": "2" * 64}}},
    {"adaptive": {"loss": {"name": "python:a:c", "sha256": "2" * 64}}},
    {"adaptive": {"loss": {"name": "python:a:b", "sha256": "3" * 64}}},
    {"adaptive": {"loss": {"name": "python:a:b", "sha256": "2" * 64, "outputs": ["fc"]}}},
    {"y_target": "random"},
    {"y_target": "least_likely"},
    {"y_target": 3},
    {"y_target": (3, 4)},
]


def test_every_part_of_a_cell_is_part_of_its_identity() -> None:
    ids = [CellSpec.model_validate(BASE | change).cell_id for change in [{}, *CHANGES]]
    assert len(set(ids)) == len(ids)
    assert {key for change in CHANGES for key in change} == set(CellSpec.model_fields)


def test_the_id_survives_storage_and_ways_of_writing() -> None:
    spec = CellSpec.model_validate(BASE)
    assert CellSpec.model_validate_json(spec.model_dump_json()).cell_id == spec.cell_id
    written_out = BASE | {
        "threat_model": ThreatModel(norm="linf", eps=8 / 255),
        "data": DataSpec(name="mnist", limit=4, split="test"),
    }
    assert CellSpec.model_validate(written_out).cell_id == spec.cell_id
