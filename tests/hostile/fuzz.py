"""Mutates the real suites and cards, and reads them: each is taken or refused, nothing else.

``python tests/hostile/fuzz.py 20000`` reads so many of each kind and prints the counts.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from bench.core.cell import DataSpec
from bench.core.errors import UserError
from bench.core.paths import Where
from bench.run.prepare import local_lookup
from bench.suite.load import load_suite
from bench.suite.resolve import Lookup, SliceFacts
from bench.zoo import read_card

ROOT = Path(__file__).parents[2]
SLOW = 10.0
"""Seconds after which a file counts as one that hangs."""

WORDS = (
    *(
        "&a",
        "*a",
        "<<: *a",
        "!!python/object/apply:os.system [id]",
        "!!binary x",
        "? ",
        "- ",
        "---",
    ),
    *("null", "~", "off", ".nan", ".inf", "-.inf", "1e999", "9" * 400, "0x" + "f" * 300, "-1", "0"),
    *("1:59:59:59", "2024-99-99", "8/0", "1/3", "[", "]", "{", "}", ": ", "#", "'", '"', "|", ">"),
    *(
        "\t",
        "\x00",
        "\x85",
        "\u2028",
        "\ufeff",
        "\ud7ff",
        "\U0001f4a3",
        "é",
        '"\\ud800"',
        '"\\x1b"',
    ),
    *("../../etc/passwd", "/etc/passwd", "npz:/dev/null", "folder:/?size=9", "a" * 300, "each: "),
    *("models: ", "attacks: ", "reports: ", "params: ", "checkpoint: ", "label: ", "kind: "),
    *("model: ", "norm: ", "pool: ", "sha256: ", "recipe: ", "surrogate: ", "panels: ", "where: "),
)


def mutate(text: bytes, rng: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """Returns a file with one to four changes."""
    raw = text
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        raw = rng.choice(MUTATIONS)(raw, rng, others)
    return raw


def _flip(raw: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(raw) or 1)
    return raw[:at] + bytes([rng.randrange(256)]) + raw[at + 1 :]


def _insert(raw: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    at = rng.randint(0, len(raw))
    return raw[:at] + rng.choice(WORDS).encode("utf-8", "surrogatepass") + raw[at:]


def _delete(raw: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    at = rng.randint(0, len(raw))
    return raw[:at] + raw[at + rng.choice((1, 1, 2, 5, 20, 100)) :]


def _cut(raw: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    return raw[: rng.randint(0, len(raw))]


def _line(raw: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Drops, repeats, moves or indents a line, or takes one from another file."""
    lines = raw.split(b"\n")
    at, to = rng.randrange(len(lines)), rng.randint(0, len(lines))
    how = rng.randrange(5)
    if how == 0:
        del lines[at]
    elif how == 1:
        lines[to:to] = [lines[at]] * rng.choice((1, 1, 3, 50))
    elif how == 2:
        lines.insert(min(to, len(lines) - 1), lines.pop(at))
    elif how == 3:
        lines[at] = b" " * rng.randint(1, 4) + lines[at]
    elif others:
        lines.insert(to, rng.choice(rng.choice(others).split(b"\n")))
    return b"\n".join(lines)


def _value(raw: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    """Replaces what stands after a colon."""
    lines = raw.split(b"\n")
    at = rng.randrange(len(lines))
    key, colon, _old = lines[at].partition(b": ")
    if colon:
        lines[at] = key + colon + rng.choice(WORDS).encode("utf-8", "surrogatepass")
    return b"\n".join(lines)


def _nest(raw: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    at, depth = rng.randint(0, len(raw)), rng.choice((1, 3, 19, 21, 500))
    opened, closed = rng.choice(((b"[", b"]"), (b"{a: ", b"}"), (b"- ", b"")))
    return raw[:at] + opened * depth + closed * depth + raw[at:]


MUTATIONS: tuple[Callable[[bytes, random.Random, Sequence[bytes]], bytes], ...] = (
    *(_flip, _flip, _insert, _insert, _delete, _cut, _line, _line, _value, _value, _nest),
)


def quick_lookup() -> Lookup:
    """The real lookup, which looks at no images and remembers the cards that it read."""
    real = local_lookup(Where(ROOT / "checkpoints"))

    def images(data: DataSpec) -> SliceFacts:
        return SliceFacts(data.limit or 10_000, "0" * 64)

    return replace(real, images=images, checkpoint=cache(real.checkpoint))


def suite_files() -> list[Path]:
    return sorted((ROOT / "suites").rglob("*.yaml"))


def card_files() -> list[Path]:
    return sorted((ROOT / "checkpoints").glob("*/card.yaml"))


def suite_reader() -> Callable[[Path], object]:
    lookup = quick_lookup()
    return lambda path: load_suite(path, lookup, skip_missing=True)


def fuzz(
    read: Callable[[Path], object], files: Sequence[Path], count: int, seed: int
) -> tuple[Counter[str], list[str]]:
    """Reads mutated files.

    Returns:
        How many were ``parsed``, ``refused`` and neither (``other``), and what the others were.
    """
    rng = random.Random(seed)
    originals = [path.read_bytes() for path in files]
    counts: Counter[str] = Counter(parsed=0, refused=0, other=0)
    others: list[str] = []
    folder = Path(tempfile.mkdtemp())
    path = folder / "fuzzed.yaml"
    try:
        for number in range(count):
            content = mutate(rng.choice(originals), rng, originals)
            path.write_bytes(content)
            started = time.monotonic()
            try:
                read(path)
                counts["parsed"] += 1
            except UserError as error:
                counts["refused" if str(path) in str(error) else "other"] += 1
                if str(path) not in str(error):
                    others.append(f"case {number} of seed {seed}: no file in {error}")
            except Exception as error:  # what is looked for
                counts["other"] += 1
                others.append(f"case {number} of seed {seed}: {type(error).__name__}: {error}")
            if time.monotonic() - started > SLOW:
                counts["other"] += 1
                others.append(f"case {number} of seed {seed}: slow")
    finally:
        shutil.rmtree(folder)
    return counts, others


def parsers() -> dict[str, tuple[Callable[[Path], object], Sequence[Path]]]:
    """Returns what is fuzzed: how each kind of file is read, and the files to begin with."""
    return {"suites": (suite_reader(), suite_files()), "cards": (read_card, card_files())}


def main(count: int, seed: int = 0) -> int:
    """Fuzzes both parsers with ``count`` files each; returns 1 where one was neither."""
    failed = 0
    for name, (read, files) in parsers().items():
        started = time.monotonic()
        counts, others = fuzz(read, files, count, seed)
        print(f"{name}: {dict(counts)} from {len(files)} files, {time.monotonic() - started:.0f} s")
        for line in others[:20]:
            print(f"  {line[:500]}")
        failed |= bool(others)
    return failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    raise SystemExit(main(given.count, given.seed))
