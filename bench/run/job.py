"""One job: a cell, or some of its batches, with all that a worker on any machine needs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.core.attack import AttackKind
from bench.core.cell import CellSpec, DataSpec, Surrogate
from bench.core.errors import UserError, one_line, place_of
from bench.core.host import now
from bench.core.paths import Where
from bench.core.result import CellInfo, Row
from bench.data.slice import Slice, take_slice
from bench.evaluation.device import no_tf32
from bench.zoo import open_model

if TYPE_CHECKING:  # jobs are planned without importing torch
    from torch import Tensor

    from bench.evaluation.model import Target
    from bench.models import Classifier
    from bench.oracle import Aids


@dataclass(frozen=True)
class Job:
    """A cell to run, or some of its batches.

    Attributes:
        spec: The cell.
        attack_kind: Its attack's kind.
        where: Where its checkpoints and images are found, and the device that it runs on.
        cost: Estimated passes, for ordering and for the time left.
        n_images: Images in its slice.
        first: Number of its first batch.
        last: Number of the batch after its last one; ``None`` for all that there are.
        save_adv: Whether its adversarial examples are returned too.
    """

    spec: CellSpec
    attack_kind: AttackKind
    where: Where
    cost: float
    n_images: int
    first: int = 0
    last: int | None = None
    save_adv: bool = False

    @property
    def n_batches(self) -> int:
        """Batches of the whole cell."""
        return max(1, -(-self.n_images // self.spec.batch_size))

    @property
    def model_names(self) -> tuple[str, ...]:
        """Names or URIs of the models that it opens."""
        surrogate, adaptive = self.spec.surrogate, self.spec.adaptive
        stand_in = adaptive.gradient_model if adaptive else None
        return (
            self.spec.checkpoint,
            *([surrogate.checkpoint] if surrogate else []),
            *([stand_in.name] if stand_in else []),
        )

    @property
    def data(self) -> DataSpec:
        """The images that it reads."""
        return self.spec.data


@lru_cache(maxsize=16)
def load_model(name: str, where: Where, stats: str | None, sha256: str) -> Classifier:
    """Returns a model on its device; one that was loaded lately is not read again.

    Raises:
        UserError: When it cannot be loaded, or its sha256 is not the one planned with.
    """
    no_tf32()  # in every process that runs jobs
    source = open_model(name, where)
    model = source.load(stats)
    found = source.facts().sha256  # of another library's model, as it was loaded
    if found != sha256:
        raise UserError(
            f"{name}: the checkpoint changed since the run was planned (its weights_sha256 was "
            f"{sha256}, is {found}); start the run again"
        )
    return model.to(where.device)


_SENT: dict[DataSpec, tuple[str, Slice]] = {}
"""Slices that another machine sent to this process, each with the name of what was sent."""


def keep_sent(spec: DataSpec, name: str, read: Callable[[], Slice]) -> None:
    """Makes ``load_slice`` return images that were sent, whether or not the data set is here.

    Args:
        spec: The slice.
        name: Of what was sent: the same name stands for the same pixels.
        read: Receives it; called only if this process does not have it.
    """
    if spec not in _SENT or _SENT[spec][0] != name:
        _SENT[spec] = name, read()


def forget_slices() -> None:
    """Makes this process read images anew: files may have changed since an earlier run."""
    _SENT.clear()
    _read_slice.cache_clear()


def load_slice(spec: DataSpec, root: Path | None) -> Slice:
    """Returns a slice; one that was read lately, or sent, is not read again."""
    return _SENT[spec][1] if spec in _SENT else _read_slice(spec, root)


@lru_cache(maxsize=4)
def _read_slice(spec: DataSpec, root: Path | None) -> Slice:
    return take_slice(spec, root)


def planned_slice(spec: DataSpec, sha256: str, root: Path | None) -> Slice:
    """Returns a slice; raises ``UserError`` when its hash is not the one planned with."""
    data = load_slice(spec, root)
    if data.sha256 != sha256:  # this process may have read the files before they changed
        _read_slice.cache_clear()
        data = load_slice(spec, root)
    if data.sha256 != sha256:
        raise UserError(f"data set '{spec.name}' changed since the run was planned")
    return data


class Done(NamedTuple):
    """The result of a job.

    Attributes:
        info: About the cell, or its batches.
        rows: One for each image.
        x_adv: Adversarial examples of each batch (b, c, h, w), if the job saves them.
    """

    info: CellInfo
    rows: list[Row]
    x_adv: tuple[NDArray[np.float32], ...] = ()


def execute(job: Job) -> Done:
    """Runs a job; an error of any kind makes it incomplete: the others must go on."""
    from bench.evaluation.cell import run_cell

    started = time.monotonic()
    kept: list[NDArray[np.float32]] = []

    def keep(x_adv: Tensor) -> None:
        kept.append(x_adv.cpu().numpy())

    try:
        target, surrogate, data = open_job(job)
        # How others' layers draw is not known: no cell of theirs counts on another's passes.
        share = not any(model.shares_draws for model in (target, surrogate or target))
        info, rows = run_cell(
            job.spec,
            target,
            data,
            surrogate,
            share=share,
            first=job.first,
            last=job.last,
            keep=keep if job.save_adv else None,
            aids=open_aids(job),
        )
    except UserError as error:
        return Done(failed(job, str(error), time.monotonic() - started), [])
    except Exception as error:  # foreign code, or too little memory
        why = one_line(error) + place_of(error)
        return Done(failed(job, why, time.monotonic() - started), [])
    return Done(info, rows, tuple(kept))


def open_job(job: Job) -> tuple[Target, Target | None, Slice]:
    """Returns the model that is scored, the surrogate that is attacked in its place, the images.

    Raises:
        UserError: When one of them cannot be loaded, or is not what the job was planned with.
    """
    from bench.evaluation.model import Target

    def opened(of: CellSpec | Surrogate) -> Target:
        return Target.of(load_model(of.checkpoint, job.where, of.stats, of.sha256))

    spec = job.spec
    target = opened(spec)
    surrogate = None if spec.surrogate is None else opened(spec.surrogate)
    return target, surrogate, planned_slice(spec.data, spec.data_hash, job.where.data_root)


def open_aids(job: Job) -> Aids | None:
    """Returns what the attack of a job brings; ``None`` if it is nothing.

    Raises:
        UserError: When it cannot be loaded, or is not what the job was planned with.
    """
    from bench.models.external.losses import open_loss
    from bench.oracle import Aids, CustomLoss

    adaptive = job.spec.adaptive
    if adaptive is None:
        return None
    stand_in, said = adaptive.gradient_model, adaptive.loss
    model = (
        None if stand_in is None else load_model(stand_in.name, job.where, None, stand_in.sha256)
    )
    loss = None
    if said is not None:
        function, found = open_loss(said.name, job.where)
        if found != said:
            raise UserError(
                f"{said.name}: the loss changed since the run was planned; start the run again"
            )
        loss = CustomLoss(function, said.outputs)
    return Aids(model, loss)


def failed(job: Job, why: str, seconds: float = 0.0) -> CellInfo:
    """Returns what is stored of a job that gave no rows; ``why`` is one line."""
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
        machine=machine(torch.device(job.where.device)),
        versions={"torch": str(torch.__version__)},
        date=now(),
    )


def execute_chain(jobs: tuple[Job, ...]) -> list[Done]:
    """Runs jobs in order, so that each may resume where those before it ended."""
    return [execute(job) for job in jobs]


def lost_chain(jobs: tuple[Job, ...], why: str) -> list[Done]:
    """Returns what is stored of jobs whose worker was lost."""
    return [Done(failed(job, why), []) for job in jobs]
