"""Data sets that mean harm."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from collections.abc import Callable

import numpy as np
from hostile_place import Cases, Place
from PIL import Image

CASES = Cases()


def npz(**arrays: object) -> bytes:
    target = io.BytesIO()
    np.savez(target, **arrays)  # type: ignore[arg-type]
    return target.getvalue()


X, Y = np.zeros((4, 8, 8), np.uint8), np.zeros(4, np.int64)


def npy_header(shape: str) -> bytes:
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def zipped(x: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("x.npy", x)
        labels = io.BytesIO()
        np.save(labels, Y)
        archive.writestr("y.npy", labels.getvalue())
    return target.getvalue()


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]


NPZ: dict[str, tuple[Callable[[Place], bytes], str]] = {
    "object-array": (
        lambda p: npz(x=np.array([_call(p)], object), y=Y),
        "not a readable .npz file of plain arrays",
    ),
    "bare-pickle": (lambda p: p.pickled(), "not a readable .npz file of plain arrays"),
    "truncated": (lambda p: npz(x=X, y=Y)[:200], "not a readable .npz file"),
    "bit-flipped": (lambda p: flipped(npz(x=X, y=Y)), "not a readable .npz file"),
    "terabytes": (lambda p: zipped(npy_header("(1000000000000, 8, 8)")), "not a readable .npz"),
    "shape-is-code": (
        lambda p: zipped(npy_header("__import__('os').mkdir('canary')")),
        "not a readable .npz",
    ),
    "shape-too-deep": (lambda p: zipped(npy_header("(" * 3_000)), "not a readable .npz"),
    "encrypted": (lambda p: _flagged(npz(x=X, y=Y)), "not a readable .npz"),
    "unknown-compression": (lambda p: _method(npz(x=X, y=Y)), "not a readable .npz"),
    "no-images": (lambda p: npz(x=X[:0], y=Y[:0]), "expected 'x' as at least one image"),
    "wrong-shape": (lambda p: npz(x=np.zeros((4, 8), np.uint8), y=Y), "found shape (4, 8)"),
    "wrong-dtype": (lambda p: npz(x=X.astype("c8"), y=Y), "found complex64"),
    "nan-pixels": (lambda p: npz(x=np.full((4, 8, 8), np.nan), y=Y), "floats in [0, 1]"),
    "labels-beyond-the-model": (lambda p: npz(x=X, y=Y + 2**62), "classes"),
    "negative-labels": (lambda p: npz(x=X, y=Y - 1), "expected labels from 0"),
}


def _call(place: Place) -> object:
    from hostile_place import Canary

    return Canary("mkdir", place.canary)


def _flagged(content: bytes) -> bytes:
    """Says of each member that it is encrypted."""
    return content.replace(
        b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"
    ).replace(b"PK\x01\x02\x2d\x03\x2d\x00\x00", b"PK\x01\x02\x2d\x03\x2d\x00\x01")


def _method(content: bytes) -> bytes:
    """Says of each member that it is compressed in a way that nobody knows."""
    parts = content.split(b"PK\x01\x02")
    changed = [part[:6] + b"\x63\x00" + part[8:] for part in parts[1:]]
    return b"PK\x01\x02".join([parts[0], *changed])


for _name, (_make, _says) in NPZ.items():

    def _npz_case(place: Place, make: Callable[[Place], bytes] = _make) -> list[str]:
        place.write("bad.npz", make(place))
        return place.data("npz:bad.npz")

    CASES.add(f"npz {_name}", _says)(_npz_case)


def idx(dims: list[int], raw: bytes) -> bytes:
    return bytes([0, 0, 8, len(dims)]) + struct.pack(f">{len(dims)}I", *dims) + raw


LABELS = idx([4], bytes(4))
IDX: dict[str, tuple[bytes, str]] = {
    "truncated": (idx([4, 28, 28], bytes(100)), "truncated or damaged IDX file"),
    "no-header": (b"\0\0\x08", "expected an IDX file"),
    "cut-header": (b"\0\0\x08\x03\0\0", "header is cut off"),
    "pickle": (b"\x80\x02cos\nmkdir\nU\x06canary\x85R.", "expected an IDX file"),
    "two-hundred-dimensions": (idx([0] * 200, b""), "expected at most 8 dimensions"),
    "endless-dimensions": (idx([0, 2**32 - 1, 2**32 - 1], b""), "IDX file"),
    "wrong-shape": (idx([4, 8, 8], bytes(256)), "expected images of shape (n, 28, 28)"),
    "damaged-gzip": (gzip.compress(idx([4, 28, 28], bytes(3136)))[:-20], "damaged gzip file"),
    "gzip-bomb": (gzip.compress(bytes(300_000_000), 9), "IDX file"),
}
for _name, (_content, _says) in IDX.items():

    def _idx_case(place: Place, content: bytes = _content) -> list[str]:
        place.write("mnist/t10k-images-idx3-ubyte", content)
        place.write("mnist/t10k-labels-idx1-ubyte", LABELS)
        return place.data("mnist")

    CASES.add(f"idx {_name}", _says)(_idx_case)


def cifar(program: bytes) -> bytes:
    return b"\x80\x02}(" + program + b"u."


_ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
_U1 = (
    b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
)


def array(shape: bytes, raw: bytes = b"U\x03\x01\xfe\xff", dtype: bytes = _U1) -> bytes:
    """An array of a shape that is itself a program."""
    return _ARRAY + b"(K\x01" + shape + dtype + b"\x89" + raw + b"tb"


_HUGE = b"\x8a\xff" + b"\x7f" * 255
"""An integer of 2,040 bits."""
_NESTED = b")" + b"\x85" * 1_000_000
"""A tuple in a tuple, a million times: hashing it overruns the C stack."""
PICKLES: dict[str, tuple[Callable[[Place], bytes], str]] = {
    **{
        f"calls-{how}": (lambda p, how=how: p.pickled(how), "asks to call")
        for how in ("system", "mkdir", "eval", "exec")
    },
    "calls-by-stack-global": (lambda p: p.pickled("system", 4), "asks to call"),
    "calls-in-a-batch": (
        lambda p: cifar(b"U\x04data" + b"cos\nmkdir\nU\x06canary\x85R"),
        "asks to call 'os.mkdir'",
    ),
    "truncated": (lambda p: cifar(b"U\x04data" + array(b"K\x03\x85"))[:-9], "damaged data file"),
    "endless-memo": (lambda p: b"\x80\x02}r\xff\xff\xff\x7f.", "damaged data file"),
    "key-nested-too-deep": (lambda p: cifar(_NESTED + b"K\x01"), "nested deeper than"),
    "type-nested-too-deep": (
        lambda p: cifar(
            b"U\x04data"
            + array(b"K\x03\x85", dtype=b"cnumpy\ndtype\n" + b"]q\x00h\x00a" + b"\x85R")
        ),
        "damaged data file",
    ),
    "shape-of-text": (
        lambda p: cifar(b"U\x04data" + array(b"J\xff\xff\xff\x7fU\x08aaaaaaaa\x86")),
        "damaged data file",
    ),
    "shape-of-huge-numbers": (
        lambda p: cifar(b"U\x04data" + array(b"(" + _HUGE * 2_000 + b"t")),
        "damaged data file",
    ),
    "shape-does-not-fit": (
        lambda p: cifar(b"U\x04data" + array(b"K\x09\x85")),
        "damaged data file",
    ),
    "labels-too-large": (
        lambda p: cifar(
            b"U\x04data"
            + array(b"K\x01M\x00\x0c\x86", b"T\x00\x0c\x00\x00" + bytes(3072))
            + b"U\x06labels]("
            + _HUGE
            + b"e"
        ),
        "expected labels in 0..9",
    ),
    "key-is-a-list-in-itself": (lambda p: cifar(b")]q\x00h\x00a\x86K\x01"), "damaged data file"),
    "no-dictionary": (lambda p: b"\x80\x02](K\x01e.", "expected a dictionary"),
    "holds-itself": (lambda p: b"\x80\x02}q\x00U\x04datah\x00s.", "expected 'data' as uint8"),
}
for _name, (_make, _says) in PICKLES.items():

    def _pickle_case(place: Place, make: Callable[[Place], bytes] = _make) -> list[str]:
        place.write("cifar-10-batches-py/test_batch", make(place))
        return place.data("cifar10")

    CASES.add(f"cifar {_name}", _says)(_pickle_case)


def png(size: tuple[int, int] = (8, 8), mode: str = "L") -> bytes:
    target = io.BytesIO()
    Image.new(mode, size).save(target, "PNG")
    return target.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG file that says that it is of this size, and holds nothing."""
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


