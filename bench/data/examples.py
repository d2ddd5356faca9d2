"""Adversarial examples that other tools made, as images beside those of a data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.cell import DataSpec
from bench.core.errors import UserError, did_you_mean
from bench.data.slice import Slice, open_split, take_slice
from bench.untrusted.examples import as_array, type_of
from bench.untrusted.spec_file import check_spec

ADVERSARIAL = (
    *("x_adv", "adv_inputs", "adv_complete", "clipped", "adv", "x_advs", "advs", "adv_x"),
    *("adv_images", "adv_examples", "adversarial", "adversarials", "adversarial_examples"),
)
"""Names of x_adv, in order of preference: ours, torchattacks', AutoAttack's, Foolbox's, others'."""
CLEAN = ("clean_inputs", "x", "x_clean", "clean", "x_orig", "x_nat", "x_test", "inputs", "images")
LABELS = ("labels", "label", "y", "y_true", "y_test", "true_labels")
PREDICTIONS = ("preds", "pred", "predictions", "y_adv", "y_pred", "adv_preds", "adv_labels")
INDEX = ("index", "indices", "idx")

LEVEL = 1 / 255
_FAR = 0.5
"""How far most images must leave [0, 1] for their pixels to be on another scale."""
_LEVELS = 50.0
"""Largest value above which pixels are levels of 0 to 255."""
_HALF_STEP = {"float16": 2.0**-12, "bfloat16": 2.0**-9}
"""Largest rounding of a pixel in [0, 1] by types that are coarser than float32."""

Shape = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Examples:
    """Adversarial examples, and what their file says beside them.

    Attributes:
        x_adv: Pixels (n, c, h, w), float32, meant for [0, 1]; they may be outside, NaN or infinite.
        labels: True labels (n,), int64, if there are any.
        predictions: Predicted classes of x_adv (n,), int64, if there are any.
        clean: Clean images of x_adv's shape, if there are any.
        index: Positions in the data set's split (n,), int64, if there are any.
        notes: How the file was read, a sentence each.
    """

    x_adv: NDArray[np.float32]
    labels: NDArray[np.int64] | None = None
    predictions: NDArray[np.int64] | None = None
    clean: NDArray[np.float32] | None = None
    index: NDArray[np.int64] | None = None
    notes: tuple[str, ...] = ()


def pick_examples(
    arrays: Mapping[str, Any], shape: Shape, most: int, where: str, key: str | None = None
) -> Examples:
    """Finds the adversarial examples among arrays, and what belongs to them.

    Args:
        arrays: By name, as ``bench.untrusted.examples.named_arrays`` returns them.
        shape: Channels, height and width of the data's images.
        most: How many of these there are.
        where: Where the arrays come from, for messages.
        key: Name of x_adv; ``None`` to go by the usual names, or the only array of images.

    Raises:
        UserError: When x_adv is not found, or is no batch of such images in a known scale.
    """
    chosen = _chosen(arrays, shape, where, key)
    at = f"{where}: '{chosen}'"
    raw, layout = _channels_first(arrays[chosen], shape, most, at)
    x_adv, scale = _unit_scale(raw, at)
    n, dtype = len(x_adv), type_of(arrays[chosen])
    notes = [f"'{chosen}': {n} images {layout}, {dtype}{scale}"]
    if dtype in _HALF_STEP:
        notes.append(f"{dtype} moves a pixel by up to {_HALF_STEP[dtype]:.1g} when it is rounded")
    used = {"x_adv": chosen, "labels": _named(arrays, LABELS), "index": _named(arrays, INDEX)}
    used["predictions"] = _named(arrays, PREDICTIONS)
    alike = {name for name, array in arrays.items() if array.shape == arrays[chosen].shape}
    used["clean"] = _named(sorted(alike - {chosen}), CLEAN)
    second = _second(arrays, chosen)
    if used["predictions"] is None and second is not None:
        used["predictions"] = second
        notes.append(f"'{second}' was taken for predicted classes, as AutoAttack gives them")
    rest = [name for name in arrays if name not in used.values()]
    notes += [f"not looked at: {', '.join(rest[:10])}"] if rest else []

    def whole(what: str) -> NDArray[np.int64] | None:
        name = used[what]
        return None if name is None else _whole(arrays[name], n, f"{where}: '{name}'")

    clean, name = None, used["clean"]
    if name is not None:
        found, _ = _channels_first(arrays[name], shape, n, f"{where}: '{name}'")
        clean, _ = _unit_scale(found, f"{where}: '{name}'")
    about = (whole("labels"), whole("predictions"), clean, whole("index"))
    return Examples(x_adv, *about, notes=tuple(notes))


def _chosen(arrays: Mapping[str, Any], shape: Shape, where: str, key: str | None) -> str:
    """Returns the name of x_adv."""
    if not arrays:
        raise UserError(f"{where}: expected adversarial examples, found no array; save x_adv alone")
    if key is not None:
        if _second(arrays, f"{key}.0") is not None:
            return f"{key}.0"
        if key not in arrays:
            raise UserError(f"{where}: no array is called '{key}'{did_you_mean(key, arrays)}")
        return key
    if len(arrays) == 1:
        return next(iter(arrays))
    fitting = [name for name, array in arrays.items() if _fits(array.shape, shape)]
    named = _named(fitting, ADVERSARIAL)
    if named is not None:
        return named
    foolbox = fitting == ["0", "1"] and set(arrays) == {"0", "1", "2"}
    if foolbox and "bool" in type_of(arrays["2"]):
        return "1"  # raw, clipped, is_adv
    others = [name for name in fitting if _named([name], CLEAN) is None]
    if len(others) == 1 or len(fitting) == 1:
        return (others or fitting)[0]
    shown = ", ".join(f"{n} {tuple(a.shape)} {type_of(a)}" for n, a in list(arrays.items())[:12])
    if not fitting:
        raise UserError(
            f"{where}: expected images of shape {_shapes(shape)}, as the data's are, found "
            f"{shown}; give the data that they were made from"
        )
    raise UserError(
        f"{where}: several arrays may be the adversarial examples; found {shown}; choose one with "
        "--key (key= in Python), or join them into one if they are batches"
    )


def _named(arrays: Iterable[str], names: tuple[str, ...]) -> str | None:
    """Returns the first array that has one of the names, in whatever case, in their order."""
    known: dict[str, str] = {}
    for name in arrays:
        known.setdefault(_last_word(name), name)
    return next((known[name] for name in names if name in known), None)


def _last_word(name: str) -> str:
    return name.removesuffix(".0").rpartition(".")[2].lower().replace("-", "_")


def _second(arrays: Mapping[str, Any], chosen: str) -> str | None:
    """Returns the name of the classes in AutoAttack's pair of x_adv and classes."""
    before, dot, last = chosen.rpartition(".")
    second, third = (f"{before}{dot}{place}" for place in "12")
    pair = last == "0" and second in arrays and third not in arrays
    return second if pair and len(arrays[second].shape) == 1 else None


