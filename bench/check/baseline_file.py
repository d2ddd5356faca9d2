"""A baseline as a text file that is committed and reviewed.

JSON Lines: first a header with the suite and the versions that made it, a line for each checkpoint
and one for each set of images; then a line for each cell, sorted by model and attack. The file
changes only if a result or its identity does.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from pydantic import Field, ValidationError

from bench.check.record import Key, Record, Recording
from bench.core.cell import CellSpec
from bench.core.checkpoint import CheckpointFacts
from bench.core.errors import UserError, first_line, first_problem
from bench.core.result import Cluster
from bench.core.spec import Spec

VERSION = 1
"""Version of the file's layout."""

LARGEST = 200_000_000
"""Most bytes of a baseline."""

MOST = 20_000_000
"""Most numbers in a list: more than any data set has images."""

_PART = re.compile(r"([0-9]{1,12})(?:-([0-9]{1,12}))?")

S = TypeVar("S", bound=Spec)


def pack_runs(numbers: Sequence[int]) -> str:
    """Returns numbers >= 0 as text, for example ``"3 7 10-14"``, in the same order."""
    runs = itertools.groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
    parts = []
    for _, run in runs:
        values = [value for _, value in run]
        parts.append(str(values[0]) if len(values) == 1 else f"{values[0]}-{values[-1]}")
    return " ".join(parts)


def unpack_runs(text: str) -> tuple[int, ...]:
    """Inverts ``pack_runs``.

    Raises:
        ValueError: For any other text, and for more than ``MOST`` numbers.
    """
    ranges: list[range] = []
    for part in text.split():
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"expected numbers and runs such as 3 or 10-14, found '{part[:30]}'")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"expected an increasing run, found '{part}'")
        ranges.append(range(first, last + 1))
    if sum(map(len, ranges)) > MOST:
        raise ValueError(f"expected at most {MOST:,} numbers")
    return tuple(itertools.chain.from_iterable(ranges))


def pack_counts(counts: Sequence[int], most: int) -> str:
    """Returns counts from 0 to ``most`` as base64: a bit each if ``most`` is 1, else bytes."""
    if most == 1:
        raw = np.packbits(np.asarray(counts, dtype=np.uint8)).tobytes()
    else:
        raw = np.asarray(counts, dtype="<u1" if most < 256 else "<u4").tobytes()
    return base64.b64encode(raw).decode()


