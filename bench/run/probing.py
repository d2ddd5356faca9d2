"""As a run begins: is every model what its card declares, and can its gradients be trusted?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from pydantic import Field

from bench.core.cell import CellSpec, DataSpec, Surrogate
from bench.core.errors import UserError
from bench.core.paths import Folder
from bench.core.spec import Spec
from bench.run.job import Job, load_slice
from bench.run.local import Executor
from bench.store import write_atomically
from bench.zoo import open_model

J = TypeVar("J")
R = TypeVar("R")

VERSION = 1
"""Raised when the probe looks for something else, so that what is remembered is found out anew."""


@dataclass(frozen=True)
class ProbeJob:
    """A model to look at.

    Attributes:
        of: A cell, or the surrogate of one: which weights, under which statistics.
        data: The slice whose first images it is shown.
        job: Any job of the run, for its folders and device.
    """

    of: CellSpec | Surrogate
    data: DataSpec
    job: Job

    @property
    def shown(self) -> DataSpec:
        """The images that it is shown."""
        from bench.probe.model import MAX_IMAGES

        return self.data.first(min(self.job.n_images, MAX_IMAGES))

    @property
    def key(self) -> str:
        """What the findings hold for."""
        return probe_key(self.of)


class Probed(Spec):
    """What was found out about a model.

    Attributes:
        differs: What card and probe say where they disagree; empty if they agree.
        doubts: Warnings and errors, as ``probe_CODE: text``.
    """

    differs: str = ""
    doubts: tuple[str, ...] = ()


class _Memory(Spec):
    """What a run folder remembers of its models, by key."""

    version: int = VERSION
    models: dict[str, Probed] = Field(default_factory=dict)


def probe_key(of: CellSpec | Surrogate) -> str:
    """Returns what tells models apart: weights, and the statistics in force."""
    return f"{of.sha256}:{of.stats or 'none'}"


class Probing:
    """Runs the jobs of a run, and probes its models beside the first of them.

    The first job need not wait for anything but the probes of its own models; all other probes come
    next. What a job has made counts, and is passed on, only once its models are known to be what
    their cards declare.

    Args:
        jobs: What is to run. Each model and surrogate of it is probed that was not before.
        folder: The run folder; what is found is kept in ``store/probes.json``.
        workers: Do the work.

    Attributes:
        known: What is known of the models of this folder, by ``probe_key``.
    """

    def __init__(self, jobs: Iterable[Job], folder: Folder, workers: Executor) -> None:
        self._path, self._workers = folder / "store" / "probes.json", workers
        self.known = _remembered(self._path)
        self._left: dict[str, ProbeJob] = {}
        for job in jobs:
            for of in _models(job):
                if probe_key(of) not in self.known:
                    self._left.setdefault(probe_key(of), ProbeJob(of, job.spec.data, job))

    def run(
        self, work: Callable[[J], R], jobs: Sequence[J], lost: Callable[[J, str], R]
    ) -> Iterator[tuple[J, R] | None]:
        """Runs jobs, which are tuples of ``Job``, and the probes; see ``Executor``.

        Raises:
            UserError: When a model is not what its card declares; holds both.
        """
        first = [self._left[key] for key in self._needs(jobs[0])] if jobs else []
        others = [one for one in self._left.values() if one not in first]
        ordered: list[Any] = [*first, *jobs[:1], *others, *jobs[1:]]
        held: list[tuple[J, R]] = []
        for outcome in self._workers.run(
            partial(_probe_or, work), ordered, partial(_or_lost, lost)
        ):
            if outcome is None:
                yield None
                continue
            job, made = outcome
            if isinstance(job, ProbeJob):
                self._learn(job, made)
            else:
                held.append((job, made))
            yield from (one for one in held if not self._needs(one[0]))
            held = [one for one in held if self._needs(one[0])]

    def _needs(self, jobs: Any) -> list[str]:
        """Returns which models of some jobs are still to be probed."""
        keys = dict.fromkeys(probe_key(of) for job in jobs for of in _models(job))
        return [key for key in keys if key in self._left]

    def _learn(self, one: ProbeJob, found: Probed | None) -> None:
        if found is not None and found.differs:
            raise UserError(f"{one.of.checkpoint}: {found.differs}")
        del self._left[one.key]
        if found is None:
            return  # it cannot be loaded: its cells will say so, and the others go on
        self.known[one.key] = found
        write_atomically(self._path, _Memory(models=self.known).model_dump_json(indent=2).encode())


def _models(job: Job) -> list[CellSpec | Surrogate]:
    """Returns the model of a job, and its surrogate where there is one."""
    return [job.spec] if job.spec.surrogate is None else [job.spec, job.spec.surrogate]


def _probe_or(work: Callable[[Any], Any], job: Any) -> Any:
    return run_probe(job) if isinstance(job, ProbeJob) else work(job)


def _or_lost(lost: Callable[[Any, str], Any], job: Any, why: str) -> Any:
    """Stands for what did not come back; of a probe, its cells will fail for the same reason."""
    return None if isinstance(job, ProbeJob) else lost(job, why)


def run_probe(one: ProbeJob) -> Probed | None:
    """Probes one model; ``None`` where it cannot be loaded."""
    import torch

    from bench.evaluation.device import no_tf32
    from bench.evaluation.model import Target
    from bench.probe.model import probe

    no_tf32()
    try:
        model = open_model(one.of.checkpoint, one.job.shelf).load(one.of.stats)
        model = model.to(one.job.device)
    except UserError:
        return None
    data = load_slice(one.shown, one.job.data_root)
    x, y = (torch.from_numpy(part).to(one.job.device) for part in (data.x, data.y))
    target = Target.of(model)
    found = probe(model, x, y, classes=target.classes)
    doubts = (f for f in found.findings if f.severity != "note")
    return Probed(
        differs=found.disagreement(
            stochastic=target.stochastic, batch_dependent=target.batch_dependent
        ),
        doubts=tuple(f"probe_{finding.code}: {finding.text}" for finding in doubts),
    )


def _remembered(path: Folder) -> dict[str, Probed]:
    """Returns what an earlier run found out; nothing where that cannot be read."""
    try:
        memory = _Memory.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return dict(memory.models) if memory.version == VERSION else {}
