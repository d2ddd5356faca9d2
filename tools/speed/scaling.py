"""Measures the overhead of the runner, and how time and memory grow with a suite."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from bench.core.errors import UserError
from bench.store.run_store import RunStore

IMAGES = (128, 256, 512, 1024)
ATTACKS = (1, 2, 4, 8)
CELLS = (1, 16, 64)
"""The series: images in one cell, attacks on 128 images, cells with almost no work."""

_MB = 1024.0


@dataclass(frozen=True)
class Growth:
    """One run of one suite, in a process of its own with one worker.

    Attributes:
        grows: The series.
        size: Its size in this suite.
        cells: Number of cells.
        seconds: Duration of the command.
        in_cells: Seconds in attacks and scoring, from the stored cells.
        peak_mb: Peak memory of the process, in MiB.
    """

    grows: str
    size: int
    cells: int
    seconds: float
    in_cells: float
    peak_mb: float

    @property
    def runner(self) -> float:
        """Overhead in seconds: starting Python and torch, planning, reports."""
        return self.seconds - self.in_cells


def measure_growth(
    checkpoint: str,
    checkpoints: Path,
    data_root: Path | None,
    eps: float,
    sizes: tuple[Sequence[int], Sequence[int], Sequence[int]],
    say: Callable[[str], None],
) -> list[Growth]:
    """Runs suites of growing size, each with an empty store.

    Args:
        checkpoint: The attacked checkpoint.
        checkpoints: Folder of checkpoints.
        data_root: Data root; ``None`` for the default.
        eps: Radius in linf.
        sizes: Numbers of images, of attacks and of cells.
        say: Called with a line for every run.

    Raises:
        UserError: When a run fails.
    """
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (grows, size, suite) in enumerate(_suites(checkpoint, eps, sizes)):
            run = Path(folder) / str(number)
            found.append(_measured(run, grows, size, suite, checkpoints, data_root))
            say(f"{grows} {size}: {found[-1].seconds:.1f} s, {found[-1].in_cells:.1f} s in cells")
    return found


def _suites(
    checkpoint: str, eps: float, sizes: tuple[Sequence[int], Sequence[int], Sequence[int]]
) -> Iterator[tuple[str, int, dict[str, Any]]]:
    def suite(limit: int, attacks: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "suite": "growth",
            "data": {"name": "fashion-mnist", "limit": limit, "seed": 0},
            "threat_model": {"norm": "linf", "eps": eps},
            "convergence_images": 0,
            "models": [checkpoint],
            "attacks": attacks,
        }

    def pgd(number: int) -> dict[str, Any]:
        # With different step sizes, so that no attack resumes another.
        alpha = eps / (4 + number / 100)
        params = {"n_iter": 20, "alpha": alpha, "keep": "last"}
        return {"attack": "pgd", "label": f"PGD-20 {number}", "params": params}

    def noise(number: int) -> dict[str, Any]:
        return {"attack": "noise", "label": f"noise {number}", "params": {"n_trials": number + 1}}

    images, attacks, cells = sizes
    yield from (("images", n, suite(n, [pgd(0)])) for n in images)
    yield from (("attacks", n, suite(128, [pgd(i) for i in range(n)])) for n in attacks)
    yield from (("cells", n, suite(8, [noise(i) for i in range(n)])) for n in cells)


def _measured(
    run: Path,
    grows: str,
    size: int,
    suite: dict[str, Any],
    checkpoints: Path,
    data_root: Path | None,
) -> Growth:
    run.mkdir()
    path = run / "growth.yaml"
    path.write_text(yaml.safe_dump(suite), "utf-8")
    command = [sys.executable, "-m", "bench", "run", str(path), "--out", str(run / "out")]
    command += ["--checkpoints", str(checkpoints), "--workers", "1", "--no-probe"]
    command += ["--data-root", str(data_root)] if data_root else []
    with (run / "log").open("wb") as log:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise UserError(f"{' '.join(command)}: failed:\n{(run / 'log').read_text()[-2000:]}")
    store = RunStore(run / "out")
    infos = [store.read_cell(cell_id)[0] for cell_id in store.cell_ids()]
    in_cells = sum(info.seconds for info in infos)
    return Growth(grows, size, len(infos), seconds, in_cells, usage.ru_maxrss / _MB)


def growth_table(found: Sequence[Growth]) -> pd.DataFrame:
    """Returns a row per run: the fields of ``Growth``, the overhead, and its share."""
    rows = [
        {**asdict(one), "runner": one.runner, "runner_share": one.runner / one.seconds}
        for one in found
    ]
    digits = {"seconds": 2, "in_cells": 2, "runner": 2, "runner_share": 3, "peak_mb": 0}
    return pd.DataFrame(rows).round(digits)


def growth_markdown(table: pd.DataFrame, host: str, checkpoint: str) -> str:
    """Returns the table as Markdown, with settings and machine."""
    shown = pd.DataFrame(
        {
            "what grows": table["grows"],
            "to": table["size"],
            "cells": table["cells"],
            "command, s": table["seconds"].map("{:.1f}".format),
            "in cells, s": table["in_cells"].map("{:.1f}".format),
            "runner, s": table["runner"].map("{:.1f}".format),
            "runner, %": (100 * table["runner_share"]).map("{:.0f}".format),
            "peak memory, MiB": table["peak_mb"].map("{:.0f}".format),
        }
    )
    return "\n".join(
        [
            "# What the runner costs, and how cost grows",
            "",
            f"Each line is one `rbench run` of a suite on {checkpoint}, from an empty store, with "
            "one worker and without probing. Images: PGD-20 on ever more images. Attacks: ever "
            "more PGD-20 on 128 images. Cells: ever more cells of almost no work (random noise on "
            "8 images). The runner is everything outside the cells: starting Python, importing "
            "torch, reading the checkpoint, planning, storing, alarms and reports.",
            "",
            shown.to_markdown(index=False),
            "",
            f"Machine: {host}. Command: `python -m tools.speed runner`.",
            "",
        ]
    )
