"""Image folders: one sub-folder per class; images are decoded only when needed.

``folder:PATH`` requires images of one size; ``folder:PATH?size=N`` resizes the shorter side
of every image to N and crops the centre.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.core.errors import UserError
from bench.core.model_spec import MAX_SIZE, Size, as_size, height_width, size_text
from bench.data.images import Dataset, Images, own_dataset
from bench.data.roots import locate, missing
from bench.untrusted.pictures import open_image

EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
IMAGENET_CLASSES = 1000
_SIZE = re.compile(r"^(?P<path>.*)\?size=(?P<size>[0-9]+)$")
_GRAY_MODES = ("1", "L")
_COLOUR_MODES = ("P", "RGB", "RGBA", "LA", "CMYK", "YCbCr")
_IMAGENET_FOLDERS = {"test": "val", "train": "train"}
_IMAGENET_REMEDY = (
    "it cannot be downloaded freely: register at https://www.image-net.org, fetch "
    "ILSVRC2012_img_val.tar (6.3 GB), and place the images as ROOT/val/<wnid>/*.JPEG, one folder "
    "for each of the 1000 classes (torchvision's layout), where ROOT is --data-root or RBENCH_DATA"
)


@dataclass(frozen=True)
class Geometry:
    """How an image file becomes an array.

    Attributes:
        channels: 1 or 3.
        size: Height and width of the result, as one number where they are equal.
        resize: Length of the shorter side before the centre is cropped; ``None`` requires images of
            the right size.
    """

    channels: int
    size: Size
    resize: int | None = None


@dataclass(frozen=True, eq=False)
class FileImages:
    """A split whose images are decoded from their files when taken.

    Attributes:
        paths: One file per image.
        y: Labels (n,), int64.
        class_names: Sub-folder names, sorted; a label is a position in it.
        geometry: Of the decoded images.
    """

    paths: tuple[Path, ...]
    y: NDArray[np.int64]
    class_names: tuple[str, ...]
    geometry: Geometry

    def take(self, index: NDArray[np.int64]) -> Images:
        """Decodes the images at the given positions into uint8 (n, c, h, w).

        Raises:
            UserError: When a file is damaged or does not fit the geometry, or the images do not
                fit into memory.
        """
        g = self.geometry
        try:
            x = np.empty((len(index), g.channels, *height_width(g.size)), np.uint8)
        except MemoryError:
            raise UserError(
                f"{len(index)} images of {size_text(g.size)} pixels do not fit into memory; "
                "set a limit"
            ) from None
        with ThreadPoolExecutor() as pool:
            decoded = pool.map(partial(decode, geometry=g), (self.paths[i] for i in index))
            for row, image in enumerate(decoded):
                x[row] = image
        return Images(x, self.y[index])


def read_image(path: Path, channels: int) -> Image.Image:
    """Decodes an image file at its own size, in mode ``L`` for 1 channel and ``RGB`` for 3.

    Raises:
        UserError: When the file is damaged, too deep (16 bits), or in colour where gray was
            expected.
    """
    with open_image(path) as image:
        if image.mode not in _GRAY_MODES + _COLOUR_MODES:
            raise UserError(f"{path}: expected an 8-bit image, found mode {image.mode}")
        if channels == 1 and image.mode not in _GRAY_MODES:
            raise UserError(
                f"{path}: expected a gray image like the first one of its folder, found mode "
                f"{image.mode}; store all as RGB or all as gray"
            )
        return image.convert("L" if channels == 1 else "RGB")


def decode(path: Path, geometry: Geometry) -> NDArray[np.uint8]:
    """Decodes an image file into uint8 (c, h, w).

    Resizing is bilinear with antialiasing, then the centre is cropped, as the usual ImageNet
    evaluation does (Krizhevsky et al. 2012, section 4.1, takes 256 and then 224).

    Raises:
        UserError: When the file is damaged, too deep (16 bits), in colour where gray was
            expected, or of another size without a ``resize``.
    """
    plain = read_image(path, geometry.channels)
    height, width = height_width(geometry.size)
    if geometry.resize is None:
        if plain.size != (width, height):
            raise UserError(
                f"{path}: expected {width}x{height} pixels like the first image, "
                f"found {plain.width}x{plain.height}; add ?size=N to resize and crop every image"
            )
    else:
        plain = _resize_and_crop(plain, geometry.resize, height)
    pixels = np.asarray(plain, np.uint8)
    return pixels[None] if geometry.channels == 1 else pixels.transpose(2, 0, 1)


def _resize_and_crop(image: Image.Image, resize: int, size: int) -> Image.Image:
    short = min(image.size)
    width, height = (int(resize * side / short) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def open_folder(name: str, path: str, root: Path) -> Dataset:
    """Opens ``folder:PATH`` or ``folder:PATH?size=N``; its sub-folders are the classes."""
    match = _SIZE.match(path)
    if match and len(match["size"]) > len(str(MAX_SIZE)):
        raise UserError(f"data set '{name[:100]}': expected a size of at most {MAX_SIZE}")
    size = int(match["size"]) if match else None
    plain = match["path"] if match else path
    if size == 0:
        raise UserError(f"data set '{name}': expected a size of at least 1, found 0")
    test = scan_folder(locate(plain, "test", root), Geometry(3, size, size) if size else None)

    def load_train() -> FileImages:
        train = scan_folder(locate(plain, "train", root), test.geometry)
        if train.class_names != test.class_names:
            raise UserError(
                f"{name}: expected the same class folders in train as in test, found "
                f"{len(train.class_names)} and {len(test.class_names)} with different names; a "
                "label is the position among the sorted names"
            )
        return train

    names, g = test.class_names, test.geometry
    return own_dataset(name, plain, len(names), g.channels, g.size, names, test, load_train)


def scan_folder(folder: Path, geometry: Geometry | None = None) -> FileImages:
    """Lists ``FOLDER/<class>/<image>`` without decoding; classes and files sorted by name.

    Names are compared by code point, so the order does not depend on the locale. Hidden folders
    and files other than images are skipped; a class may be empty.

    Args:
        folder: Holds one sub-folder per class.
        geometry: Of the decoded images; ``None`` takes it from the first image.

    Raises:
        UserError: When the folder or its images are missing.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected one sub-folder per class")
    names = tuple(
        sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    )
    paths: list[Path] = []
    counts: list[int] = []
    for name in names:
        found = sorted(p for p in (folder / name).iterdir() if p.suffix.lower() in EXTENSIONS)
        paths.extend(found)
        counts.append(len(found))
    if not paths:
        raise UserError(f"{folder}: no images; expected {folder}/CLASS/IMAGE.png or .jpg")
    y = np.repeat(np.arange(len(names), dtype=np.int64), counts)
    return FileImages(tuple(paths), y, names, geometry or _geometry_of(paths[0]))