POSTSCRIPT = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 8 8
%%EndComments
(canary) (w) file closefile
showpage
"""
PICTURES: dict[str, tuple[bytes, bool, str]] = {
    "postscript": (POSTSCRIPT, True, "not a readable image"),
    "bomb": (png_header(60_000, 60_000), True, "not a readable image"),
    "too-large": (png_header(8_000, 8_000), True, "more than 50000000 pixels"),
    "truncated": (png()[:44], False, "not a readable image"),
    "not-square": (png((8, 9)), True, "expected 8x9 pixels like the first image"),
    "sixteen-bits": (png(mode="I;16"), False, "expected an 8-bit image"),
    "script": (b"<svg onload=alert(1)>", False, "not a readable image"),
}
"""What is in a file, whether it is the first of its folder, what is said of it."""
CLASSES = ("<script>alert(1)<!--", "b", "c")
for _name, (_content, _first, _says) in PICTURES.items():

    def _picture_case(place: Place, content: bytes = _content, first: bool = _first) -> list[str]:
        for name in CLASSES:
            for file in ("$(mkdir canary).png", "z.png"):
                place.write(f"pictures/{name}/{file}", png())
        bad = f"{CLASSES[0]}/$(mkdir canary).png" if first else f"{CLASSES[0]}/z.png"
        place.write(f"pictures/{bad}", content)
        return place.data("folder:pictures")

    CASES.add(f"picture {_name}", _says)(_picture_case)