def unpack_counts(text: str, n: int, most: int) -> tuple[int, ...]:
    """Inverts ``pack_counts``.

    Raises:
        ValueError: When the text is not ``n`` counts from 0 to ``most``.
    """
    try:
        raw = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    except (binascii.Error, ValueError):
        raise ValueError("expected base64") from None
    expected = -(-n // 8) if most == 1 else n * (1 if most < 256 else 4)
    if raw.size != expected:
        raise ValueError(f"expected the scores of {n} images, found {raw.size} bytes")
    if most == 1:
        return tuple(np.unpackbits(raw)[:n].tolist())
    counts = raw.view("<u1" if most < 256 else "<u4")
    if n and int(counts.max()) > most:
        raise ValueError(f"expected at most {most} right draws, found {counts.max()}")
    return tuple(counts.tolist())


class _Head(Spec):
    rbench_baseline: int
    suite: str
    versions: tuple[str, ...] = ()


class _Checkpoint(Spec):
    checkpoint: str
    facts: CheckpointFacts


class _Images(Spec):
    images: str = Field(pattern=r"^[0-9a-f]{8,64}$")
    index: str


class _Cell(Spec):
    """A line about a cell, most important fields first."""

    model: str
    attack: str
    accuracy: float = Field(ge=0, le=1)
    n: int = Field(ge=1, le=MOST)
    alarms: tuple[str, ...] = ()
    kind: str
    cluster: Cluster
    passes: float = Field(default=0, ge=0)
    hits: str
    spec: CellSpec


def to_text(recording: Recording) -> str:
    """Returns a recording as the text of a baseline file.

    Raises:
        ValueError: When a cell's images are not in the order of its batches.
    """
    records = [recording.records[key] for key in sorted(recording.records)]
    used = {name for record in records for name in _named(record)}
    lines: list[dict[str, Any]] = [
        {
            "rbench_baseline": VERSION,
            "suite": recording.suite,
            "versions": list(recording.versions),
        }
    ]
    for name in sorted(used & set(recording.checkpoints)):
        facts = recording.checkpoints[name].model_dump(mode="json", exclude={"history"})
        lines.append({"checkpoint": name, "facts": facts})
    images = {record.spec.data_hash: record.index for record in records}
    for data_hash, index in sorted(images.items()):
        lines.append({"images": data_hash, "index": pack_runs(index)})
    lines += [_line(record, images) for record in records]
    return "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)


def _line(record: Record, images: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    size = record.spec.batch_size
    in_order = all(batch == i // size for i, batch in enumerate(record.batch))
    if not in_order or record.index != images[record.spec.data_hash]:
        raise ValueError(f"{record.model} / {record.attack}: its images are not in batch order")
    return {
        "model": record.model,
        "attack": record.attack,
        "accuracy": round(record.accuracy.value, 4),
        "n": len(record.index),
        "alarms": list(record.alarms),
        "kind": record.attack_kind,
        "cluster": record.cluster,
        "passes": round(record.passes, 1),
        "hits": pack_counts(record.hits, record.spec.n_draws),
        "spec": record.spec.model_dump(mode="json"),
    }


def _named(record: Record) -> Iterator[str]:
    yield record.spec.checkpoint
    if record.spec.surrogate is not None:
        yield record.spec.surrogate.checkpoint


def from_text(text: str, origin: str) -> Recording:
    """Reads a recording from the text of a baseline file.

    Args:
        text: The text.
        origin: Name of the file in errors.

    Raises:
        UserError: When it is not a baseline, damaged, or of another version.
    """
    # Only at line feeds: a label may contain other line separators, such as U+2028.
    lines = [(i, line) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise UserError(f"{origin}: empty; expected a baseline of `rbench baseline update`")
    head = _head(lines[0][1], origin)
    checkpoints: dict[str, CheckpointFacts] = {}
    images: dict[str, tuple[int, ...]] = {}
    records: dict[Key, Record] = {}
    for number, line in lines[1:]:
        where = f"{origin}:{number}"
        value = _parse(line, where)
        try:
            if "checkpoint" in value:
                one = _Checkpoint.model_validate(value)
                checkpoints[one.checkpoint] = one.facts
            elif "images" in value:
                some = _Images.model_validate(value)
                images[some.images] = unpack_runs(some.index)
                if sum(map(len, images.values())) > MOST:
                    raise ValueError(f"expected at most {MOST:,} images in all")
            else:
                record = _record(_Cell.model_validate(value), images)
                if record.key in records:
                    raise ValueError(f"{' / '.join(record.key)} occurs twice")
                records[record.key] = record
        except ValidationError as error:
            raise _damaged(where, first_problem(error, "the line")) from None
        except ValueError as error:
            raise _damaged(where, first_line(error)) from None
    return Recording(
        suite=head.suite,
        records=records,
        checkpoints=checkpoints,
        versions=head.versions,
        origin=origin,
    )


def _head(line: str, origin: str) -> _Head:
    value = _parse(line, f"{origin}:1")
    found = value.get("rbench_baseline")
    if type(found) is not int:  # a bool is an int
        raise UserError(
            f"{origin}: not a baseline; expected a first line with rbench_baseline, as `rbench "
            "baseline update` writes it"
        )
    if found != VERSION:
        advice = "upgrade rbench" if found > VERSION else "write it anew"
        raise UserError(f"{origin}: expected version {VERSION}, found {str(found)[:20]}; {advice}")
    try:
        return _Head.model_validate(value)
    except ValidationError as error:
        raise _damaged(f"{origin}:1", first_problem(error, "the line")) from None


def _parse(line: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
        # Refuses values that cannot be written again: NaN, half of a surrogate pair.
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise _damaged(where, f"not JSON ({first_line(error)})") from None
    if not isinstance(value, dict):
        raise _damaged(where, "expected an object")
    return value


def _record(cell: _Cell, images: dict[str, tuple[int, ...]]) -> Record:
    _ = cell.spec.cell_id  # raises for parameters that nest too deeply to be written again
    index = images.get(cell.spec.data_hash)
    if index is None or len(index) != cell.n:
        found = "none" if index is None else f"{len(index)}"
        raise ValueError(f"expected the positions of {cell.n} images above, found {found}")
    if len(set(index)) != len(index):
        raise ValueError("an image occurs twice")
    record = Record(
        model=cell.model,
        attack=cell.attack,
        spec=cell.spec,
        attack_kind=cell.kind,
        cluster=cell.cluster,
        index=index,
        batch=tuple(i // cell.spec.batch_size for i in range(cell.n)),
        hits=unpack_counts(cell.hits, cell.n, cell.spec.n_draws),
        alarms=tuple(sorted(set(cell.alarms))),
        passes=cell.passes,
    )
    if abs(record.accuracy.value - cell.accuracy) > 1e-4:
        raise ValueError(
            f"accuracy says {cell.accuracy}, the scores of its images say "
            f"{record.accuracy.value:.4f}: do not edit a baseline by hand"
        )
    return record


def _damaged(where: str, what: str) -> UserError:
    return UserError(
        f"{where}: damaged baseline: {what}; restore it from git, or write it anew with `rbench "
        "baseline update`"
    )


def differing(before: Iterable[str], now: Iterable[str]) -> list[str]:
    """Returns versions that are in only one of two sets, those of ``now`` last."""
    old, new = set(before), set(now)
    return [*sorted(old - new), *sorted(new - old)]
