"""What jobs need of the machine that sends them: checkpoints and images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache, singledispatch
from pathlib import Path
from typing import Any, TypeVar

import bench
from bench.core.cell import DataSpec
from bench.core.errors import UserError
from bench.run.analyses import AnalysisJob
from bench.run.job import Job
from bench.run.probing import ProbeJob
from bench.zoo import shipped_folder
from bench.zoo.checkpoint import CARD, WEIGHTS

J = TypeVar("J")


@dataclass(frozen=True)
class Needs:
    """What a job reads.

    Attributes:
        checkpoints: Folders of the checkpoints.
        slices: Images, each with the data root that they lie in.
    """

    checkpoints: frozenset[Path] = frozenset()
    slices: frozenset[tuple[DataSpec, Path | None]] = frozenset()

    def __or__(self, other: Needs) -> Needs:
        return Needs(self.checkpoints | other.checkpoints, self.slices | other.slices)


@singledispatch
def needs_of(job: object) -> Needs:
    """Returns what a job, or a tuple of jobs, reads."""
    raise TypeError(f"expected a job, found {type(job).__name__}")


@singledispatch
def moved(job: Any, checkpoints: Path) -> Any:
    """Returns a job, or a tuple of jobs, that finds its checkpoints in another folder."""
    raise TypeError(f"expected a job, found {type(job).__name__}")


@needs_of.register
def _(job: Job) -> Needs:
    spec = job.spec
    names = {spec.checkpoint} | ({spec.surrogate.checkpoint} if spec.surrogate else set())
    return Needs(_folders(names, job.checkpoints), frozenset({(spec.data, job.data_root)}))


@needs_of.register
def _(job: ProbeJob) -> Needs:
    folders = _folders([job.of.checkpoint], job.job.checkpoints)
    return Needs(folders, frozenset({(job.shown, job.job.data_root)}))


@needs_of.register
def _(job: AnalysisJob) -> Needs:
    folders = _folders((one.checkpoint for one in job.spec.subjects), job.checkpoints)
    return Needs(folders, frozenset({(job.spec.data, job.data_root)}))


def _folders(names: Iterable[str], checkpoints: Path) -> frozenset[Path]:
    """Returns the folders of checkpoints; a node resolves other URIs itself, and checks hashes."""
    found = (shipped_folder(name, checkpoints) for name in names)
    return frozenset(folder for folder in found if folder is not None)


@needs_of.register
def _(job: tuple) -> Needs:  # type: ignore[type-arg]
    found = Needs()
    for one in job:
        found |= needs_of(one)
    return found


@moved.register
def _(job: Job, checkpoints: Path) -> Job:
    return replace(job, checkpoints=checkpoints)


@moved.register
def _(job: ProbeJob, checkpoints: Path) -> ProbeJob:
    return replace(job, job=replace(job.job, checkpoints=checkpoints))


@moved.register
def _(job: AnalysisJob, checkpoints: Path) -> AnalysisJob:
    return replace(job, checkpoints=checkpoints)


@moved.register
def _(job: tuple, checkpoints: Path) -> tuple[Any, ...]:  # type: ignore[type-arg]
    return tuple(moved(one, checkpoints) for one in job)


def pack(folder: Path) -> dict[str, bytes]:
    """Returns the files of a checkpoint; those that are missing will be missed where it is used."""
    paths = (folder / name for name in (WEIGHTS, CARD))
    return {path.name: path.read_bytes() for path in paths if path.is_file()}


def unpack(files: dict[str, bytes], folder: Path) -> None:
    """Writes the files of a checkpoint; ``folder`` must be new."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


@lru_cache(maxsize=1)
def code_hash() -> str:
    """Returns what tells this package's code from any other."""
    root = Path(bench.__file__).parent
    hasher = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        hasher.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return hasher.hexdigest()[:16]


def check_code(expected: str, where: str) -> None:
    """Raises ``UserError`` on a machine whose rbench is another than the sender's."""
    if code_hash() != expected:
        raise UserError(
            f"rbench on {where} is another than here (code {code_hash()}, expected {expected}); "
            "install the same one on every node"
        )


def all_needs(jobs: Iterable[object]) -> Needs:
    """Returns what some jobs read together."""
    found = Needs()
    for job in jobs:
        found |= needs_of(job)
    return found
