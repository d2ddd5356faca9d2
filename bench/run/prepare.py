"""Prepares a run: checks and plans its suite, and finds the jobs that are left to run."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from bench.analysis.declared import analysis_kind
from bench.attacks.registry import attack_info
from bench.core.adaptive import LossFunction
from bench.core.cell import DataSpec
from bench.core.checkpoint import ModelFacts
from bench.core.errors import UserError
from bench.core.paths import Folder, Where, folder_at, suite_folders
from bench.core.weight_sketch import sketch_file
from bench.data.named import get_dataset
from bench.data.slice import take_slice
from bench.run.analyses import AnalysisJob, analyses_to_run, make_analysis_jobs
from bench.run.job import Job
from bench.run.local import default_workers
from bench.run.schedule import cells_to_run, make_jobs
from bench.run.sweeps_and_alarms import plan_sentinels, plan_sweeps, sweep_jobs
from bench.store.analysis_store import AnalysisStore
from bench.store.run_store import RunStore
from bench.suite.find import find_suite
from bench.suite.load import load_suite
from bench.suite.plan import make_plan
from bench.suite.resolve import DatasetShape, Lookup, ResolvedSuite, SliceFacts
from bench.zoo import Checkpoint, open_model
from bench.zoo.checkpoint import WEIGHTS, read_history

SuiteLike: TypeAlias = str | Path | Mapping[str, Any]
"""A suite's file, the name of one in ``suites/``, or a mapping of the keys that a file has."""


class PreparedRun:
    """A suite that is checked, its run folder, and the jobs that are left to run.

    Args:
        suite: A suite's file, name or keys.
        where: Where checkpoints and data are found, and the device of the run.
        out: Run folder or its URL; ``None`` for ``reports/SUITE``.
        exact: Whether attacks search in float32, whatever the suite says.
        skip_missing: Whether models whose checkpoint is not here are left out.

    Attributes:
        plan: The suite's cells and analyses.
        classes: Number of classes of its data.
        sweeps: Its convergence sweeps, each with the cell whose convergence it tests.
        store: The store of the run folder.
        where: As given.

    Raises:
        UserError: When the suite is wrong, or the folder holds a run of another suite.
    """

    def __init__(
        self,
        suite: SuiteLike,
        where: Where,
        *,
        out: str | Path | None = None,
        exact: bool = False,
        skip_missing: bool = False,
    ) -> None:
        self.where = where
        lookup = local_lookup(where)
        resolved = _load(suite, lookup, skip_missing)
        resolved = resolved.exact() if exact else resolved
        self.plan = make_plan(resolved)
        self.classes = resolved.dataset.classes
        self.sweeps = plan_sweeps(self.plan, lambda data: resolved.images(data).sha256)
        self.sentinels = plan_sentinels(self.plan, lambda data: resolved.images(data).sha256)
        name = resolved.spec.suite
        self.store = RunStore(folder_at(str(out)) if out else Path("reports") / name)
        self._refuse_another_suite()

    @property
    def folder(self) -> Folder:
        """The run folder."""
        return self.store.folder

    def _refuse_another_suite(self) -> None:
        """Raises ``UserError`` when the folder holds a run of a suite of another name."""
        try:
            held = self.store.read_manifest().suite.get("suite")
        except UserError:  # no run yet, or one whose damage is reported where it matters
            return
        if held != self.plan.suite.suite:
            raise UserError(
                f"{self.folder}: holds a run of suite '{held}', which one of suite "
                f"'{self.plan.suite.suite}' would replace; choose another --out"
            )

    def cell_jobs(self, *, save_adv: bool = False) -> tuple[list[Job], list[Job]]:
        """Returns jobs for cells that are not stored: the suite's; those of sweeps and sentinels.

        Args:
            save_adv: Whether to store adversarial examples; cells that lack them run again.
        """
        cells = cells_to_run(self.plan, self.store, save_adv=save_adv)
        jobs = make_jobs(cells, self.where, save_adv=save_adv)
        stored = [i for i in self.store.cell_ids() if self.store.has(i)]
        others = [*stored, *(job.spec.cell_id for job in jobs)]
        return jobs, sweep_jobs(self.sweeps, self.sentinels, others, self.where)

    def analysis_jobs(self) -> list[AnalysisJob]:
        """Returns jobs for the analyses that are not stored."""
        pending = analyses_to_run(self.plan, AnalysisStore(self.folder))
        return make_analysis_jobs(pending, self.where)

    def n_workers(self, asked: int | None, *n_jobs: int) -> int:
        """Returns how many processes run so many jobs of each kind; ``asked`` is the most."""
        return min(asked or default_workers(self.where.device), max(*n_jobs, 1))


def _load(suite: SuiteLike, lookup: Lookup, skip_missing: bool) -> ResolvedSuite:
    """Returns a checked suite; a mapping is checked as a file would be."""
    if not isinstance(suite, Mapping):
        path = find_suite(str(suite), suite_folders())
        return load_suite(path, lookup, skip_missing=skip_missing)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "suite.yaml"
        path.write_text(json.dumps(suite, indent=1), encoding="utf-8")  # JSON is YAML
        try:
            return load_suite(path, lookup, skip_missing=skip_missing)
        except UserError as error:
            raise UserError(str(error).replace(str(path), "suite")) from None


def local_lookup(where: Where) -> Lookup:
    """Returns the lookup of a folder of checkpoints and a data root."""
    return Lookup(
        attack=attack_info,
        analysis=analysis_kind,
        dataset=partial(_dataset, root=where.data_root),
        images=partial(_images, root=where.data_root),
        checkpoint=partial(_checkpoint, where=where),
        loss=partial(_loss, where=where),
    )


def _loss(name: str, where: Where) -> LossFunction:
    """Returns what is known of a loss; its module is imported for that."""
    from bench.models.external.losses import open_loss

    return open_loss(name, where)[1]


def _dataset(name: str, root: Path | None) -> DatasetShape:
    found = get_dataset(name, root)
    return DatasetShape(found.channels, found.size, found.classes, found.part)


def _images(data: DataSpec, root: Path | None) -> SliceFacts:
    found = take_slice(data, root)
    return SliceFacts(len(found.y), found.sha256, len(set(found.y.tolist())))


def _checkpoint(name: str, where: Where) -> ModelFacts:
    """Returns the facts of a checkpoint, without torch, or of a URI's model.

    A model of another library is built and hashed for that, once in a process.
    """
    source = open_model(name, where)
    facts = source.facts()
    if not isinstance(source, Checkpoint):
        return facts
    sketch = sketch_file(source.folder / WEIGHTS, source.card.sha256)
    return facts.model_copy(update={"sketch": sketch, "history": read_history(source.folder)})
