"""Predicts how long cells take, from passes of each kind of model.

Timing takes about a second in all, in float32 throughout: only the run itself finds out which
engine is fastest. The times are stored for the machine, so that a later plan needs neither models
nor torch.
"""

from __future__ import annotations

import heapq
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.attacks import get_attack
from bench.core.errors import UserError, one_line, place_of
from bench.core.host import installed, processor, today, usable_cores
from bench.core.model_spec import ModelSpec, height_width
from bench.core.paths import cache_folder
from bench.core.spec import digest
from bench.run.job import Job
from bench.store.files import write_atomically
from bench.zoo import open_model

if TYPE_CHECKING:
    from torch import Tensor

    from bench.evaluation.model import Target
    from bench.models.external.scheme import Source

SPENT = 0.5
"""Seconds spent on timing, shared out among the kinds of models of a plan. A model whose pass over
two images exceeds its share is timed once."""

SLOW = 2.0
"""Seconds from which a pass over two images is not repeated."""

FEW = 8
"""Images in a timed pass, at most. Larger passes take no longer for an image."""


@dataclass(frozen=True)
class PassCost:
    """The time of a pass over an image.

    Attributes:
        forward: Seconds of a forward pass.
        both: Seconds of a forward and a backward pass.
        date: On which it was timed.
    """

    forward: float
    both: float
    date: str = ""

    def seconds(self, attack: str, passes: float) -> float:
        """Returns an upper bound of the time of an attack with so many passes of either kind."""
        forward_only = get_attack(attack).traits.gradients == "never"
        return passes * (self.forward if forward_only else max(self.forward, self.both / 2))


