"""The restricted pickle reader runs nothing and reads what numpy wrote."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.core.errors import UserError
from bench.data.slice import load_split
from bench.untrusted.pickles import read_array_pickle


class Call:
    """Pickles as a call of a function with arguments."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.args


def write(folder: Path, content: object, protocol: int = 4) -> Path:
    path = folder / "batch"
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("dtype", ["u1", "<i8", ">i4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_reads_arrays_as_numpy_writes_them(
    tmp_path: Path, protocol: int, dtype: str, order: Any
) -> None:
    array = np.asarray(np.arange(200, 212).reshape(3, 4).astype(dtype), order=order)
    read = read_array_pickle(write(tmp_path, {"data": array, "labels": [1, 2]}, protocol))
    np.testing.assert_array_equal(read["data"], array)
    assert read["labels"] == [1, 2]


def test_reads_the_form_that_python_2_wrote(tmp_path: Path) -> None:
    # What CIFAR's own files hold: str objects of Python 2, and numpy.core.multiarray.
    program = (
        b"\x80\x02}(U\x04dataq\x01cnumpy.core.multiarray\n_reconstruct\n"
        b"cnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x01K\x03\x86"
        b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
        b"K\x00tb\x89U\x03\x01\xfe\xfftbU\x06labels](K\x01K\x02eu."
    )
    path = tmp_path / "batch"
    path.write_bytes(program)
    original = pickle.loads(program, encoding="latin1")
    read = read_array_pickle(path)
    np.testing.assert_array_equal(read["data"], original["data"])
    assert read["data"].tolist() == [[1, 254, 255]]
    assert read["labels"] == original["labels"] == [1, 2]


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (os.mkdir, ("{folder}/owned",)),
        (os.system, ("mkdir {folder}/owned",)),
        (eval, ("__import__('os').mkdir('{folder}/owned')",)),
        (getattr, ("text", "upper")),
        (np.load, ("{folder}/owned",)),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_malicious_pickle_is_refused_and_nothing_runs(
    tmp_path: Path, function: Any, arguments: tuple[str, ...], protocol: int
) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    call = Call(function, *(a.format(folder=tmp_path) for a in arguments))
    content = {"data": np.zeros((1, 3072), np.uint8), "labels": [0], "more": [call]}
    (folder / "test_batch").write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(UserError, match="refused") as error:
        load_split("cifar10", "test", tmp_path)
    assert "test_batch" in str(error.value)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {"data": np.zeros(3)},
        {"data": np.array([{}], object)},
        {"data": Call(np.zeros(0).__reduce__()[0], np.ndarray, (0,), b"b")},
    ],
    ids=["list", "float", "object", "no-state"],
)
def test_other_content_is_a_user_error(tmp_path: Path, content: object) -> None:
    with pytest.raises(UserError, match="batch: "):
        read_array_pickle(write(tmp_path, content))


def test_a_pickle_cannot_change_the_reader(tmp_path: Path) -> None:
    # BUILD on a class with a slot state would set attributes of the class for later files.
    path = tmp_path / "batch"
    path.write_bytes(b"\x80\x02c_codecs\nencode\nN}X\x07\x00\x00\x00__new__Ns\x86b.")
    with pytest.raises(UserError, match="damaged"):
        read_array_pickle(path)
    array = np.arange(3, dtype=np.uint8)
    read = read_array_pickle(write(tmp_path, {"data": array}, 2))
    np.testing.assert_array_equal(read["data"], array)


def test_a_few_bytes_cannot_ask_for_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "batch"
    path.write_bytes(b"\x80\x02}r\xff\xff\xff\x7f.")
    with pytest.raises(UserError, match="memo index 2147483647"):
        read_array_pickle(path)


GOOD = pickle.dumps({"data": np.arange(6, dtype=np.uint8), "labels": [1, 2]}, 2)


@pytest.mark.process
@settings(max_examples=300, deadline=None)
@given(cut=st.integers(0, len(GOOD)), at=st.integers(0, len(GOOD) - 1), byte=st.integers(0, 255))
def test_damaged_pickles_never_fail_otherwise(
    tmp_path_factory: pytest.TempPathFactory, cut: int, at: int, byte: int
) -> None:
    damaged = bytearray(GOOD)
    damaged[at] = byte
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(damaged[:cut] if cut % 2 else damaged)
    try:
        read = read_array_pickle(path)
    except UserError as error:
        assert "damaged: " in str(error)
    else:
        assert isinstance(read, dict)
