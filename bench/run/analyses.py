"""Runs a suite's analyses: what is stored is skipped, what finishes is stored at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.analysis.registry import get_analysis
from bench.attacks import get_attack
from bench.core.analysis import AnalysisError, AnalysisInfo, AnalysisSpec
from bench.core.errors import UserError
from bench.core.host import now
from bench.models.external import ModelLookup
from bench.run.job import load_model, load_slice
from bench.run.local import Executor
from bench.store import AnalysisStore
from bench.suite import Plan, PlannedAnalysis

if TYPE_CHECKING:  # analyses are planned without importing pandas and torch
    import pandas as pd


@dataclass(frozen=True)
class AnalysisJob:
    """An analysis to run.

    Attributes:
        spec: The analysis.
        checkpoints: Folder that holds the checkpoints.
        data_root: Where data sets lie; ``None`` for the defaults.
        device: ``cpu``, ``cuda``, ``cuda:1``, ...
        cost: Estimated passes, for ordering.
        trust_code: Whether code that a URI of it names may be run.
    """

    spec: AnalysisSpec
    checkpoints: Path
    data_root: Path | None
    device: str
    cost: float
    trust_code: bool = False


@dataclass(frozen=True)
class AnalysisSummary:
    """How the analyses of a run ended.

    Attributes:
        ran: Analyses run now.
        kept: Analyses that were stored already.
        incomplete: ``(label, reason)`` of each that has no values.
        open: Analyses that were not run, as somebody stopped the run.
    """

    ran: int
    kept: int
    incomplete: tuple[tuple[str, str], ...]
    open: int = 0


def analyses_to_run(plan: Plan, store: AnalysisStore) -> list[PlannedAnalysis]:
    """Returns the analyses that are not stored, each id once."""
    pending: dict[str, PlannedAnalysis] = {}
    for one in plan.analyses:
        if not store.has(one.analysis_id):
            pending.setdefault(one.analysis_id, one)
    return list(pending.values())


def make_analysis_jobs(
    analyses: list[PlannedAnalysis],
    checkpoints: Path,
    data_root: Path | None,
    device: str,
    *,
    trust_code: bool = False,
) -> list[AnalysisJob]:
    """Turns planned analyses into jobs for an executor."""
    places = (checkpoints, data_root, device)
    return [
        AnalysisJob(one.spec, *places, one.passes or 1.0, trust_code=trust_code) for one in analyses
    ]


def execute_analysis(job: AnalysisJob) -> tuple[AnalysisInfo, pd.DataFrame]:
    """Runs a job; whatever goes wrong makes it incomplete, with no values."""
    import pandas as pd

    from bench.evaluation.cell import AttackError

    started = time.monotonic()
    error = ""
    try:
        values = _values(job)
    except (UserError, AnalysisError, AttackError) as failure:
        error = str(failure)
    except Exception as failure:  # too little memory, say: it must not stop the others
        error = f"{type(failure).__name__}: {failure}"
    seconds = time.monotonic() - started
    if error:
        return _info(job, error, seconds), pd.DataFrame()
    return _info(job, "", seconds), values


def lost_analysis(job: AnalysisJob, why: str) -> tuple[AnalysisInfo, pd.DataFrame]:
    """Returns what is stored of an analysis that ended with its worker."""
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
        machine=machine(torch.device(job.device)),
        versions=versions(get_attack(spec.attack.attack if spec.attack else "natural")),
        date=now(),
    )


def _values(job: AnalysisJob) -> pd.DataFrame:
    from bench.analysis.scene import Scene
    from bench.evaluation.model import Target
    from bench.oracle import frozen

    spec = job.spec
    analysis = get_analysis(spec.analysis)
    data = load_slice(spec.data, job.data_root)
    if data.sha256 != spec.data_hash:
        raise UserError(f"data set '{spec.data.name}' changed since the run was planned")
    with ExitStack() as stack:
        targets = []
        for one in spec.subjects:
            shelf = ModelLookup(job.checkpoints, job.trust_code)
            model = load_model(one.checkpoint, shelf, one.stats, one.sha256, job.device)
            target = Target.of(model)
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
    jobs: list[AnalysisJob],
    workers: Executor,
    show: Callable[[str, AnalysisInfo], None],
) -> AnalysisSummary:
    """Runs jobs, the costliest first, storing and showing each result.

    Args:
        plan: The whole suite, for the labels and for what is stored already.
        store: The run folder's store of analyses.
        jobs: What is to run, each id once.
        workers: Do the work.
        show: Called with the label and the info of each result.
    """
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
        show(labels.get(info.analysis_id, info.spec.analysis), info)
        if not info.complete:
            failed[info.analysis_id] = info.error
    incomplete = tuple(
        (one.label, failed[one.analysis_id]) for one in plan.analyses if one.analysis_id in failed
    )
    return AnalysisSummary(ran, len(labels) - len(jobs), incomplete, open=len(jobs) - ran)
