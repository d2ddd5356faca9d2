"""Judges adversarial examples that others made, with other tools: ``verify_examples``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bench.attacks.ball import ball_of
from bench.attacks.base import Budget
from bench.attacks.randomness import seeded
from bench.core.cell import (
    Adversary,
    CellModel,
    DataSpec,
    Manner,
    default_batch_size,
    refusals,
)
from bench.core.errors import UserError, one_line
from bench.core.paths import Where
from bench.core.result import VIOLATIONS, Row
from bench.core.threat import ThreatModel
from bench.data.examples import Examples, check_beside, n_held, pick_examples, slice_of
from bench.data.slice import Slice, take_slice
from bench.evaluation.api import threat_for
from bench.evaluation.cell import Batch, batch_seed, batches
from bench.evaluation.in_memory import Declared, as_slice, as_target, evaluation_mode
from bench.evaluation.model import Target
from bench.evaluation.verdict import ExamplesVerdict
from bench.norms import find_paths
from bench.oracle import frozen
from bench.probe.findings import Finding
from bench.untrusted.examples import named_arrays, read_arrays
from bench.verify import TOLERANCE, Scoring, judge, verify_batch
from bench.zoo import open_model

ABOUT_SCORES = {
    *("batch_size", "nonfinite_logits", "state_changes", "stateful", "train_mode"),
    "unused_branches",
}
"""Findings of the probe that concern scores; the others concern gradients, which are not used."""
_COMPARED = 32
"""Examples that are held against all images, to see whether they are in the data's order."""


def verify_examples(
    model: nn.Module,
    x: Any,
    y: Any,
    x_adv: Any,
    threat: str | ThreatModel,
    *,
    key: str | None = None,
    stochastic: bool | None = None,
    batch_dependent: bool | None = None,
    probe: bool = True,
    adversary: Adversary = "joint",
    batch_size: int | None = None,
    n_draws: int = 20,
    seed: int = 0,
    device: str | None = None,
) -> ExamplesVerdict:
    """Judges adversarial examples that any tool made: what do they prove about a model?

    An example counts if it is finite, inside the box [0, 1] and within eps, and if the model is
    wrong on it. In place of one that is not valid, the clean image is scored. An image that the
    model gets wrong anyway counts as wrong, as everywhere.

    Args:
        model: Maps images (b, c, h, w) in [0, 1] to logits (b, classes). It is scored in eval mode.
        x: The clean images (n, c, h, w), tensor or array: uint8 in 0..255, or floats in [0, 1].
        y: Their labels (n,), whole numbers from 0.
        x_adv: An example for each image, in the same order: tensor or array (n, c, h, w) or (n, h,
            w, c), floats in [0, 1] or whole levels of 0 to 255; the path of a file of them, .npz,
            .npy or .pt; or a dictionary or tuple as AutoAttack, torchattacks and Foolbox give it.
        threat: ``"linf:8/255"``, ``"l2:0.5"``, or a threat model.
        key: Name or position of x_adv, where there are several arrays.
        stochastic: Whether passes draw at random; ``None`` to find out from a few images.
        batch_dependent: Whether images of a batch share statistics; ``None`` to find out the same
            way.
        probe: Whether to look at the model first; ``False`` takes the two above as they are given.
        adversary: Of a model whose images share statistics: whether a batch is attacked as a whole
            (``joint``) or each image alone among clean ones (``single``).
        batch_size: Images that are scored together; as for ``evaluate``.
        n_draws: Fresh draws that score each image of a stochastic model.
        seed: Of these draws.
        device: As for ``evaluate``.

    Raises:
        UserError: When an argument or a file does not fit; when the examples are of other images;
            when the model fails, or is not what it is declared to be.
    """
    if not isinstance(model, nn.Module):
        raise UserError(f"model: expected an nn.Module, found {type(model).__name__}")
    data, ball = as_slice(x, y), threat_for(model, threat)
    if isinstance(x_adv, str | Path):
        where, arrays = str(x_adv), read_arrays(Path(x_adv))
    else:
        where, arrays = "x_adv", named_arrays(x_adv, "x_adv")
    n, c, h, w = data.x.shape
    found = check_beside(pick_examples(arrays, (c, h, w), n, where, key), data, where)
    declared = Declared(stochastic, batch_dependent, probe)
    asked = {"adversary": adversary, "n_draws": n_draws, "seed": seed}
    with evaluation_mode(model, device):
        return _verdict(model, data, found, ball, declared, asked, batch_size, where)


