"""Runs one cell: attack batch by batch, let the verifier decide, say what went wrong."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import torch
from torch import Tensor

from bench.attacks import get_attack, parse_params
from bench.attacks.base import Attack, Budget
from bench.core.base import Spec
from bench.core.cell import CellSpec
from bench.core.identity import digest
from bench.core.result import VIOLATIONS, CellInfo, Row
from bench.data import Slice
from bench.models import Classifier
from bench.norms import find_paths, pinned
from bench.oracle import Oracle, frozen
from bench.verify import ModelGuard, Scoring, check_candidate, verify_batch


class AttackError(Exception):
    """The attack failed on a batch: it raised, or what it returned is not an image batch."""


@dataclass(frozen=True)
class Batch:
    """One fixed batch of a slice: images (b, c, h, w), labels (b,), positions (b,), its number."""

    x: Tensor
    y: Tensor
    index: list[int]
    number: int


def batches(data: Slice, size: int, device: torch.device) -> Iterator[Batch]:
    """Cuts a slice into batches of ``size`` images in the slice's order; the last may be short."""
    for number, start in enumerate(range(0, len(data.y), size)):
        rows = slice(start, start + size)
        x = torch.from_numpy(data.x[rows]).to(device)
        y = torch.from_numpy(data.y[rows]).to(device)
        yield Batch(x, y, data.index[rows].tolist(), number)


def run_cell(spec: CellSpec, model: Classifier, data: Slice) -> tuple[CellInfo, list[Row]]:
    """Attacks, verifies and scores a cell.

    An attack that raises, returns something that is not a batch of images, or changes the model
    makes the cell incomplete; it never counts for or against robustness.

    Args:
        spec: The cell.
        model: The checkpoint's model in eval mode, with the cell's statistics in force.
        data: The cell's slice.
    """
    started = time.monotonic()
    attack = get_attack(spec.attack)
    params = parse_params(attack, spec.attack_params)
    norm = model.spec.norm
    rows: list[Row] = []
    error = ""
    device = next(model.parameters()).device
    with frozen(model):
        guard = ModelGuard(model)
        for batch in batches(data, spec.batch_size, device):
            try:
                rows += _run_batch(spec, attack, params, model, guard, batch)
            except AttackError as failure:
                error = f"batch {batch.number}: {failure}"
                break
    error = error or _violations(rows)
    clustered = norm.batch_dependent or spec.protocol == "fixed_path"
    info = CellInfo(
        cell_id=spec.cell_id,
        spec=spec,
        complete=not error,
        error=error,
        attack_kind=attack.kind,
        cluster="batch" if clustered else "sample",
        seconds=round(time.monotonic() - started, 3),
        machine=machine(device),
        versions=versions(attack),
        date=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
    )
    return info, rows


def _run_batch(
    spec: CellSpec,
    attack: Attack,
    params: Spec,
    model: Classifier,
    guard: ModelGuard,
    batch: Batch,
) -> list[Row]:
    seed = int(digest([spec.seed, batch.number], 8), 16)
    budget = Budget(spec.threat_model.norm, spec.threat_model.pixel_eps(model.spec.std))
    oracle = Oracle(model, model.spec.classes)
    with _protocol(spec, model, seed):
        x_adv = _propose(attack, oracle, batch, budget, params, seed)
    changes = guard.changes()
    if changes:
        shown = ", ".join(changes[:3]) + (", ..." if len(changes) > 3 else "")
        raise AttackError(f"the attack changed the model ({shown}); restored")
    scoring = Scoring(
        n_draws=spec.n_draws,
        seed=seed,
        whole_batch=model.spec.norm.batch_dependent,
        may_decline=spec.protocol == "white_box",
    )
    rows = verify_batch(model, batch.x, batch.y, x_adv, budget, attack.kind, scoring)
    n = len(batch.index)
    forwards, backwards = oracle.passes.forwards / n, oracle.passes.backwards / n
    return [
        replace(row, index=i, batch=batch.number, forwards=forwards, backwards=backwards)
        for row, i in zip(rows, batch.index, strict=True)
    ]


def _propose(
    attack: Attack, oracle: Oracle, batch: Batch, budget: Budget, params: Spec, seed: int
) -> Tensor:
    """Calls the attack on copies; any failure of it becomes an ``AttackError``."""
    try:
        proposed = attack.run(oracle, batch.x.clone(), batch.y.clone(), budget, params, seed)
        return check_candidate(batch.x, proposed)
    except (KeyboardInterrupt, SystemExit):
        raise
    except Exception as error:  # an attack is foreign code: whatever it raises is its failure
        raise AttackError(f"{attack.name} failed: {type(error).__name__}: {error}") from error


@contextmanager
def _protocol(spec: CellSpec, model: Classifier, seed: int) -> Iterator[None]:
    """Seeds a stochastic model's draws; under ``fixed_path`` holds one path for the attack."""
    paths = find_paths(model)
    if paths is None:
        yield
        return
    paths.seed(seed)
    path = paths.sample() if spec.protocol == "fixed_path" else None
    with pinned(model, path) if path is not None else nullcontext():
        yield


def _violations(rows: list[Row]) -> str:
    counts = {s: sum(r.status == s for r in rows) for s in VIOLATIONS}
    found = [f"{n} of {len(rows)} {s.replace('_', ' ')}" for s, n in counts.items() if n]
    return "the attack's images fail verification: " + ", ".join(found) if found else ""


def machine(device: torch.device) -> str:
    """Names the device in a few words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {torch.get_num_threads()} thread(s) a cell"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as handle:
            for line in handle:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def versions(attack: Attack) -> dict[str, str]:
    """Returns the versions of python, torch, rbench and the attack's library."""
    found = {"python": platform.python_version(), "torch": str(torch.__version__)}
    for name in ("rbench", attack.library):
        try:
            if name:
                found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
