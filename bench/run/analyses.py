"""Runs a suite's analyses: stored ones are skipped, finished ones are stored at once."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.analysis.declared import get_analysis
from bench.attacks import get_attack
from bench.core.analysis import AnalysisError, AnalysisInfo, AnalysisSpec
from bench.core.cell import DataSpec
from bench.core.errors import UserError
from bench.core.host import now
from bench.core.paths import Where
from bench.run.job import load_model, planned_slice
from bench.run.local import Executor
from bench.store.analysis_store import AnalysisStore
from bench.suite.analyses import PlannedAnalysis
from bench.suite.plan import Plan
from bench.suite.watcher import Summary, Watcher

if TYPE_CHECKING:  # analyses are planned without importing pandas and torch
    import pandas as pd


@dataclass(frozen=True)
class AnalysisJob:
    """An analysis to run.

    Attributes:
        spec: The analysis.
        where: Where its checkpoints and images are found, and the device that it runs on.
        cost: Estimated passes, for ordering.
    """

    spec: AnalysisSpec
    where: Where
    cost: float

    @property
    def model_names(self) -> tuple[str, ...]:
        """Names or URIs of the models that it opens."""
        return tuple(one.checkpoint for one in self.spec.subjects)

    @property
    def data(self) -> DataSpec:
        """The images that it reads."""
        return self.spec.data


def analyses_to_run(plan: Plan, store: AnalysisStore) -> list[PlannedAnalysis]:
    """Returns the analyses that are not stored, each id once."""
    pending: dict[str, PlannedAnalysis] = {}
    for one in plan.analyses:
        if not store.has(one.analysis_id):
            pending.setdefault(one.analysis_id, one)
    return list(pending.values())


def make_analysis_jobs(analyses: Iterable[PlannedAnalysis], where: Where) -> list[AnalysisJob]:
    """Returns a job for each analysis."""
    return [AnalysisJob(one.spec, where, one.passes or 1.0) for one in analyses]


def execute_analysis(job: AnalysisJob) -> tuple[AnalysisInfo, pd.DataFrame]:
    """Runs a job; an error of any kind makes it incomplete, without values."""
    import pandas as pd

    from bench.evaluation.cell import AttackError

    started = time.monotonic()
    values, error = pd.DataFrame(), ""
    try:
        values = _values(job)
    except (UserError, AnalysisError, AttackError) as failure:
        error = str(failure)
    except Exception as failure:  # too little memory, say: it must not stop the others
        error = f"{type(failure).__name__}: {failure}"
    return _info(job, error, time.monotonic() - started), values


def lost_analysis(job: AnalysisJob, why: str) -> tuple[AnalysisInfo, pd.DataFrame]:
    """Returns what is stored of an analysis whose worker was lost."""
    import pandas as pd

    return _info(job, why, 0.0), pd.DataFrame()


def _info(job: AnalysisJob, error: str, seconds: float) -> AnalysisInfo:
    import torch

    from bench.evaluation.model import machine, versions

    spec = job.spec
    return AnalysisInfo(
        analysis_id=spec.analysis_id,
        spec=spec,
        complete=not error,
        error=" ".join(error.split()),
        seconds=round(seconds, 3),
        machine=machine(torch.device(job.where.device)),
        versions=versions(get_attack(spec.attack.attack if spec.attack else "natural")),
        date=now(),
    )


def _values(job: AnalysisJob) -> pd.DataFrame:
    from bench.analysis.scene import Scene
    from bench.evaluation.model import Target
    from bench.oracle import frozen

    spec, where = job.spec, job.where
    analysis = get_analysis(spec.analysis)
    data = planned_slice(spec.data, spec.data_hash, where.data_root)
    with ExitStack() as stack:
        targets = []
        for one in spec.subjects:
            target = Target.of(load_model(one.checkpoint, where, one.stats, one.sha256))
            stack.enter_context(frozen(target.model))
            targets.append(target)
        params = analysis.params.model_validate(spec.params)
        values = analysis.run(Scene(spec, params, tuple(targets), data))
    if list(values.columns) != list(analysis.columns):
        raise AnalysisError(f"expected the columns {', '.join(analysis.columns)}")
    return values


def run_analyses(
    plan: Plan,
    store: AnalysisStore,
    jobs: Sequence[AnalysisJob],
    workers: Executor,
    watcher: Watcher,
) -> Summary:
    """Runs jobs, the costliest first, and stores each result.

    Args:
        plan: The whole suite; its analyses without a job are stored already.
        store: The run folder's store of analyses.
        jobs: The analyses to run, each id once.
        workers: Do the work.
        watcher: Is told of each analysis that ends.
    """
    started = time.monotonic()
    labels = {one.analysis_id: one.label for one in reversed(plan.analyses)}
    failed: dict[str, str] = {}
    ran = 0
    ordered = sorted(jobs, key=lambda job: -job.cost)
    for outcome in workers.run(execute_analysis, ordered, lost_analysis):
        if outcome is None:
            continue
        _, (info, values) = outcome
        ran += 1
        store.write(info, values)
        watcher.analysis_ended(labels.get(info.analysis_id, info.spec.analysis), info)
        if not info.complete:
            failed[info.analysis_id] = info.error
    return Summary(
        ran=ran,
        kept=len(labels) - len(jobs),
        incomplete=tuple(
            (one.label, failed[one.analysis_id])
            for one in plan.analyses
            if one.analysis_id in failed
        ),
        open=len(jobs) - ran,
        seconds=time.monotonic() - started,
    )
