"""Image files of a few safe formats and sane sizes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image

from bench.core.errors import READ_ERRORS, UserError, message_of

FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that are read, whatever a file is called. Pillow passes some others on to external
programs: PostScript to Ghostscript."""

MAX_PIXELS = 50_000_000
MAX_SIDE = 4_096
"""Of a picture in a store."""

_ERRORS: tuple[type[Exception], ...] = (*READ_ERRORS, Image.DecompressionBombError)


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Opens an image file; its pixels are decoded in the context.

    Raises:
        UserError: When the file is damaged, also if that shows only while decoding; of another
            format; or larger than ``MAX_PIXELS``.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width}x{image.height}, more than {MAX_PIXELS} pixels")
            yield image
    except _ERRORS as error:
        raise UserError(f"{path}: not a readable image ({error})") from None


def why_not_png(content: object) -> str:
    """Returns why bytes from a store are not shown as a picture; empty if they are a sane PNG."""
    if not isinstance(content, bytes):
        return f"found {type(content).__name__}"
    try:
        with Image.open(BytesIO(content), formats=["PNG"]) as picture:
            if max(picture.size) > MAX_SIDE:
                return f"{picture.width}x{picture.height} pixels, more than {MAX_SIDE}"
            picture.load()
    except _ERRORS as error:
        return message_of(error, 200)
    return ""
