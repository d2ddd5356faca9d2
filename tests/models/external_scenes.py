"""Tiny data, and suites of other people's models, run in this process as a user would."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.core.errors import MissingCheckpointError, UserError
from bench.core.paths import Where
from bench.models.external import library_model as foreign
from bench.run import job
from bench.zoo import open_model

CLASSES = 3


ROBUST = "robustbench:Rade2021Helper_R18_ddpm?dataset=cifar10&threat=Linf"


def need_robustbench() -> None:
    """Skips a test where RobustBench's zoo cannot be imported."""
    try:
        open_model(ROBUST, Where(Path()))
    except MissingCheckpointError as error:
        pytest.skip(f"needs rbench[robustbench]: {error}")


def make_data(folder: Path, n: int = 8, classes: int = CLASSES) -> Path:
    """Writes random images of 3 x 32 x 32 pixels."""
    x = np.random.default_rng(0).random((n, 3, 32, 32)).astype(np.float32)
    path = folder / f"made{n}.npz"
    np.savez(path, x=x, y=np.arange(n) % classes)
    return path


def write_suite(folder: Path, data: Path, models: Sequence[Any], **more: Any) -> Path:
    """Writes a suite of two short attacks; JSON is YAML."""
    suite = {
        "suite": "others",
        "data": {"name": f"npz:{data}"},
        "threat_model": {"norm": "linf", "eps": 0.03},
        "batch_size": 4,
        "n_draws": 2,
        "search": "exact",
        "convergence_images": 0,
        "sentinel": False,
        "models": list(models),
        "attacks": ["natural", {"attack": "pgd", "params": {"n_iter": 2, "alpha": 0.01}}],
        **more,
    }
    path = folder / "others.yaml"
    path.write_text(json.dumps(suite))
    return path


def rbench(*arguments: str) -> tuple[int, str]:
    """Runs a command in this process; returns its exit code and what it printed, errors too."""
    from typer.testing import CliRunner

    from bench.cli.app import app
    from bench.cli.options import console

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(console, "width", 2_000)
        result = CliRunner().invoke(app, list(arguments))
    if isinstance(result.exception, UserError):  # as ``main`` does it
        return 2, f"{result.output}error: {result.exception}"
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def forget() -> None:
    """Forgets what this process has found out about models, as another process would."""
    for memory in (foreign._FACTS, foreign._OUTSIDE, foreign._BESIDE):
        memory.clear()  # type: ignore[attr-defined]
    job.load_model.cache_clear()


def sha256(uri: str, *, trust_code: bool = False, checkpoints: Path = Path()) -> str:
    """Returns a model's identity, found out anew."""
    forget()
    return open_model(uri, Where(checkpoints, trust_code=trust_code)).facts().sha256
