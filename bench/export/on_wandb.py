"""Weights & Biases. Where it logs is its own setting: ``WANDB_PROJECT``, ``WANDB_MODE=offline``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.core.errors import UserError
from bench.export.tracking import Value
from bench.suite.watcher import Status

PROJECT = "rbench"


class WandbTracker:
    """A run of wandb: config, numbers named ``MODEL/ATTACK/accuracy``, reports as an artifact.

    Raises:
        UserError: When wandb is not installed.
    """

    def __init__(self) -> None:
        try:
            import wandb
        except ImportError:
            raise UserError(
                "--track wandb needs wandb, which is not installed; pip install 'rbench[wandb]'"
            ) from None
        self._wandb = wandb

    def start(self, name: str, params: Mapping[str, Value]) -> None:
        """Begins a run, in the project ``rbench`` where wandb's settings name none."""
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=name,
            config=dict(params),
            settings=self._wandb.Settings(console="off"),  # the terminal is rbench's
        )

    def log(self, metrics: Mapping[str, float]) -> None:
        """Logs numbers; each is of one point in time, so that the summary is what counts."""
        self._run.log(dict(metrics))

    def finish(self, files: Sequence[Path], status: Status) -> None:
        """Logs files and ends the run, also where they cannot be logged."""
        try:
            if files:
                artifact = self._wandb.Artifact("reports", type="report")
                for file in files:
                    artifact.add_file(str(file))
                self._run.log_artifact(artifact)
        finally:
            self._run.finish(exit_code=0 if status == "finished" else 1)