def _fits(found: tuple[int, ...], shape: Shape) -> bool:
    c, h, w = shape
    rest = tuple(found)[1:]
    return rest in ((c, h, w), (h, w, c)) or (c == 1 and rest == (h, w))


def _shapes(shape: Shape) -> str:
    c, h, w = shape
    return f"(n, {c}, {h}, {w}) or (n, {h}, {w}, {c})"


def _channels_first(given: Any, shape: Shape, most: int, at: str) -> tuple[NDArray[Any], str]:
    """Returns images as (n, c, h, w), and the layout that they were in, in words.

    Shape and number are checked first: a tensor's file may be small and the tensor endless.
    """
    c, h, w = shape
    size = tuple(given.shape)
    if not _fits(size, shape) or not size[0]:
        raise UserError(
            f"{at}: expected images of shape {_shapes(shape)}, as the data's are, found {size}; "
            "give the data that they were made from, reshape them, or save one eps of several"
        )
    if size[0] > most:
        raise UserError(
            f"{at}: expected an example for each image, found {size[0]} for {most} images; give "
            "the data that they were made from"
        )
    array = as_array(given, at)
    if array.shape[1:] == (c, h, w):
        return array, "(n, c, h, w)"
    if array.ndim == 3:
        return array[:, None], "(n, h, w)"
    return array.transpose(0, 3, 1, 2), "(n, h, w, c)"


def _unit_scale(x: NDArray[Any], at: str) -> tuple[NDArray[np.float32], str]:
    """Returns pixels as float32 on the scale of [0, 1], and what was done, in words."""
    if x.dtype.kind in "ui":
        least, most = int(x.min()), int(x.max())
        if least < 0 or not 1 < most <= 255:
            raise UserError(
                f"{at}: expected whole numbers as levels from 0 to 255, found {least} to {most}; "
                "save floats in [0, 1]"
            )
        return _divided(x), ", levels of 0 to 255 divided by 255"
    if x.dtype.kind != "f":
        raise UserError(f"{at}: expected pixels as floats or whole numbers, found {x.dtype}")
    pixels = np.ascontiguousarray(x, dtype=np.float32)
    flat = np.where(np.isfinite(pixels), pixels, 0.5).reshape(len(pixels), -1)
    lows, highs = flat.min(1), flat.max(1)
    far = (lows < -_FAR) | (highs > 1 + _FAR)
    if far.mean() <= 0.5:
        return pixels, ""
    low, high = float(lows.min()), float(highs.max())
    if low >= -1 and _LEVELS < high <= 256:
        return _divided(x), ", levels of 0 to 255 divided by 255"
    raise UserError(
        f"{at}: expected pixels in [0, 1], found values from {low:.3g} to {high:.3g}; undo the "
        "normalization (x * std + mean), or divide levels of 0 to 255 by 255"
    )


