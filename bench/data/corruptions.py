"""Common corruptions of images, with CIFAR-10-C's constants, and the published files themselves.

Source: Hendrycks & Dietterich 2019, https://arxiv.org/abs/1903.12261, section 3 and appendix; the
constants are those with which CIFAR-10-C was made (https://zenodo.org/records/2535967). They are
for images of 32 x 32 pixels; other sizes take them as they are.

The corruptions are made from numpy, scipy.ndimage and Pillow. They draw other random numbers than
CIFAR-10-C did, and differ from it in small ways: motion blur is a half Gaussian along a line
(CIFAR-10-C used ImageMagick's), resampling is scipy's. ``frost`` lays photographs over an image and
``spatter`` needs the edge and distance maps of OpenCV, so both are read from CIFAR-10-C's files
only. Numbers to set beside published ones are those of the files.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import UserError
from bench.data.roots import data_root, locate
from bench.untrusted.archives import open_npy

Image = NDArray[np.float64]
"""Pixels (h, w, c) in [0, 1]."""

Common = Literal[
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
]
Extra = Literal["speckle_noise", "gaussian_blur", "spatter", "saturate"]
CorruptionName = Literal[Common, Extra]

COMMON: tuple[Common, ...] = get_args(Common)
"""The 15 corruptions of the benchmark, over which mean corruption accuracy is taken."""
EXTRA: tuple[Extra, ...] = get_args(Extra)
"""The four that the authors set apart for validation."""
SEVERITIES = (1, 2, 3, 4, 5)

FILES_ONLY = {
    "frost": "lays photographs of frost over an image, which do not come with rbench",
    "spatter": "needs OpenCV's edge and distance maps",
}


@dataclass(frozen=True)
class _Corruption:
    """How a corruption is made: its function, its constant at each severity, and its colours."""

    make: Callable[[Image, Any, np.random.Generator], Image]
    constants: tuple[Any, ...]
    needs_colour: bool = False


def corrupt(
    x: NDArray[np.float32], name: CorruptionName, severity: int, seed: int
) -> NDArray[np.float32]:
    """Returns a corrupted image, rounded to 8 bits as the published ones are.

    Args:
        x: Pixels (c, h, w) in [0, 1], c = 1 or 3.
        name: The corruption.
        severity: 1 to 5.
        seed: Of all that is random in it.

    Raises:
        UserError: For a corruption that is read from files only, or one of colours on a gray image.
    """
    if name in FILES_ONLY:
        raise UserError(
            f"{name} {FILES_ONLY[name]}; give the corruption's params folder: CIFAR-10-C, the "
            "folder of the published files"
        )
    found = _CORRUPTIONS[name]
    if found.needs_colour and len(x) != 3:
        raise UserError(f"{name} changes colours, and the image is gray; leave it out")
    image = np.moveaxis(np.asarray(x, np.float64), 0, -1)
    made = found.make(image.copy(), found.constants[severity - 1], np.random.default_rng(seed))
    levels = np.floor(np.clip(made, 0, 1) * 255 + 1e-6)
    return np.ascontiguousarray(np.moveaxis(levels, -1, 0) / 255, np.float32)


def _gaussian_noise(x: Image, scale: float, rng: np.random.Generator) -> Image:
    return x + rng.normal(0, scale, x.shape)


def _shot_noise(x: Image, photons: float, rng: np.random.Generator) -> Image:
    return np.asarray(rng.poisson(x * photons) / photons, np.float64)


def _impulse_noise(x: Image, share: float, rng: np.random.Generator) -> Image:
    """Sets a share of the values to 0 or 1, equally often."""
    hit, salt = rng.random(x.shape) < share, rng.random(x.shape) < 0.5
    return np.where(hit, salt.astype(np.float64), x)


def _speckle_noise(x: Image, scale: float, rng: np.random.Generator) -> Image:
    return x + x * rng.normal(0, scale, x.shape)


def _blurred(x: Image, sigma: float) -> Image:
    from scipy import ndimage

    return np.asarray(ndimage.gaussian_filter(x, (sigma, sigma, 0), mode="nearest"), np.float64)


def _gaussian_blur(x: Image, sigma: float, rng: np.random.Generator) -> Image:
    return _blurred(x, sigma)


def _glass_blur(x: Image, how: tuple[float, int, int], rng: np.random.Generator) -> Image:
    """Blurs, swaps pixels with near ones, and blurs again, as seen through frosted glass."""
    sigma, reach, rounds = how
    x = np.floor(_blurred(x, sigma) * 255) / 255
    height, width = x.shape[:2]
    for _ in range(rounds):
        for i in range(height - reach, reach, -1):
            for j in range(width - reach, reach, -1):
                down, right = rng.integers(-reach, reach, 2)
                there = (min(i + down, height - 1), min(j + right, width - 1))
                here = (min(i, height - 1), min(j, width - 1))
                x[here], x[there] = x[there].copy(), x[here].copy()
    return _blurred(x, sigma)


def _defocus_blur(x: Image, how: tuple[float, float], rng: np.random.Generator) -> Image:
    """Averages over a disk whose edge is smoothed by a Gaussian of three pixels."""
    from scipy import ndimage

    radius, edge = how
    at = np.arange(-8, 9)
    disk = (at[:, None] ** 2 + at[None] ** 2 <= radius**2).astype(np.float64)
    taps = np.exp(-np.array([1.0, 0.0, 1.0]) / (2 * edge**2))
    taps /= taps.sum()
    kernel = ndimage.convolve(disk / disk.sum(), taps[:, None] * taps[None], mode="constant")
    return np.asarray(ndimage.convolve(x, kernel[..., None], mode="mirror"), np.float64)


def _moved(x: Image, radius: int, sigma: float, degrees: float) -> Image:
    """Averages an image with itself moved along a line, with weights that fall like a Gaussian."""
    from scipy import ndimage

    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    angle, found = math.radians(degrees), np.zeros_like(x)
    for step, weight in zip(steps, weights, strict=True):
        if weight > 1e-4:
            move = (step * math.sin(angle), step * math.cos(angle), 0.0)
            found += weight * ndimage.shift(x, move, order=1, mode="nearest")
    return np.asarray(found / weights[weights > 1e-4].sum(), np.float64)


def _motion_blur(x: Image, how: tuple[int, float], rng: np.random.Generator) -> Image:
    return _moved(x, *how, degrees=rng.uniform(-45, 45))


def _zoomed(x: Image, factor: float) -> Image:
    """Returns the middle of an image, enlarged by a factor to the image's size."""
    from scipy import ndimage

    if factor == 1:
        return x
    height, width = x.shape[:2]
    rows, columns = math.ceil(height / factor), math.ceil(width / factor)
    top, left = (height - rows) // 2, (width - columns) // 2
    part = x[top : top + rows, left : left + columns]
    large = ndimage.zoom(part, (factor, factor, 1), order=1)
    top, left = max(0, (len(large) - height) // 2), max(0, (large.shape[1] - width) // 2)
    large = large[top : top + height, left : left + width]
    room = ((0, height - len(large)), (0, width - large.shape[1]), (0, 0))
    return np.asarray(np.pad(large, room, mode="edge"), np.float64)


def _zoom_blur(x: Image, last: float, rng: np.random.Generator) -> Image:
    """Averages the image with itself enlarged by 1.00, 1.01, ... up to a factor."""
    factors = [1 + step / 100 for step in range(round(100 * (last - 1)) + 1)]
    return (x + sum(_zoomed(x, factor) for factor in factors)) / (len(factors) + 1)


def _snow(
    x: Image, how: tuple[float, float, float, float, int, float, float], rng: np.random.Generator
) -> Image:
    """Whitens the image and lets flakes fall from two sides."""
    mean, scale, factor, least, radius, sigma, keep = how
    flakes = _zoomed(rng.normal(mean, scale, (*x.shape[:2], 1)), factor)
    flakes = np.clip(np.where(flakes < least, 0, flakes), 0, 1)
    flakes = _moved(flakes, radius, sigma, degrees=rng.uniform(-135, -45))
    gray = x if x.shape[2] == 1 else (x @ np.array([0.299, 0.587, 0.114]))[..., None]
    white = keep * x + (1 - keep) * np.maximum(x, 1.5 * gray + 0.5)
    return white + flakes + np.rot90(flakes, 2)


def _clouds(size: int, decay: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Returns a periodic fractal height map (size, size) in [0, 1] by midpoint displacement.

    Diamond-square: Fournier, Fussell & Carpenter 1982. ``size`` is a power of two. The square of
    ``decay`` divides the displacement at each halving of the step, as it does in CIFAR-10-C.
    """
    heights, spread, step = np.zeros((size, size)), 1.0, size

    def between(*corners: NDArray[np.float64]) -> NDArray[np.float64]:
        mean = np.mean(corners, axis=0)
        return np.asarray(mean + rng.uniform(-spread, spread, mean.shape), np.float64)

    while step > 1:
        half = step // 2
        grid = heights[::step, ::step]
        right, below = np.roll(grid, -1, 1), np.roll(grid, -1, 0)
        heights[half::step, half::step] = between(grid, right, below, np.roll(right, -1, 0))
        grid, middle = heights[::step, ::step], heights[half::step, half::step]
        right, below = np.roll(grid, -1, 1), np.roll(grid, -1, 0)
        heights[::step, half::step] = between(grid, right, middle, np.roll(middle, 1, 0))
        heights[half::step, ::step] = between(grid, below, middle, np.roll(middle, 1, 1))
        step, spread = half, spread / decay**2
    heights -= heights.min()
    return np.asarray(heights / heights.max(), np.float64)


def _fog(x: Image, how: tuple[float, float], rng: np.random.Generator) -> Image:
    density, decay = how
    height, width = x.shape[:2]
    size = 1 << max(1, math.ceil(math.log2(max(height, width))))
    top = x.max()
    x = x + density * _clouds(size, decay, rng)[:height, :width, None]
    return np.asarray(x * top / (top + density), np.float64)


def _in_hsv(x: Image, change: Callable[[Image], None]) -> Image:
    """Changes an image's hue, saturation and value in place."""
    from matplotlib.colors import hsv_to_rgb, rgb_to_hsv

    hsv = np.asarray(rgb_to_hsv(np.clip(x, 0, 1)), np.float64)
    change(hsv)
    return np.asarray(hsv_to_rgb(hsv), np.float64)


def _brightness(x: Image, more: float, rng: np.random.Generator) -> Image:
    if x.shape[2] == 1:
        return x + more

    def brighten(hsv: Image) -> None:
        hsv[..., 2] = np.clip(hsv[..., 2] + more, 0, 1)

    return _in_hsv(x, brighten)


def _saturate(x: Image, how: tuple[float, float], rng: np.random.Generator) -> Image:
    def saturate(hsv: Image) -> None:
        hsv[..., 1] = np.clip(hsv[..., 1] * how[0] + how[1], 0, 1)

    return _in_hsv(x, saturate)


def _contrast(x: Image, factor: float, rng: np.random.Generator) -> Image:
    mean = x.mean((0, 1), keepdims=True)
    return np.asarray((x - mean) * factor + mean, np.float64)


def _elastic_transform(
    x: Image, how: tuple[float, float, float], rng: np.random.Generator
) -> Image:
    """Moves three points of the image, and then each pixel along a smooth random field.

    The three numbers are shares of the image's width: of the field's size, its smoothness, and of
    how far the points move.
    """
    from scipy import ndimage

    height, width = x.shape[:2]
    size, smooth, move = (width * share for share in how)
    middle, third = np.array([height // 2, width // 2]), min(height, width) // 3
    points = middle + third * np.array([[1, 1], [-1, 1], [-1, -1]])
    moved = points + rng.uniform(-move, move, (3, 2))
    # The image at ``moved`` is the one at ``points``: solve for the map from the former to the
    # latter.
    system = np.concatenate([moved, np.ones((3, 1))], 1)
    linear = np.linalg.solve(system, points).T
    at = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"))
    source = np.tensordot(linear[:, :2], at, 1) + linear[:, 2, None, None]
    warped = _sampled(x, source)
    fields = [
        size * ndimage.gaussian_filter(rng.uniform(-1, 1, (height, width)), smooth, truncate=3)
        if size
        else np.zeros((height, width))
        for _ in range(2)
    ]
    return _sampled(warped, at + np.stack(fields))


def _sampled(x: Image, at: NDArray[np.float64]) -> Image:
    """Returns an image at positions (2, h, w), linearly between pixels, mirrored beyond edges."""
    from scipy import ndimage

    channels = [
        ndimage.map_coordinates(x[..., k], at, order=1, mode="mirror") for k in range(x.shape[2])
    ]
    return np.stack(channels, -1)


def _through_pillow(x: Image, change: Callable[[Any], Any]) -> Image:
    """Changes an image as a Pillow image of 8 bits."""
    from PIL import Image as pillow  # noqa: N813

    levels = np.round(np.clip(x, 0, 1) * 255).astype(np.uint8)
    changed = np.asarray(change(pillow.fromarray(levels[..., 0] if x.shape[2] == 1 else levels)))
    return changed.reshape(x.shape) / 255


def _pixelate(x: Image, share: float, rng: np.random.Generator) -> Image:
    height, width = x.shape[:2]

    def change(image: Any) -> Any:
        from PIL.Image import Resampling

        small = image.resize((int(width * share), int(height * share)), Resampling.BOX)
        return small.resize((width, height), Resampling.BOX)

    return _through_pillow(x, change)


def _jpeg_compression(x: Image, quality: int, rng: np.random.Generator) -> Image:
    def change(image: Any) -> Any:
        from PIL import Image as pillow  # noqa: N813

        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return pillow.open(file)

    return _through_pillow(x, change)


_CORRUPTIONS: Mapping[str, _Corruption] = {
    "gaussian_noise": _Corruption(_gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot_noise": _Corruption(_shot_noise, (500, 250, 100, 75, 50)),
    "impulse_noise": _Corruption(_impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07)),
    "speckle_noise": _Corruption(_speckle_noise, (0.06, 0.1, 0.12, 0.16, 0.2)),
    "gaussian_blur": _Corruption(_gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1)),
    "glass_blur": _Corruption(
        _glass_blur, ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))
    ),
    "defocus_blur": _Corruption(
        _defocus_blur, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))
    ),
    "motion_blur": _Corruption(_motion_blur, ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))),
    "zoom_blur": _Corruption(_zoom_blur, (1.05, 1.10, 1.15, 1.20, 1.25)),
    "snow": _Corruption(
        _snow,
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
    ),
    "fog": _Corruption(_fog, ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))),
    "brightness": _Corruption(_brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": _Corruption(_contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "saturate": _Corruption(
        _saturate, ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)), needs_colour=True
    ),
    "elastic_transform": _Corruption(
        _elastic_transform,
        ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
    ),
    "pixelate": _Corruption(_pixelate, (0.95, 0.9, 0.85, 0.75, 0.65)),
    "jpeg_compression": _Corruption(_jpeg_compression, (80, 65, 58, 50, 40)),
}