class Calibration:
    """The costs of passes through the models that some jobs attack.

    Models of the same architecture and norm are one kind. Kinds that this machine has not timed
    before are timed at construction.

    Args:
        jobs: Jobs to estimate.
        workers: Processes that share the machine's cores, as in ``bench.run.local.Workers``.

    Raises:
        UserError: When a checkpoint cannot be read.
    """

    def __init__(self, jobs: Sequence[Job], workers: int) -> None:
        self._threads = max(1, usable_cores() // workers)
        self._sources: dict[object, tuple[Source, str]] = {}
        kinds: dict[str, Job] = {}
        for job in jobs:
            kinds.setdefault(self._kind(job), job)
        self._known = _kept(kinds)
        new = {kind: job for kind, job in kinds.items() if kind not in self._known}
        if new:
            self._time(new)
            _keep(self._known)

    @property
    def since(self) -> str:
        """The date of the oldest pass."""
        return min((cost.date for cost in self._known.values()), default="")

    def seconds(self, job: Job) -> float:
        """Returns an upper bound of a job's time, from its estimated passes and its model.

        Raises:
            UserError: When its checkpoint cannot be read.
        """
        return self._known[self._kind(job)].seconds(job.spec.attack, job.cost)

    def _time(self, kinds: dict[str, Job]) -> None:
        from bench.oracle.side_by_side import threads

        with threads(self._threads):
            for kind, job in kinds.items():
                source, _ = self._source(job)
                try:
                    self._known[kind] = _measure(source, job, SPENT / len(kinds))
                except UserError:
                    raise
                except Exception as error:  # foreign code: whatever it raises is its failure
                    name, why = job.model_names[-1], one_line(error) + place_of(error)
                    raise UserError(
                        f"{name}: fails while its passes are timed: {why}; --no-time plans "
                        "without that"
                    ) from None

    def _kind(self, job: Job) -> str:
        """Returns the same for jobs whose passes take the same time on the same machine."""
        of = job.spec.surrogate or job.spec
        few = min(job.spec.batch_size, FEW)
        _, model = self._source(job)
        return digest([model, of.stats, few, self._threads, *_machine(job.where.device)])

    def _source(self, job: Job) -> tuple[Source, str]:
        """Returns the model that a job attacks, and a hash of its network; each is opened once."""
        name = (job.spec.surrogate or job.spec).checkpoint
        key = (name, job.where)
        if key not in self._sources:
            source = open_model(name, job.where)
            facts = source.facts()
            spec = facts.spec.model_dump(mode="json", exclude={"mean", "std"})
            # Of others' networks the specification does not tell all.
            own = isinstance(facts.spec, ModelSpec)
            self._sources[key] = source, digest([spec, "" if own else facts.sha256])
        return self._sources[key]


def makespan(seconds: Iterable[float], workers: int) -> float:
    """Returns when the last of some jobs ends, if the longest start first.

    Args:
        seconds: Duration of each job.
        workers: How many run at a time.
    """
    free = [0.0] * workers
    for length in sorted(seconds, reverse=True):
        heapq.heapreplace(free, free[0] + length)
    return max(free)


def _machine(device: str) -> tuple[str, ...]:
    """Returns the hardware and software that the speed of passes depends on."""
    (version,) = installed("torch").values()
    if not device.startswith("cuda"):
        return device, processor(), version
    import torch

    return device, torch.cuda.get_device_name(device), version


def passes_file() -> Path:
    """Returns where passes are kept that were timed on this machine."""
    return cache_folder() / "passes.json"


def _kept(kinds: Iterable[str]) -> dict[str, PassCost]:
    """Returns the stored costs of some kinds; none where the file cannot be read."""
    kept = _read()
    found = {}
    for kind in kinds:
        try:
            cost = PassCost(**kept[kind])
            if cost.forward > 0 and cost.both > 0 and isinstance(cost.date, str):
                found[kind] = cost
        except (LookupError, TypeError):  # not timed yet, or damaged
            continue
    return found


def _read() -> dict[str, Any]:
    try:
        kept = json.loads(passes_file().read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _keep(costs: dict[str, PassCost]) -> None:
    """Adds what was timed to what is kept; where that cannot be, the next plan times again."""
    kept = _read() | {kind: vars(cost) for kind, cost in costs.items()}
    try:
        write_atomically(passes_file(), json.dumps(kept, indent=1).encode())
    except UserError:
        return


def _measure(source: Source, job: Job, seconds: float) -> PassCost:
    """Times the passes of a model, for about so many seconds."""
    import torch

    from bench.evaluation.model import Target
    from bench.oracle import frozen

    stats, n = (job.spec.surrogate or job.spec).stats, min(job.spec.batch_size, FEW)
    model = source.load(stats).to(job.where.device)
    target, spec = Target.of(model), model.spec
    x = torch.full((n, spec.channels, *height_width(spec.size)), 0.5, device=job.where.device)
    y = torch.zeros(n, dtype=torch.int64, device=job.where.device)
    with frozen(target.model):
        ask = _query(target, x[:2], y[:2])  # some layers take no single image
        # The first makes ready what the process and the model need; a slow one has no second.
        both = _timed(ask, True)
        if both < SLOW:
            both = min(both, _timed(ask, True))
        if both < seconds:
            x, y = (part[: max(2, round(seconds / both))] for part in (x, y))
            ask = _query(target, x, y)
            # Two, of which the first makes ready what the size needs.
            both = min(_timed(ask, True), _timed(ask, True))
        else:
            x = x[:2]
        return PassCost(_timed(ask, False) / len(x), both / len(x), today())


def _query(target: Target, x: Tensor, y: Tensor) -> Callable[[bool], object]:
    """Returns a function that queries an oracle as attacks do, with or without gradient."""
    from bench.oracle import Oracle, QueryRules, cross_entropy

    rules = QueryRules(stochastic=target.stochastic, batch_dependent=target.batch_dependent)
    oracle = Oracle(target.model, x, target.classes, rules)
    return lambda grad: float(oracle.query(x, y, cross_entropy, grad=grad).loss.sum())


def _timed(ask: Callable[[bool], object], grad: bool) -> float:
    """Returns the seconds of a query; on a single core, without those of other processes.

    The result is stored for good, so a busy moment of the machine should not show.
    """
    import torch

    one_core = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    clock = time.process_time if one_core else time.perf_counter
    started = clock()
    ask(grad)
    return clock() - started


def predict(jobs: Sequence[Job], workers: int) -> tuple[dict[str, float], str]:
    """Returns the seconds that each job takes at most, by the id of its cell.

    Broken images leave most attacks early, and a search may run faster than in float32, so this is
    an upper bound.

    Returns:
        The seconds, and the date on which the oldest of the passes was timed.

    Raises:
        UserError: When a checkpoint cannot be read.
    """
    calibration = Calibration(jobs, workers)
    seconds = {job.spec.cell_id: calibration.seconds(job) for job in jobs}
    return seconds, calibration.since
