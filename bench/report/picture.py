"""Pictures that a store holds: PNG files of a sane size, before anything shows them."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

from PIL import Image

MAX_SIDE = 4_096


def why_not_png(content: object) -> str:
    """Returns why bytes are no picture that is shown; empty if they are."""
    if not isinstance(content, bytes):
        return f"found {type(content).__name__}"
    try:
        with Image.open(BytesIO(content), formats=["PNG"]) as picture:
            if max(picture.size) > MAX_SIDE:
                return f"{picture.width}x{picture.height} pixels, more than {MAX_SIDE}"
            picture.load()
    except (
        ArithmeticError,
        EOFError,
        Image.DecompressionBombError,
        LookupError,
        OSError,
        SyntaxError,
        TypeError,
        ValueError,
        struct.error,
        zlib.error,
    ) as error:
        return " ".join(str(error).split())[:200]
    return ""
