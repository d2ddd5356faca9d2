"""rbench itself, through ``evaluate``: with the fast search, and in float32 throughout."""

from __future__ import annotations

import time
from dataclasses import dataclass

from bench.core.cell import Search
from bench.evaluation.api import evaluate
from tools.speed.arena import Arena
from tools.speed.clock import Clock, watched
from tools.speed.contenders.base import N_DRAWS, ContenderError, Outcome, verdicts
from tools.speed.settings import Setting


@dataclass(frozen=True)
class Rbench:
    """rbench, called as a user would.

    Attributes:
        name: Name in tables.
        search: ``fast`` or ``exact``.
        distribution: Its package.
    """

    name: str
    search: Search
    distribution: str = "rbench"

    def missing(self) -> str:
        """Returns an empty text: it is installed."""
        return ""

    def offers(self, setting: Setting) -> bool:
        """Returns True: settings are defined by its attacks."""
        return True

    def note(self, setting: Setting) -> str:
        """Returns an empty text: it is the baseline."""
        return ""

    def run(self, arena: Arena, setting: Setting) -> Outcome:
        """Evaluates the model, without the probe, which runs once per model.

        Raises:
            ContenderError: When the cell is incomplete.
        """
        target = arena.target
        clock = Clock(target.device)
        eot_iter, eot = setting.our_eot or (setting.eot_iter, "plain")
        if self.search == "exact":
            eot_iter, eot = setting.eot_iter, "plain"
        begun = time.perf_counter()
        with watched(clock):
            result = evaluate(
                target.model,
                arena.data.x,
                arena.data.y,
                arena.threat(setting.norm),
                [{"attack": setting.attack, "params": {**setting.params, **setting.ours}}],
                stochastic=target.stochastic,
                batch_dependent=target.batch_dependent,
                probe=False,
                batch_size=arena.batch_size,
                eot_iter=eot_iter,
                eot=eot,
                n_draws=N_DRAWS,
                search=self.search,
                seed=arena.seed,
            )
        seconds = time.perf_counter() - begun
        (cell,) = result.cells.values()
        if not cell.info.complete:
            raise ContenderError(cell.info.error)
        rows = list(cell.rows)
        return Outcome(
            seconds,
            clock.search.seconds,
            clock.model.seconds,
            sum(row.forwards for row in rows) / len(rows),
            sum(row.backwards for row in rows) / len(rows),
            verdicts(rows),
        )


OURS, EXACT = Rbench("rbench", "fast"), Rbench("rbench exact", "exact")
