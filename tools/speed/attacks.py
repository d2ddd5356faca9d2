"""Compares rbench's attacks with those of libraries: from options to table and figure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bench.core.errors import UserError, did_you_mean
from bench.store.files import write_atomically
from bench.train.quality import quick_threat
from bench.zoo import checkpoint_folder, open_checkpoint
from bench.zoo.card import Card
from tools.speed.arena import Case
from tools.speed.attack_picture import race_picture
from tools.speed.attack_table import race_markdown
from tools.speed.contenders import CONTENDERS, Contender
from tools.speed.host import describe_host, kind_of
from tools.speed.race import Race, measure_memory, run_race
from tools.speed.records import Records
from tools.speed.settings import Setting, choose, settings
from tools.speed.standings import COLUMNS, NUMBERS, Entry, collect, standings

BASELINE = next(iter(CONTENDERS))

EPS_L2: Mapping[str, float] = {
    "mnist": 2.0,
    "fashion-mnist": 1.5,
    "cifar10": 0.5,
    "cifar100": 0.5,
    "imagenet": 3.0,
}
"""Usual l2 radius on a data set, for minimum-norm attacks."""

BATCH, QUICK_IMAGES = 128, 8


@dataclass(frozen=True)
class Leg:
    """Attacks raced on the same images of one model.

    Attributes:
        checkpoint: Its name.
        attacks: Names of settings; none for all that are for the model.
        contenders: Names; none for all. rbench always takes part, as the baseline.
        limit: Number of images.
    """

    checkpoint: str
    attacks: Sequence[str] = ()
    contenders: Sequence[str] = ()
    limit: int = 100


BN, IN, GN, RNA = (f"fmnist-resnet20-{norm}-at" for norm in ("bn", "in", "gn", "rna"))
LONG = ("pyautoattack",)
PROGRAMME = (
    Leg(BN, ("fgsm", "pgd", "mim", "apgd-ce", "cw-l2", "auto")),
    Leg(BN, ("deepfool",), limit=32),
    Leg(BN, ("apgd-t", "fab-t", "square", "autoattack"), LONG, 32),
    Leg(IN, ("pgd",), ("torchattacks",)),
    Leg(IN, ("autoattack",), LONG, 32),
    Leg(GN, ("pgd",), ("torchattacks",)),
    Leg(GN, ("autoattack",), LONG, 32),
    Leg(RNA, ("autoattack-rand",), LONG),
)
"""What ``make bench`` races: less than an hour on two cores. Attacks that take minutes run on fewer
images, beside the library that their authors maintain."""


@dataclass(frozen=True)
class Wanted:
    """Options of a race.

    Attributes:
        legs: Races, one per model and group of attacks.
        checkpoints: Folder that holds the checkpoints.
        batch_size: Images attacked together; ``None`` for all up to 128.
        eps: Radius in linf; ``None`` for that of the checkpoint's training, else its data set's.
        eps_l2: Radius in l2; ``None`` for the data set's.
        rounds: Turns of each contender; ``None`` for 3, or 1 for attacks that take minutes.
        quick: Few images, few steps, one round, to test that everything runs. The files are then
            called ``attacks-quick``.
        memory: Whether to measure memory too.
        fresh: Whether to discard earlier measurements.
        out: Folder of the results.
        data_root: Data root; ``None`` for the default.
        device: ``cpu``, ``cuda``, ...
    """

    legs: Sequence[Leg]
    checkpoints: Path
    batch_size: int | None
    eps: float | None
    eps_l2: float | None
    rounds: int | None
    quick: bool
    memory: bool
    fresh: bool
    out: Path
    data_root: Path | None
    device: str

    @property
    def stem(self) -> str:
        """Stem of the written files."""
        return "attacks-quick" if self.quick else "attacks"


def race_attacks(wanted: Wanted, say: Callable[[str], None]) -> list[Path]:
    """Runs the races one by one, then writes data, table and figure; returns the files.

    Each measurement is appended to ``attacks.jsonl``. The tables are written after every race, from
    all results so far; they keep the rows of other kinds of processor.

    Raises:
        UserError: For unknown names, missing checkpoints or data, and models that cannot be raced.
    """
    field = [(leg, _contenders(leg.contenders), _case(leg, wanted)) for leg in wanted.legs]
    log = wanted.out / f"{wanted.stem}.jsonl"
    if wanted.fresh:
        log.unlink(missing_ok=True)
    records, races, written = Records(log), list[Race](), list[Path]()
    for contender in {c.name: c for _, contenders, _ in field for c in contenders}.values():
        if contender.missing():
            say(f"{contender.name}: {contender.missing()}")
    for leg, contenders, case in field:
        race = _race(leg, case, contenders, wanted)
        run_race(race, records, say)
        if wanted.memory and not wanted.quick:
            measure_memory(race, case, records, say)
        races.append(race)
        written = _write(races, records, wanted)
    return written


def _contenders(wanted: Sequence[str]) -> list[Contender]:
    for name in wanted:
        if name not in CONTENDERS:
            raise UserError(
                f"--contender {name}: no such contender{did_you_mean(name, CONTENDERS)}"
            )
    return [c for c in CONTENDERS.values() if not wanted or c.name in (BASELINE, *wanted)]


def _case(leg: Leg, wanted: Wanted) -> Case:
    folder = checkpoint_folder(wanted.checkpoints, leg.checkpoint)
    card = open_checkpoint(folder).card
    limit = min(leg.limit, QUICK_IMAGES) if wanted.quick else leg.limit
    return Case(
        folder,
        wanted.data_root,
        limit,
        _eps(card) if wanted.eps is None else wanted.eps,
        _eps_l2(card) if wanted.eps_l2 is None else wanted.eps_l2,
        wanted.batch_size or min(limit, BATCH),
        wanted.device,
    )


def _eps(card: Card) -> float:
    threat = quick_threat(card)
    if threat.norm != "linf" or threat.eps_space != "pixel":
        raise UserError(f"{card.name}: trained against {threat.describe()}; give --eps in pixels")
    return threat.eps


def _eps_l2(card: Card) -> float:
    if card.dataset not in EPS_L2:
        known = ", ".join(EPS_L2)
        raise UserError(f"no l2 radius is usual on '{card.dataset}' ({known} have one); --eps-l2")
    return EPS_L2[card.dataset]


def _race(leg: Leg, case: Case, contenders: Sequence[Contender], wanted: Wanted) -> Race:
    arena = case.open()
    known = settings(case.eps, arena.target.classes)
    chosen = choose(known, leg.attacks, arena.target.stochastic)
    if wanted.quick:
        chosen = [setting.shortened() for setting in chosen]
    return Race(arena, chosen, contenders, 1 if wanted.quick else wanted.rounds)


def _write(races: Sequence[Race], records: Records, wanted: Wanted) -> list[Path]:
    entries: list[Entry] = [entry for race in races for entry in collect(race, records)]
    contenders = list({c.name: c for race in races for c in race.contenders}.values())
    packages = tuple(
        dict.fromkeys(["rbench", "torch", *(c.distribution for c in contenders if not c.missing())])
    )
    host, kind = describe_host(wanted.device, packages), kind_of(wanted.device)
    table = standings(entries, BASELINE, kind, host)
    elsewhere = _elsewhere(wanted.out / f"{wanted.stem}.csv", kind)
    heads = {race.arena.name: _head(race) for race in races}
    chosen = {s.title: s for race in races for s in race.settings}
    text = race_markdown(
        table,
        heads,
        {title: _params(setting) for title, setting in chosen.items()},
        list(_absent(chosen.values(), contenders)),
        host,
        "python -m tools.speed attacks" + " --quick" * wanted.quick,
        elsewhere,
    )
    every = pd.concat([table, elsewhere]) if len(elsewhere) else table
    files = {"csv": every.to_csv(index=False).encode(), "md": text.encode()}
    if not table.empty:
        files["png"] = race_picture(table, BASELINE, host)
    for extension, content in files.items():
        write_atomically(wanted.out / f"{wanted.stem}.{extension}", content)
    return [wanted.out / f"{wanted.stem}.{extension}" for extension in files]


def _elsewhere(path: Path, kind: str) -> pd.DataFrame:
    """Returns a table's rows for other kinds of processor than this one."""
    if not path.is_file():
        return pd.DataFrame(columns=list(COLUMNS))
    before = pd.read_csv(path, keep_default_na=False, na_values={c: [""] for c in NUMBERS})
    before = before.reindex(columns=list(COLUMNS)).astype({"images": "Int64"})
    return before[before["kind"].notna() & (before["kind"] != kind)]