def _divided(x: NDArray[Any]) -> NDArray[np.float32]:
    return np.divide(np.ascontiguousarray(x, dtype=np.float32), np.float32(255))


def _whole(array: Any, n: int, at: str) -> NDArray[np.int64]:
    """Returns a list of n whole numbers."""
    if tuple(array.shape) == (n,):
        values = as_array(array, at)
        fraction = values.dtype.kind == "f" and bool((values != np.round(values)).any())
        if values.dtype.kind in "uif" and not fraction:
            return values.astype(np.int64)
    raise UserError(
        f"{at}: expected {n} whole numbers, one an image, found {type_of(array)} of shape "
        f"{tuple(array.shape)}; save x_adv alone, or these as integers"
    )


def n_held(data: DataSpec, root: Path | None) -> int:
    """Returns how many images a slice has, or from its offset on to the end."""
    if data.n_images is not None:
        return data.n_images
    return len(open_split(data.name, data.split, root).y) - data.offset


def slice_of(found: Examples, data: DataSpec, where: str, root: Path | None) -> Slice:
    """Returns the images of a data set that examples belong to.

    These are the file's own positions if it has any; otherwise the slice that was asked for, or as
    many images of it as there are examples.

    Args:
        found: The examples.
        data: The data set, and perhaps how it was sliced.
        where: Where the examples come from, for messages.
        root: Data root.

    Raises:
        UserError: When there are fewer images, or others are meant.
    """
    n, plain = len(found.x_adv), DataSpec(name=data.name, split=data.split)
    if found.index is not None and data == plain:
        asked = {"name": data.name, "split": data.split, "index": tuple(found.index.tolist())}
        return take_slice(check_spec(asked, DataSpec, f"{where}: positions"), root)
    if data.n_images not in (None, n):
        raise UserError(
            f"{where}: expected {data.n_images} images, as the slice of '{data.name}' has, found "
            f"{n}; leave out the limit, or give the slice that they were made from"
        )
    taken = take_slice(data.first(n), root)
    if found.index is not None and (found.index != taken.index).any():
        raise UserError(
            f"{where}: its positions are not those of the slice that was asked for; give the name "
            "of the data set alone, or save x_adv without positions"
        )
    return taken


def check_beside(found: Examples, data: Slice, where: str) -> Examples:
    """Checks examples against the images that they should belong to; returns them with notes.

    Raises:
        UserError: When number, labels or clean images are not the data's.
    """
    n = len(data.y)
    way_out = (
        "; they are of other images, in another order, or count classes otherwise: say which "
        "images, for example --data '{name: ..., offset: 100}', or an array 'index' of positions "
        "in the file, or --data npz:FILE with the images themselves"
    )
    if len(found.x_adv) != n:
        raise UserError(
            f"{where}: expected an example for each image, found {len(found.x_adv)} for {n} "
            "images; give the data that they were made from"
        )
    if found.labels is not None and (found.labels != data.y).any():
        wrong = np.flatnonzero(found.labels != data.y)
        i = int(wrong[0])
        raise UserError(
            f"{where}: its labels are not those of the data on {len(wrong)} of {n} images (image "
            f"{i}: {found.labels[i]}, in the data {data.y[i]}){way_out}. If they are no true "
            "labels, save x_adv alone"
        )
    notes = ("its labels are those of the data",) if found.labels is not None else ()
    if found.clean is not None:
        gap = np.abs(found.clean - data.x).reshape(n, -1).max(1)
        off = ~(gap <= LEVEL + 1e-6)  # torchattacks cuts levels off where it saves whole numbers
        if off.any():
            raise UserError(
                f"{where}: its clean images are not those of the data: {int(off.sum())} of {n} "
                f"differ by more than 1/255, by up to {gap.max():.2g}{way_out}"
            )
        notes = (*notes, f"its clean images are those of the data to {gap.max():.2g}")
    return replace(found, notes=(*found.notes, *notes))