def verify_file(
    model: str,
    data: DataSpec,
    path: Path,
    threat: str | ThreatModel,
    where: Where,
    *,
    key: str | None = None,
    stats: str | None = None,
    adversary: Adversary = "joint",
    batch_size: int | None = None,
    n_draws: int = 20,
    seed: int = 0,
) -> ExamplesVerdict:
    """Judges the examples of a file on a model and images that are found by name.

    Args:
        model: A checkpoint's name or a URI.
        data: The data set, and perhaps a slice of it. A data set alone stands for the positions
            that the file holds, or else for its first images.
        path: The file.
        threat: As for ``verify_examples``, like all further arguments.
        where: Where checkpoints and data are found, and the device.
        key: Name or position of x_adv, where there are several arrays.
        stats: Inference statistics in place of the checkpoint's own.
        adversary: For a model whose images share statistics.
        batch_size: Images that are scored together.
        n_draws: Fresh draws of a stochastic model.
        seed: Of these draws.

    Raises:
        UserError: As ``verify_examples``; when the model or the data are missing.
    """
    name, arrays = str(path), read_arrays(path)
    c, h, w = take_slice(data.first(1), where.data_root).x.shape[1:]
    found = pick_examples(arrays, (c, h, w), n_held(data, where.data_root), name, key)
    images = slice_of(found, data, name, where.data_root)
    found = check_beside(found, images, name)
    net = open_model(model, where).load(stats).to(where.device)
    ball, known = threat_for(net, threat), Target.of(net)
    declared = Declared(known.stochastic, known.batch_dependent)
    asked = {"adversary": adversary, "n_draws": n_draws, "seed": seed}
    with evaluation_mode(net, None):
        return _verdict(net, images, found, ball, declared, asked, batch_size, name)


def _verdict(
    model: nn.Module,
    data: Slice,
    found: Examples,
    ball: ThreatModel,
    declared: Declared,
    asked: dict[str, Any],
    batch_size: int | None,
    where: str,
) -> ExamplesVerdict:
    size = batch_size or default_batch_size(len(data.y), shared_draws=False)
    target, doubts = as_target(model, data, declared, asked["seed"], ball, size)
    shares = target.shares_draws and not target.batch_dependent
    size = batch_size or default_batch_size(len(data.y), shared_draws=shares)
    manner = Manner(batch_size=size, asked=frozenset({"adversary"}), **asked)
    for refusal in refusals(manner, _as_cells_see(target), _as_cells_see(target)):
        raise UserError(f"{refusal.aspect}: {refusal}")
    budget = Budget.of(ball, target.std)
    rows, rounded = _scored(target, data, found.x_adv, budget, manner)
    _check_order(data, found.x_adv, rows, where)
    return ExamplesVerdict(
        rows=tuple(rows),
        rounded=tuple(rounded),
        distances=_distances(found.x_adv, data.x, ball),
        threat_model=ball,
        tolerance=_tolerance(budget),
        cluster="batch" if target.batch_dependent or target.shares_draws else "sample",
        n_draws=manner.n_draws if target.stochastic else 1,
        batch_size=size if target.batch_dependent else None,
        on_grid=bool(np.array_equal(levels(found.x_adv), found.x_adv)),
        notes=(*found.notes, *_about(rows, found), *_doubts(doubts)),
    )


def _scored(
    target: Target, data: Slice, x_adv: NDArray[np.float32], budget: Budget, manner: Manner
) -> tuple[list[Row], list[Row]]:
    """Returns the rows of examples, and of the same as an 8-bit file would give them back."""
    rows: list[Row] = []
    rounded: list[Row] = []
    with frozen(target.model):
        for batch in batches(data, manner.batch_size, target.device):
            part = x_adv[len(rows) : len(rows) + len(batch.y)]
            judged, stored = _judged(target, batch, part, budget, manner), levels(part)
            rows += judged
            if not np.array_equal(stored, part):
                judged = _judged(target, batch, stored, budget, manner)
            rounded += judged
    return rows, rounded


