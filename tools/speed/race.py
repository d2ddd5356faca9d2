"""Races contenders: the same attack, model, images and seed, in turns, in one process."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from torch import nn

import bench
from bench.core.host import now
from bench.core.spec import digest
from bench.evaluation.in_memory import state_hash
from bench.evaluation.model import machine
from tools.speed.arena import Arena, Case
from tools.speed.contenders import Contender, ContenderError
from tools.speed.memory import MemoryMeter
from tools.speed.records import Record, Records
from tools.speed.settings import Setting
from tools.speed.timing import turns

ROUNDS, COSTLY_ROUNDS = 3, 1
"""Turns of each contender, by default and for attacks that take minutes."""

TIMED_CODE = ("api", "attacks", "models", "norms", "oracle", "run", "verify")
"""Timed folders of bench; once they change, older measurements are not comparable."""


@dataclass(frozen=True)
class Race:
    """The attacks and contenders on one model.

    Attributes:
        arena: Model and images.
        settings: The attacks.
        contenders: Contenders; each takes part if it is installed and has the attack.
        rounds: Turns of each; ``None`` for ``ROUNDS``, or ``COSTLY_ROUNDS`` for costly attacks.
    """

    arena: Arena
    settings: Sequence[Setting]
    contenders: Sequence[Contender]
    rounds: int | None = None

    def entrants(self, setting: Setting) -> list[Contender]:
        """Returns the contenders for an attack."""
        return [c for c in self.contenders if c.offers(setting) and not c.missing()]

    def n_rounds(self, setting: Setting) -> int:
        """Returns the number of turns of each contender."""
        return self.rounds or (COSTLY_ROUNDS if setting.costly else ROUNDS)


def race_id(arena: Arena, setting: Setting, contender: Contender) -> str:
    """Returns a hash of everything that a measurement depends on."""
    facts = {
        "weights": _weights(arena),
        "data": arena.data.sha256,
        "ball": arena.threat(setting.norm).model_dump(),
        "batch_size": arena.batch_size,
        "seed": arena.seed,
        "setting": asdict(setting),
        "contender": contender.name,
        "versions": [
            importlib.metadata.version(name) for name in (contender.distribution, "torch")
        ],
        "code": _code(),
        "machine": machine(arena.target.device),
    }
    return digest(facts)


_HASHES: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


def _weights(arena: Arena) -> str:
    model = arena.target.model
    if model not in _HASHES:
        _HASHES[model] = state_hash(model)
    return _HASHES[model]


@cache
def _code() -> str:
    root, hasher = Path(bench.__file__).parent, sha256()
    folders = [*(root / name for name in TIMED_CODE), Path(__file__).parent / "contenders"]
    for path in sorted(p for folder in folders for p in folder.rglob("*.py")):
        hasher.update(path.read_bytes())
    return hasher.hexdigest()


def run_race(race: Race, records: Records, say: Callable[[str], None]) -> None:
    """Runs everything without a record, attack by attack, and records each run.

    Each contender first runs a few steps to warm up. One that fails is out of the race for that
    attack.

    Args:
        race: The race.
        records: Earlier measurements; new ones are added.
        say: Called with a line for every measurement.
    """
    session = now()
    for setting in race.settings:
        _Heat(race, setting, records, session, say).run()


class _Heat:
    """The turns of one attack."""

    def __init__(
        self,
        race: Race,
        setting: Setting,
        records: Records,
        session: str,
        say: Callable[[str], None],
    ) -> None:
        self._race, self._setting, self._records = race, setting, records
        self._session, self._say = session, say
        entrants = {c.name: c for c in race.entrants(setting)}
        ids = {name: race_id(race.arena, setting, c) for name, c in entrants.items()}
        rounds = range(race.n_rounds(setting))
        done = {name: set(records.runs(ids[name])) for name in entrants}
        self._left = {name: c for name, c in entrants.items() if not done[name].issuperset(rounds)}
        self._ids, self._done = ids, done

    def run(self) -> None:
        """Warms up, then runs all turns."""
        setting = self._setting
        for name in list(self._left):
            self._try(name, setting.shortened(), None)
        names = [name for name in self._ids if name in self._left]
        for number, name in turns(names, self._race.n_rounds(setting)):
            if name in self._left and number not in self._done[name]:
                self._try(name, setting, number)

    def _try(self, name: str, setting: Setting, number: int | None) -> None:
        """Runs a contender; without a round number the run is not recorded."""
        try:
            outcome = self._left[name].run(self._race.arena, setting)
        except ContenderError as failure:
            del self._left[name]
            self._add(name, 0, error=str(failure))
            self._say(f"{setting.title}: {name} failed: {failure}")
            return
        if number is not None:
            self._add(name, number, outcome=outcome)
            self._say(f"{setting.title}: {name}, round {number + 1}: {outcome.seconds:.2f} s")

    def _add(self, name: str, number: int, **found: object) -> None:
        record = Record.model_validate(
            {
                "race": self._ids[name],
                "checkpoint": self._race.arena.name,
                "setting": self._setting.name,
                "contender": name,
                "session": self._session,
                "round": number,
                **found,
            }
        )
        self._records.add(record)


def measure_memory(race: Race, case: Case, records: Records, say: Callable[[str], None]) -> None:
    """Measures the memory of every attack and contender that ran, unless it is recorded."""
    meter = MemoryMeter()
    session = now()
    for setting in race.settings:
        for contender in race.entrants(setting):
            identity = race_id(race.arena, setting, contender)
            if records.peak_mb(identity) is not None or not records.runs(identity):
                continue
            try:
                threads = torch.get_num_threads()
                peak = meter.peak_mb(case, setting.shortened(), contender.name, threads)
            except ContenderError as failure:
                say(f"{setting.title}: memory of {contender.name}: {failure}")
                continue
            record = Record(
                race=identity,
                checkpoint=race.arena.name,
                setting=setting.name,
                contender=contender.name,
                session=session,
                peak_mb=peak,
            )
            records.add(record)
