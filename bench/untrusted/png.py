"""Pictures that a store holds: PNG files of a sane size, before anything shows them."""

from __future__ import annotations

from io import BytesIO

from PIL import Image

from bench.core.errors import DAMAGED, words_of

MAX_SIDE = 4_096
_DAMAGED: tuple[type[Exception], ...] = (*DAMAGED, Image.DecompressionBombError)


def why_not_png(content: object) -> str:
    """Returns why bytes are no picture that is shown; empty if they are."""
    if not isinstance(content, bytes):
        return f"found {type(content).__name__}"
    try:
        with Image.open(BytesIO(content), formats=["PNG"]) as picture:
            if max(picture.size) > MAX_SIDE:
                return f"{picture.width}x{picture.height} pixels, more than {MAX_SIDE}"
            picture.load()
    except _DAMAGED as error:
        return words_of(error, 200)
    return ""