def levels(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns pixels as an 8-bit file would give them back: the nearest of 256 levels.

    Values that are not finite stay.
    """
    scaled = np.round(np.clip(x, 0, 1) * np.float32(255)) / np.float32(255)
    return np.where(np.isfinite(x), scaled, x)


def _as_cells_see(target: Target) -> CellModel:
    return CellModel(
        checkpoint="",
        sha256="",
        stats=target.stats,
        stochastic=target.stochastic,
        draws_paths=find_paths(target.model) is not None,
        batch_dependent=target.batch_dependent,
        called="the model",
    )


def _tolerance(budget: Budget) -> str:
    ball = ball_of(budget)
    parts = [f"{TOLERANCE:g}"]
    parts += [f"{ball.SLACK:g} of eps"] if ball.SLACK else []
    parts += [f"{ball.ROUNDING:g} for each changed pixel"] if ball.ROUNDING else []
    return " + ".join(parts)


def _distances(
    x_adv: NDArray[np.float32], x: NDArray[np.float32], ball: ThreatModel
) -> tuple[float, ...]:
    """Returns how far each example is from its image in the ball's norm; infinite for NaN."""
    found = []
    for one, clean in zip(x_adv, x, strict=True):
        delta = (one.astype(np.float64) - clean).ravel()
        finite = bool(np.isfinite(delta).all())
        found.append(float(np.linalg.norm(delta, ball.facts.order)) if finite else math.inf)
    return tuple(found)


def _judged(
    target: Target, batch: Batch, x_adv: NDArray[np.float32], budget: Budget, manner: Manner
) -> list[Row]:
    """Returns the verifier's rows of a batch; the clean image stands in for what is not valid."""
    given = torch.from_numpy(np.ascontiguousarray(x_adv)).to(target.device)
    statuses = judge(batch.x, given, budget, "minimum-norm")
    whole = target.batch_dependent and manner.adversary == "joint"
    shown = VIOLATIONS + (("beyond_eps",) if whole else ())
    clean = torch.tensor([status in shown for status in statuses], device=target.device)
    played = torch.where(clean.view(-1, 1, 1, 1), batch.x, given)
    scoring = Scoring(
        n_draws=manner.n_draws if target.stochastic else 1,
        seed=batch_seed(manner.seed, batch.number),
        stochastic=target.stochastic,
        batch_dependent=target.batch_dependent,
        adversary=manner.adversary,
    )
    try:
        with seeded(batch_seed(manner.seed, batch.number, "score")):
            rows = verify_batch(
                target.model, batch.x, batch.y, played, budget, "minimum-norm", scoring
            )
    except UserError:
        raise
    except Exception as error:  # foreign code: whatever it raises is its failure
        raise UserError(
            f"the model fails on batch {batch.number}, of {len(batch.y)} images ({one_line(error)})"
            "; choose another batch size"
        ) from error
    sizes = _sizes(given - batch.x)
    return [
        replace(row, index=i, batch=batch.number, status=status, linf=linf, l2=l2)
        for row, i, status, (linf, l2) in zip(rows, batch.index, statuses, sizes, strict=True)
    ]


def _sizes(delta: Tensor) -> Iterator[tuple[float, float]]:
    """Yields the linf and l2 size of perturbations (b, c, h, w); infinite where not finite."""
    flat = torch.nan_to_num(delta, nan=float("inf")).flatten(1).double()
    yield from zip(flat.abs().amax(1).tolist(), flat.norm(dim=1).tolist(), strict=True)


def _check_order(data: Slice, x_adv: NDArray[np.float32], rows: Sequence[Row], where: str) -> None:
    """Raises ``UserError`` where no example is within eps and most are nearer to other images."""
    if any(row.status == "ok" for row in rows):
        return
    clean = data.x.reshape(len(data.x), -1)
    flat = x_adv.reshape(len(x_adv), -1)
    some = [i for i, row in enumerate(rows) if row.status != "not_finite"][:_COMPARED]
    lost = 0
    for i in some:
        far = np.linalg.norm(clean - flat[i], axis=1)
        lost += bool(far.min() < 0.999 * far[i])
    if some and lost > len(some) / 2:
        raise UserError(
            f"{where}: no example is within eps of its image, and {lost} of {len(some)} are nearer "
            "to another image of the data: they are in another order or of another slice; give the "
            "data in their order, or an array 'index' of positions in the file"
        )


def _about(rows: Sequence[Row], found: Examples) -> Iterator[str]:
    """Yields what the file's own predictions say."""
    if found.predictions is not None:
        pairs = zip(rows, found.predictions.tolist(), strict=True)
        scored = [row.adv_pred == said for row, said in pairs if row.status not in VIOLATIONS]
        yield (
            f"the file's own predictions are the model's on {sum(scored)} of {len(scored)} "
            "examples" + ("" if all(scored) else ": another model, mode or batch was attacked")
        )


def _doubts(doubts: Sequence[Finding]) -> Iterator[str]:
    for doubt in doubts:
        if doubt.code in ABOUT_SCORES:
            yield f"probe: {doubt.text}"
