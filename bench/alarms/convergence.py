"""The convergence sweep: would more iterations or more draws have broken more images?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bench.alarms.pairs import effort_of, exhausted
from bench.alarms.shared import Alarm, CellResult
from bench.core.cell import CellSpec, DataSpec, averaging

FACTORS = (1, 2, 4)
"""Multiples of the iterations to try."""

EOT_ITERS = (1, 5, 20, 50)
"""Numbers of draws to try at an equal budget of gradients, for a stochastic model."""

BUDGET = 500
"""Least budget of gradients per image for them, so that 50 draws leave 10 iterations."""


@dataclass(frozen=True)
class Sweep:
    """The cells of a sweep.

    Attributes:
        base: The cell whose convergence is in question, on its whole slice.
        iterations: Its attack on a subset with 1, 2 and 4 times the iterations.
        draws: Its attack on the subset with more draws and fewer iterations, at an equal budget of
            gradients; empty for a deterministic model, and for a mean-field surrogate.
    """

    base: CellSpec
    iterations: tuple[CellSpec, ...]
    draws: tuple[CellSpec, ...] = ()

    @property
    def cells(self) -> tuple[CellSpec, ...]:
        """All cells that must run, each id once."""
        return tuple({cell.cell_id: cell for cell in (*self.iterations, *self.draws)}.values())


def convergence_sweep(
    base: CellSpec, data: DataSpec, data_hash: str, *, stochastic: bool, budget: int = BUDGET
) -> Sweep:
    """Plans a short sweep for a white-box attack with ``n_iter``, such as PGD.

    Args:
        base: The cell whose convergence is in question.
        data: A subset of its slice; more than one batch if the images of a batch share statistics.
        data_hash: Hash of the subset.
        stochastic: Whether the model draws at random.
        budget: Gradients per image in the sweep over draws; the cell's own if that is more.

    Raises:
        ValueError: When the attack has no ``n_iter``, or the protocol is not ``white_box``.
    """
    n_iter = effort_of(base, "n_iter")
    if n_iter is None or base.protocol != "white_box":
        raise ValueError(
            f"a sweep needs a white_box attack with n_iter, found {base.protocol} {base.attack}"
        )
    subset = base.model_copy(update={"data": data, "data_hash": data_hash})
    iterations = tuple(_with(subset, n_iter * factor, base.eot_iter) for factor in FACTORS)
    if not stochastic or base.eot == "mean_field":
        return Sweep(base, iterations)
    budget = max(budget, n_iter * base.eot_iter)
    # A step size that was set for more iterations would not cross the ball in fewer.
    free = {**subset.attack_params, **({"alpha": None} if "alpha" in base.attack_params else {})}
    adaptive = subset.model_copy(update={"attack_params": free})
    draws = tuple(
        _with(adaptive, max(1, budget // eot_iter), eot_iter)
        for eot_iter in sorted({*EOT_ITERS, base.eot_iter})
    )
    return Sweep(base, iterations, draws)


def _with(cell: CellSpec, n_iter: int, eot_iter: int) -> CellSpec:
    params = {**cell.attack_params, "n_iter": n_iter}
    eot, eot_iter = averaging(cell.eot, eot_iter)
    return cell.model_copy(update={"attack_params": params, "eot": eot, "eot_iter": eot_iter})


def sweep_alarms(sweep: Sweep, results: Iterable[CellResult]) -> tuple[Alarm, ...]:
    """Returns alarms about the sweep's base cell: more effort is shown to break more images.

    Args:
        sweep: The sweep.
        results: Its cells, as far as they were run; incomplete ones are left out.
    """
    done = {r.info.cell_id: r for r in results if r.info.complete and r.rows}
    found: list[Alarm] = []
    for cells, effort in ((sweep.iterations, "n_iter"), (sweep.draws, "eot_iter")):
        ran = [done[cell.cell_id] for cell in cells if cell.cell_id in done]
        mine = [r for r in ran if effort_of(r.spec, effort) == effort_of(sweep.base, effort)]
        for cell in mine:
            found += exhausted(cell, sweep.base.cell_id, ran, effort)
    return tuple(found)
