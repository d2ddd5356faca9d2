"""Probes the models of a run as it begins: are they what their cards declare?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import Field

from bench.attacks.base import Budget
from bench.core.cell import CellSpec, DataSpec, Surrogate
from bench.core.errors import UserError, one_line, place_of
from bench.core.paths import Folder, Where
from bench.core.spec import Spec
from bench.core.threat import ThreatModel
from bench.evaluation.device import no_tf32
from bench.probe.findings import ABOUT_GRADIENTS
from bench.run.job import Job, load_slice
from bench.run.local import Executor
from bench.store.files import write_atomically
from bench.zoo import open_model

if TYPE_CHECKING:  # a run is planned without torch
    from bench.models import Classifier

J = TypeVar("J")
R = TypeVar("R")

VERSION = 3
"""Raise it when the probe changes, so that stored findings are not used."""


@dataclass(frozen=True)
class ProbeJob:
    """A model to probe.

    Attributes:
        of: A cell, or the surrogate of one: which weights, under which statistics.
        whole: The slice of the cell; the probe sees the first of its images.
        n_images: Images in that slice.
        threat: The ball in which it is attacked.
        batch_size: Images in its batches.
        where: Where the checkpoint and the images are found, and the device it is probed on.
    """

    of: CellSpec | Surrogate
    whole: DataSpec
    n_images: int
    threat: ThreatModel
    batch_size: int
    where: Where

    @property
    def data(self) -> DataSpec:
        """The images that it reads."""
        from bench.probe.model import MAX_IMAGES

        return self.whole.first(min(self.n_images, MAX_IMAGES))

    @property
    def model_names(self) -> tuple[str, ...]:
        """The name or URI of the model."""
        return (self.of.checkpoint,)

    @property
    def key(self) -> str:
        """Key of the findings."""
        return probe_key(self.of)


class Probed(Spec):
    """The findings of a probe.

    Attributes:
        differs: How the model differs from what its card declares; empty if it does not.
        doubts: Warnings and errors, as ``probe_CODE: text``.
        failed: Whether the model, or the machine, failed under the probe. That is not remembered.
    """

    differs: str = ""
    doubts: tuple[str, ...] = ()
    failed: bool = Field(default=False, exclude=True)


def about_gradients(doubt: str) -> bool:
    """Says whether a doubt, ``probe_CODE: text``, concerns the model's own gradients alone."""
    return doubt.partition(":")[0].removeprefix("probe_") in ABOUT_GRADIENTS


class _Memory(Spec):
    """Findings about the models of a run folder, by ``probe_key``."""

    version: int = VERSION
    models: dict[str, Probed] = Field(default_factory=dict)


def probe_key(of: CellSpec | Surrogate) -> str:
    """Returns the key of a model's findings: its weights and the statistics in force."""
    return f"{of.sha256}:{of.stats or 'none'}"


class Probing:
    """An executor that also probes the models of a run, beside its first jobs.

    The first job waits only for the probes of its own models; all other probes come next. A job's
    result is held back until its models are shown to be what their cards declare.

    Args:
        jobs: All jobs of the run. Each of their models and surrogates is probed, unless an earlier
            run in this folder did so.
        folder: The run folder; findings are kept in ``store/probes.json``.
        workers: Do the work.

    Attributes:
        known: Findings about the models of this folder, by ``probe_key``.
    """

    def __init__(self, jobs: Iterable[Job], folder: Folder, workers: Executor) -> None:
        self._path, self._workers = folder / "store" / "probes.json", workers
        self.known = _remembered(self._path)
        self._left: dict[str, ProbeJob] = {}
        # The probe looks inside the ball, and one of radius 0 has no inside.
        for job in sorted(jobs, key=lambda job: job.spec.threat_model.eps == 0):
            for of in _models(job):
                if probe_key(of) not in self.known:
                    spec = job.spec
                    size = min(spec.batch_size, job.n_images)
                    found = ProbeJob(of, job.data, job.n_images, spec.threat_model, size, job.where)
                    self._left.setdefault(found.key, found)

    def run(
        self, work: Callable[[J], R], jobs: Sequence[J], lost: Callable[[J, str], R]
    ) -> Iterator[tuple[J, R] | None]:
        """Runs jobs, which are tuples of ``Job``, and the probes; see ``Executor``.

        Raises:
            UserError: When a model is not what its card declares.
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
        """Returns the keys of the jobs' models that are still to be probed."""
        keys = dict.fromkeys(probe_key(of) for job in jobs for of in _models(job))
        return [key for key in keys if key in self._left]

    def _learn(self, one: ProbeJob, found: Probed | None) -> None:
        if found is not None and found.differs:
            raise UserError(f"{one.of.checkpoint}: {found.differs}")
        del self._left[one.key]
        if found is None:
            return  # it cannot be loaded: its cells will say so, and the others go on
        self.known[one.key] = found
        kept = _Memory(models={key: one for key, one in self.known.items() if not one.failed})
        write_atomically(self._path, kept.model_dump_json(indent=2).encode())


def _models(job: Job) -> list[CellSpec | Surrogate]:
    """Returns the model of a job, and its surrogate where there is one."""
    return [job.spec] if job.spec.surrogate is None else [job.spec, job.spec.surrogate]


def _probe_or(work: Callable[[Any], Any], job: Any) -> Any:
    return run_probe(job) if isinstance(job, ProbeJob) else work(job)


def _or_lost(lost: Callable[[Any, str], Any], job: Any, why: str) -> Any:
    """Returns the outcome of a lost job; after a lost probe, its cells fail for the same reason."""
    return None if isinstance(job, ProbeJob) else lost(job, why)


def run_probe(one: ProbeJob) -> Probed | None:
    """Probes one model; ``None`` where it cannot be loaded.

    A model that fails under the probe is attacked all the same: the numbers that it gives, if any,
    are under an alarm.
    """
    no_tf32()
    try:
        model = open_model(one.of.checkpoint, one.where).load(one.of.stats)
        model = model.to(one.where.device)
    except Exception:  # its cells will say why
        return None
    try:
        return _probed(one, model)
    except Exception as error:  # foreign code: whatever it raises is its failure
        why = str(error) if isinstance(error, UserError) else one_line(error) + place_of(error)
        return Probed(doubts=(f"probe_failed: the model was not probed: {why}",), failed=True)


def _probed(one: ProbeJob, model: Classifier) -> Probed:
    import torch

    from bench.evaluation.model import Target
    from bench.probe.model import probe

    where = one.where
    data = load_slice(one.data, where.data_root)
    x, y = (torch.from_numpy(part).to(where.device) for part in (data.x, data.y))
    target = Target.of(model)
    found = probe(
        model,
        x,
        y,
        classes=target.classes,
        budget=Budget.of(one.threat, target.std) if one.threat.eps else None,
        batch_size=one.batch_size,
    )
    doubts = (f for f in found.findings if f.severity != "note")
    return Probed(
        differs=found.disagreement(
            stochastic=target.stochastic, batch_dependent=target.batch_dependent
        ),
        doubts=tuple(f"probe_{finding.code}: {finding.text}" for finding in doubts),
    )


def _remembered(path: Folder) -> dict[str, Probed]:
    """Returns the findings of earlier runs in the folder, or nothing if they cannot be read."""
    try:
        memory = _Memory.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return dict(memory.models) if memory.version == VERSION else {}
