"""Before a run: is every model what its card declares, and can its gradients be trusted?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import Field

from bench.core.base import Spec
from bench.core.cell import CellSpec, DataSpec, Surrogate
from bench.core.errors import UserError
from bench.core.places import Folder
from bench.run.job import Job, load_slice
from bench.run.local import Executor
from bench.store import write_atomically
from bench.zoo import open_model

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
        from bench.verify.probe import MAX_IMAGES

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


def probe_models(jobs: Iterable[Job], folder: Folder, workers: Executor) -> dict[str, Probed]:
    """Probes each model and surrogate of a run that was not probed in its folder before.

    Args:
        jobs: What is to run.
        folder: The run folder; what is found is kept in ``store/probes.json``.
        workers: Do the work.

    Returns:
        What is known of the models of this folder, by ``probe_key``.

    Raises:
        UserError: When a model is not what its card declares; holds both.
    """
    path = folder / "store" / "probes.json"
    known = _remembered(path)
    wanted: dict[str, ProbeJob] = {}
    for job in jobs:
        for of in (job.spec, job.spec.surrogate):
            if of is not None:
                one = ProbeJob(of, job.spec.data, job)
                wanted.setdefault(one.key, one)
    new = [one for key, one in wanted.items() if key not in known]
    for outcome in workers.run(run_probe, new, _unseen):
        if outcome is None:
            continue
        one, found = outcome
        if found is None:
            continue  # it cannot be loaded: its cells will say so, and the others go on
        if found.differs:
            raise UserError(f"{one.of.checkpoint}: {found.differs}")
        known[one.key] = found
    if new:
        write_atomically(path, _Memory(models=known).model_dump_json(indent=2).encode())
    return known


def run_probe(one: ProbeJob) -> Probed | None:
    """Probes one model; ``None`` where it cannot be loaded."""
    import torch

    from bench.run.device import no_tf32
    from bench.run.target import Target
    from bench.verify.probe import probe

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


def _unseen(one: ProbeJob, why: str) -> None:
    """Stands for what was not found out: the model's cells will fail for the same reason."""


def _remembered(path: Folder) -> dict[str, Probed]:
    """Returns what an earlier run found out; nothing where that cannot be read."""
    try:
        memory = _Memory.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return dict(memory.models) if memory.version == VERSION else {}
