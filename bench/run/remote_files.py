"""Checkpoints and images that jobs on another machine need, and the check that its code is ours."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import bench
from bench.core.cell import DataSpec
from bench.core.errors import UserError
from bench.core.paths import Where
from bench.zoo import shipped_folder
from bench.zoo.checkpoint import CARD, WEIGHTS


@dataclass(frozen=True)
class RayCluster:
    """A Ray cluster, and what a chunk of a run takes of it.

    Attributes:
        address: As ``ray.init`` takes it: ``auto``, ``host:port``, ``ray://...``; ``None`` starts
            Ray on this machine.
        cpus: Cores a chunk takes, at least 1; it runs as many threads.
        gpus: GPUs a chunk takes; 0.5 puts two chunks on one.
    """

    address: str | None = None
    cpus: float = 1
    gpus: float = 0


class RemoteJob(Protocol):
    """A job that can be sent to another machine: a frozen dataclass with these fields."""

    @property
    def where(self) -> Where:
        """Where it finds its checkpoints and images."""

    @property
    def model_names(self) -> tuple[str, ...]:
        """Names or URIs of the models that it opens."""

    @property
    def data(self) -> DataSpec:
        """The images that it reads."""


@dataclass(frozen=True)
class Inputs:
    """The files that jobs read.

    Attributes:
        checkpoints: Folders of checkpoints. Other models are resolved on each machine, by URI.
        slices: Images, each with its data root.
    """

    checkpoints: frozenset[Path] = frozenset()
    slices: frozenset[tuple[DataSpec, Path | None]] = frozenset()


def inputs_of(tasks: Iterable[object]) -> Inputs:
    """Returns the files that tasks read; a task is a job, or a tuple of jobs."""
    jobs: list[RemoteJob] = [job for task in tasks for job in _jobs(task)]
    named = [(name, job.where.checkpoints) for job in jobs for name in job.model_names]
    folders = (shipped_folder(name, root) for name, root in dict.fromkeys(named))
    return Inputs(
        frozenset(folder for folder in folders if folder is not None),
        frozenset((job.data, job.where.data_root) for job in jobs),
    )


def with_checkpoints_in(task: Any, folder: Path) -> Any:
    """Returns a job, or a tuple of jobs, that finds its checkpoints in another folder."""
    if isinstance(task, tuple):
        return tuple(with_checkpoints_in(job, folder) for job in task)
    return replace(task, where=replace(task.where, checkpoints=folder))


def _jobs(task: Any) -> tuple[Any, ...]:
    return task if isinstance(task, tuple) else (task,)


def pack(folder: Path) -> dict[str, bytes]:
    """Returns the files of a checkpoint; one that is missing is reported where it is opened."""
    paths = (folder / name for name in (WEIGHTS, CARD))
    return {path.name: path.read_bytes() for path in paths if path.is_file()}


def unpack(files: dict[str, bytes], folder: Path) -> None:
    """Writes the files of a checkpoint into a new folder."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


@lru_cache(maxsize=1)
def code_hash() -> str:
    """Returns a hash of this package's source files."""
    root = Path(bench.__file__).parent
    hasher = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        hasher.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return hasher.hexdigest()[:16]


def check_code(expected: str, host: str) -> None:
    """Raises ``UserError`` when the code of this machine is not the sender's."""
    if code_hash() != expected:
        raise UserError(
            f"rbench on {host} is not the same as here (code {code_hash()}, expected {expected}); "
            "install the same version on every node"
        )