@dataclass(frozen=True, eq=False)
class Published:
    """The images of one published corruption at one severity; pixels stay on disk until taken.

    Attributes:
        path: The file.
        x: uint8 (n, h, w, c), in the order of the test split.
        y: Labels (n,).
    """

    path: Path
    x: NDArray[np.uint8]
    y: NDArray[np.int64]

    def sha256(self) -> str:
        """Returns the sha256 of pixels and labels."""
        hasher = hashlib.sha256(np.ascontiguousarray(self.x).data)
        hasher.update(np.ascontiguousarray(self.y, "<i8").data)
        return hasher.hexdigest()

    def take(self, index: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns the corrupted images (b, c, h, w), in [0, 1], at positions of the test split.

        Args:
            index: Positions (b,).
            y: Labels (b,) of the clean images, which must be those of the file.

        Raises:
            UserError: When the file holds other images than the clean ones.
        """
        if len(index) and index.max() >= len(self.x):
            raise UserError(
                f"{self.path}: expected an image at position {index.max()}, found {len(self.x)} "
                "images of this severity; take the test split that the file was made from"
            )
        if (self.y[index] != y).any():
            at = int(index[np.flatnonzero(self.y[index] != y)[0]])
            raise UserError(
                f"{self.path.parent}: its labels are not those of the images, first at position "
                f"{at}; the data must be the whole test split in its own order, as the published "
                "files have it"
            )
        images = np.moveaxis(np.asarray(self.x[index]), -1, 1)
        return np.ascontiguousarray(images, np.float32) / np.float32(255)


def read_published(folder: str, name: str, severity: int) -> Published:
    """Opens a published corruption, such as ``CIFAR-10-C/fog.npy``, at one severity.

    The file holds uint8 images (5 n, h, w, 3): those of severity 1 first, each in the order of the
    test split. ``labels.npy`` beside it holds their 5 n labels.

    Args:
        folder: As given, or under the data root.
        name: The corruption.
        severity: 1 to 5.

    Raises:
        UserError: When a file is missing or of another form.
    """
    place = locate(folder, "test", data_root())
    x, y = _read_npy(place / f"{name}.npy"), _read_npy(place / "labels.npy")
    if x.ndim != 4 or x.dtype != np.uint8 or not len(x) or len(x) % len(SEVERITIES):
        raise UserError(
            f"{place / name}.npy: expected uint8 images (5 n, h, w, c), n of each severity, found "
            f"{x.dtype} {x.shape}"
        )
    if y.shape != x.shape[:1] or y.dtype.kind not in "iu":
        raise UserError(
            f"{place / 'labels.npy'}: expected {len(x)} whole numbers, one for each image, found "
            f"{y.dtype} {y.shape}"
        )
    n = len(x) // len(SEVERITIES)
    rows = slice((severity - 1) * n, severity * n)
    return Published(place / f"{name}.npy", x[rows], np.asarray(y[rows], np.int64))


def _read_npy(path: Path) -> NDArray[Any]:
    try:
        return open_npy(path)
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file; give params folder as the folder of the published files, such "
            "as CIFAR-10-C with gaussian_noise.npy and labels.npy, here or under RBENCH_DATA"
        ) from None
