"""What reading a damaged file ends in."""

from __future__ import annotations

import struct
import zlib

DAMAGED: tuple[type[Exception], ...] = (
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What readers of pictures and archives raise where bytes are damaged, or made to be; each reader
adds what is its library's own."""