def _geometry_of(path: Path) -> Geometry:
    with open_image(path) as image:
        (width, height), mode = image.size, image.mode
    return Geometry(1 if mode in _GRAY_MODES else 3, as_size(height, width))


def load_imagenet(split: str, root: Path) -> FileImages:
    """Lists ImageNet from ``ROOT/val/<wnid>`` or ``ROOT/imagenet/val/<wnid>``.

    ``test`` is the validation split, as is usual; ``train`` is in ``train``. Images are resized to
    256 on the shorter side and cropped to 224 when they are taken.

    Raises:
        UserError: When the folder is missing, or does not have the 1000 class folders that
            determine the labels.
    """
    part = _IMAGENET_FOLDERS[split]
    looked = [root / part, root / "imagenet" / part]
    for folder in looked:
        if folder.is_dir():
            images = scan_folder(folder, Geometry(3, 224, 256))
            if len(images.class_names) != IMAGENET_CLASSES:
                raise UserError(
                    f"{folder}: expected {IMAGENET_CLASSES} class folders, found "
                    f"{len(images.class_names)}; a label is the position among all 1000 sorted "
                    "wnids, so leave the folders of absent classes there, empty"
                )
            return images
    raise missing("imagenet", split, looked, _IMAGENET_REMEDY)


def imagenet_remedy() -> str:
    """Returns instructions to obtain ImageNet and place its files."""
    return _IMAGENET_REMEDY
