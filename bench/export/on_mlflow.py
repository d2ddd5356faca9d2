"""MLflow. Where it logs is its own setting: ``MLFLOW_TRACKING_URI``, ``MLFLOW_EXPERIMENT_NAME``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.core.errors import UserError
from bench.export.tracking import Value
from bench.suite.watcher import Status

EXPERIMENT = "rbench"
_ENDED: dict[Status, str] = {"finished": "FINISHED", "incomplete": "FAILED", "stopped": "KILLED"}


class MlflowTracker:
    """A run of MLflow: params, metrics named ``MODEL/ATTACK/accuracy``, reports as artifacts.

    Raises:
        UserError: When mlflow is not installed.
    """

    def __init__(self) -> None:
        try:
            import mlflow
        except ImportError:
            raise UserError(
                "--track mlflow needs mlflow, which is not installed; pip install 'rbench[mlflow]'"
            ) from None
        self._mlflow = mlflow

    def start(self, name: str, params: Mapping[str, Value]) -> None:
        """Begins a run, in the experiment ``rbench`` where MLflow's settings name none."""
        if not {"MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"} & set(os.environ):
            self._mlflow.set_experiment(EXPERIMENT)
        self._mlflow.start_run(run_name=name)
        self._mlflow.log_params(dict(params))

    def log(self, metrics: Mapping[str, float]) -> None:
        """Logs numbers."""
        self._mlflow.log_metrics(dict(metrics))

    def finish(self, files: Sequence[Path], status: Status) -> None:
        """Logs files and ends the run, also where they cannot be logged."""
        try:
            for file in files:
                self._mlflow.log_artifact(str(file))
        finally:
            self._mlflow.end_run(status=_ENDED[status])
