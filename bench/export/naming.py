"""Names of exported files, from labels that may hold anything."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence


def file_stems(labels: Sequence[str]) -> list[str]:
    """Returns a name for each label, without an ending: plain letters, and no two alike."""
    stems: list[str] = []
    for label in labels:
        plain = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode()
        stem = re.sub(r"[^A-Za-z0-9]+", "-", plain).strip("-")[:80] or "model"
        taken = {name.lower() for name in stems}
        number = 2
        unique = stem
        while unique.lower() in taken:
            unique, number = f"{stem}-{number}", number + 1
        stems.append(unique)
    return stems
