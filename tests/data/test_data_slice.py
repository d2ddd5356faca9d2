"""Slices: fixed by the seed, balanced when stratified, hashed the same everywhere."""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.core.cell import DataSpec
from bench.core.errors import UserError
from bench.data.slice import hash_images, load_split, slice_index, take_slice

labels = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.array)
seeds = st.none() | st.integers(0, 2**64)

GOLDEN_PERMUTATION = [3, 2, 1, 8, 6, 0, 7, 4, 5, 9]
GOLDEN_SHA256 = "50a36047a4dd3011842ad500c2bd06f5f31337259b599176618248c9e31a4b4c"


def spec(**fields: object) -> DataSpec:
    return DataSpec.model_validate({"name": "mnist", **fields})


@given(y=labels, seed=seeds, data=st.data())
def test_slices_are_windows_of_one_fixed_permutation(
    y: np.ndarray, seed: int | None, data: st.DataObject
) -> None:
    n = len(y)
    whole = slice_index(spec(seed=seed), y)
    assert sorted(whole.tolist()) == list(range(n))
    if seed is None:
        assert whole.tolist() == list(range(n))
    offset = data.draw(st.integers(0, n - 1))
    limit = data.draw(st.integers(1, n - offset))
    piece = slice_index(spec(seed=seed, offset=offset, limit=limit), y)
    assert piece.tolist() == whole[offset : offset + limit].tolist()
    assert piece.dtype == np.int64


@given(y=labels, seed=seeds, data=st.data())
def test_stratified_counts_differ_by_at_most_one_or_are_refused(
    y: np.ndarray, seed: int | None, data: st.DataObject
) -> None:
    limit = data.draw(st.integers(1, len(y)))
    n_classes, counts = len(np.unique(y)), np.unique(y, return_counts=True)[1]
    each, rest = divmod(limit, n_classes)
    possible = counts.min() >= each and (counts > each).sum() >= rest
    wanted = spec(seed=seed, limit=limit, stratified=True)
    if not possible:
        with pytest.raises(UserError, match="images of each class"):
            slice_index(wanted, y)
        return
    index = slice_index(wanted, y)
    assert len(set(index.tolist())) == limit
    taken = np.bincount(y[index], minlength=5)[np.unique(y)]
    assert sorted(taken.tolist()) == [each] * (n_classes - rest) + [each + 1] * rest


@given(per_class=st.integers(1, 8), n_classes=st.integers(1, 5), seed=seeds, data=st.data())
def test_stratified_windows_are_balanced_and_disjoint_too(
    per_class: int, n_classes: int, seed: int | None, data: st.DataObject
) -> None:
    y = np.array(data.draw(st.permutations([c for c in range(n_classes)] * per_class)))
    offset = data.draw(st.integers(0, len(y) - 1))
    limit = data.draw(st.integers(1, len(y) - offset))
    window = slice_index(spec(seed=seed, offset=offset, limit=limit, stratified=True), y)
    counts = np.bincount(y[window], minlength=n_classes)
    assert counts.max() - counts.min() <= 1
    before = slice_index(spec(seed=seed, limit=offset + limit, stratified=True), y)
    assert before[offset:].tolist() == window.tolist()


@given(y=labels)
def test_stratified_keeps_the_order_within_a_class(y: np.ndarray) -> None:
    limit = len(np.unique(y))
    index = slice_index(spec(limit=limit, stratified=True), y)
    firsts = np.unique(y, return_index=True)[1]
    assert sorted(index.tolist()) == sorted(firsts.tolist())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"limit": 11}, "limit of at most 10 .* found 11"),
        ({"limit": 4, "offset": 7}, "limit of at most 3"),
        ({"offset": 10}, "offset below the split's 10 images, found 10"),
        ({"limit": 8, "stratified": True}, "found 3 of class 1.*at most 7, found 8"),
        ({"limit": 3, "offset": 5, "stratified": True}, "found 3 of class 1"),
        ({"stratified": True}, "at most 7, found 10"),
    ],
)
def test_slices_that_do_not_exist(fields: dict[str, object], message: str) -> None:
    y = np.array([0, 0, 0, 0, 1, 1, 1, 0, 0, 0])
    with pytest.raises(UserError, match=message):
        slice_index(spec(**fields), y)


def test_the_permutation_never_changes() -> None:
    # Stored results name images by seed: another numpy must give the same ones.
    y = np.zeros(10, np.int64)
    assert slice_index(spec(seed=0), y).tolist() == GOLDEN_PERMUTATION
    state = np.random.get_state()[1].copy()  # type: ignore[index,union-attr]
    slice_index(spec(seed=1), y)
    assert (np.random.get_state()[1] == state).all()  # type: ignore[index]


def test_hash_is_of_shape_pixels_and_labels_in_little_endian() -> None:
    x = np.array([[[[0.0, 1.0]]], [[[0.5, 0.25]]]], np.float32)
    y = np.array([3, 1])
    expected = hashlib.sha256(
        b"[2, 1, 1, 2]\n" + struct.pack("<4f", 0, 1, 0.5, 0.25) + struct.pack("<2q", 3, 1)
    ).hexdigest()
    assert hash_images(x, y) == expected
    assert hash_images(x.astype(">f4"), y.astype(">i8")) == expected  # type: ignore[arg-type]
    assert hash_images(x[:, :, :, ::-1][:, :, :, ::-1], y) == expected
    assert hash_images(x.reshape(2, 1, 2, 1), y) != expected
    assert hash_images(x, y[::-1]) != expected
    assert hash_images(x[::-1], y) != expected


def test_bundled_slice_is_what_it_was() -> None:
    wanted = DataSpec(name="fashion-mnist", limit=64, seed=0, stratified=True)
    piece = take_slice(wanted)
    assert piece.sha256 == GOLDEN_SHA256
    split = load_split("fashion-mnist", "test")
    np.testing.assert_array_equal(piece.y, split.y[piece.index])
    np.testing.assert_array_equal(np.rint(piece.x * 255), split.x[piece.index])
    assert piece.x.dtype == np.float32
    assert 0 <= piece.x.min() < piece.x.max() <= 1
    assert piece.x.flags.writeable and piece.x.flags.c_contiguous