def _head(race: Race) -> str:
    arena = race.arena
    balls = ", ".join(arena.threat(norm).describe() for norm in ("linf", "l2"))
    kind = "stochastic, each image scored on 20 fresh draws" if arena.target.stochastic else ""
    facts = [f"batches of at most {arena.batch_size}", balls]
    return ", ".join([*facts, f"seed {arena.seed}", *([kind] * bool(kind))]) + "."


def _params(setting: Setting) -> str:
    """Returns the parameters of all contenders, and those of rbench alone."""
    draws = {"eot_iter": setting.eot_iter} if setting.stochastic else {}
    told = ", ".join(f"{k} {_shown(v)}" for k, v in {**setting.params, **draws}.items())
    own = dict(setting.ours)
    if setting.our_eot:
        own |= dict(zip(("eot_iter", "eot"), setting.our_eot, strict=True))
    alone = ", ".join(f"{k} {_shown(v)}" for k, v in own.items())
    ball = f"{setting.norm}" + f", {told}" * bool(told)
    instead = "instead" if setting.our_eot else "also"
    return ball + f"; rbench {instead} {alone}" * bool(alone)


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _absent(chosen: Iterable[Setting], contenders: Sequence[Contender]) -> Iterator[str]:
    """Yields the attacks that a contender lacks."""
    chosen = list(chosen)
    for contender in contenders:
        titles = [s.title for s in chosen if not contender.offers(s)]
        if titles:
            yield f"{contender.name} has no {', '.join(titles)}"
