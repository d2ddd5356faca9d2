"""A cell with all that a worker needs to run it, wherever the worker is."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.core.cell import CellSpec, DataSpec, Surrogate
from bench.core.errors import UserError
from bench.core.host import now
from bench.core.result import CellInfo, Row
from bench.data import Slice, take_slice
from bench.models.external import ModelLookup
from bench.zoo import open_model

if TYPE_CHECKING:  # jobs are planned without importing torch
    from torch import Tensor

    from bench.evaluation.model import Target
    from bench.models import Classifier


@dataclass(frozen=True)
class Job:
    """A cell to run.

    Attributes:
        spec: The cell.
        attack_kind: Of its attack.
        checkpoints: Folder that holds the checkpoint, and the surrogate's.
        data_root: Where data sets lie; ``None`` for the defaults.
        device: ``cpu``, ``cuda``, ``cuda:1``, ...
        cost: Estimated passes, for ordering and for the time left.
        n_images: In its slice.
        first: Number of its first batch.
        last: Number of the one after its last; ``None`` for all that there are.
        save_adv: Whether its adversarial examples are wanted too.
        trust_code: Whether code that a URI of it names may be run.
    """

    spec: CellSpec
    attack_kind: Literal["none", "bounded", "minimum-norm"]
    checkpoints: Path
    data_root: Path | None
    device: str
    cost: float
    n_images: int
    first: int = 0
    last: int | None = None
    save_adv: bool = False
    trust_code: bool = False

    @property
    def shelf(self) -> ModelLookup:
        """Where its models are looked up."""
        return ModelLookup(self.checkpoints, self.trust_code)

    @property
    def n_batches(self) -> int:
        """Batches of the whole cell."""
        return max(1, -(-self.n_images // self.spec.batch_size))


def _target(job: Job, of: CellSpec | Surrogate) -> Target:
    from bench.evaluation.model import Target

    return Target.of(load_model(of.checkpoint, job.shelf, of.stats, of.sha256, job.device))


@lru_cache(maxsize=16)
def load_model(
    name: str, shelf: ModelLookup, stats: str | None, sha256: str, device: str
) -> Classifier:
    """Returns a model on a device; one that was loaded lately is not read again.

    Raises:
        UserError: When it cannot be loaded, or is not what was planned with.
    """
    from bench.evaluation.device import no_tf32

    no_tf32()  # in every process that runs jobs
    source = open_model(name, shelf)
    model = source.load(stats)
    found = source.facts().sha256  # of another library's model, as it was loaded
    if found != sha256:
        raise UserError(
            f"{name}: the checkpoint changed since the run was planned (sha256 was {sha256}, is "
            f"{found}); start the run again"
        )
    return model.to(device)


_LENT: dict[DataSpec, Slice] = {}
"""Slices that were brought here from another machine."""


def lend_slice(spec: DataSpec, data: Slice) -> None:
    """Makes ``load_slice`` return these images, wherever the data set lies, if at all."""
    _LENT[spec] = data


def is_lent(spec: DataSpec) -> bool:
    """Says whether these images were brought here."""
    return spec in _LENT


def load_slice(spec: DataSpec, root: Path | None) -> Slice:
    """Returns a slice; one that was taken lately, or brought here, is not read again."""
    return _LENT[spec] if spec in _LENT else _taken(spec, root)


@lru_cache(maxsize=4)
def _taken(spec: DataSpec, root: Path | None) -> Slice:
    return take_slice(spec, root)


class Done(NamedTuple):
    """What a job has made.

    Attributes:
        info: About it.
        rows: A row for each image.
        x_adv: The examples of each batch (b, c, h, w), where they are wanted.
    """

    info: CellInfo
    rows: list[Row]
    x_adv: tuple[NDArray[np.float32], ...] = ()


def execute(job: Job) -> Done:
    """Runs a job; what goes wrong with its checkpoint or data makes it incomplete."""
    from bench.evaluation.cell import run_cell

    started = time.monotonic()
    spec = job.spec
    kept: list[NDArray[np.float32]] = []

    def keep(x_adv: Tensor) -> None:
        kept.append(x_adv.cpu().numpy())

    try:
        target, surrogate, data = open_job(job)
        # How others' layers draw is not known: no cell of theirs counts on another's passes.
        share = not any(model.shares_draws for model in (target, surrogate or target))
        info, rows = run_cell(
            spec,
            target,
            data,
            surrogate,
            share=share,
            first=job.first,
            last=job.last,
            keep=keep if job.save_adv else None,
        )
    except UserError as error:
        return Done(failed(job, str(error), time.monotonic() - started), [])
    return Done(info, rows, tuple(kept))


def open_job(job: Job) -> tuple[Target, Target | None, Slice]:
    """Returns the model that is scored, the one that is attacked in its place, and the images.

    Raises:
        UserError: When one of them cannot be loaded, or is not what the job was planned with.
    """
    spec = job.spec
    target = _target(job, spec)
    surrogate = None if spec.surrogate is None else _target(job, spec.surrogate)
    data = load_slice(spec.data, job.data_root)
    if data.sha256 != spec.data_hash:
        raise UserError(f"data set '{spec.data.name}' changed since the run was planned")
    return target, surrogate, data


def failed(job: Job, why: str, seconds: float = 0.0) -> CellInfo:
    """Returns what is stored of a job that gave no rows.

    Args:
        job: The job.
        why: In one line.
        seconds: That it took.
    """
    import torch

    from bench.evaluation.model import machine

    return CellInfo(
        cell_id=job.spec.cell_id,
        spec=job.spec,
        complete=False,
        error=why,
        attack_kind=job.attack_kind,
        cluster="sample",
        seconds=round(seconds, 3),
        machine=machine(torch.device(job.device)),
        versions={"torch": str(torch.__version__)},
        date=now(),
    )


def execute_chain(jobs: tuple[Job, ...]) -> list[Done]:
    """Runs jobs one after the other, so that each may go on from where those before it ended."""
    return [execute(job) for job in jobs]


def lost_chain(jobs: tuple[Job, ...], why: str) -> list[Done]:
    """Returns what is stored of jobs that ended with their worker."""
    return [Done(failed(job, why), []) for job in jobs]
