"""What attacks report of planted models whose true robustness is known, each attack alone.

    python -m tools.planted                     # prints Markdown; minutes
    python -m tools.planted --short             # the attacks of `rbench selftest`, below a minute
    python -m tools.planted --only cache sine-long

The models are those of ``rbench selftest``, with a few on which it is known that a number without
an alarm is a few points off. A number that is neither true nor doubted is marked.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

import torch
from tabulate import tabulate

from bench.attacks.randomness import seeded
from bench.selftest.alone import FULL, SHORT, SHORT_RANDOM, Alone, Reading
from bench.selftest.case import SEED, alarm_codes
from bench.selftest.exact_networks import SETTINGS, close_calls, evaluate_small, refutations
from bench.selftest.planted import (
    LIMITS,
    PLANTS,
    SOUND,
    Plant,
    clear_images,
    read_plant,
    read_sound,
)
from bench.selftest.planted_models import Truth, as_template

WRONG = "**wrong:** "


def cell(reading: Reading, *, right: bool) -> str:
    """Returns a reading as a table shows it."""
    return f"{'' if right else WRONG}{reading}"


def plant_row(plant: Plant, attacks: Sequence[Alone]) -> list[str]:
    """Returns the line of a planted model."""
    data = clear_images()
    truth = None if plant.truth is None else plant.truth(data)
    found = read_plant(plant, data, attacks)
    shown = [
        cell(one, right=one.right(truth, stochastic=plant.stochastic)) for one in found.values()
    ]
    return [f"`{plant.name}`: {plant.planted}", "none" if truth is None else str(truth), *shown]


def sound_row(name: str, attacks: Sequence[Alone]) -> list[str]:
    """Returns the line of a network without a plant."""
    data, (what, make) = clear_images(), SOUND[name]
    truth: Truth = as_template(data)
    found = read_sound(make, data, attacks)
    shown = [cell(one, right=not one.doubted and one.right(truth)) for one in found.values()]
    return [f"`{name}`: {what}", str(truth), *shown]


def proved_rows() -> Iterator[list[str]]:
    """Yields the lines of the small networks that are proved image by image."""
    for setting in SETTINGS:
        data, proofs = close_calls(setting)
        verdicts = [proof.verdict for proof in proofs]
        result = evaluate_small(setting, data)
        refuted, found = refutations(result, verdicts)
        counts = [str(verdicts.count(verdict)) for verdict in ("robust", "broken", "open")]
        codes = ", ".join(sorted(alarm_codes(result))) or "no alarm"
        shown = ", ".join(f"{label} {n}" for label, n in found.items())
        yield [f"{setting.norm} {setting.eps:g}", *counts, str(refuted), shown, codes]


def table(rows: Sequence[Sequence[str]], columns: Sequence[str]) -> str:
    """Returns a Markdown table."""
    return tabulate(rows, columns, "pipe", disable_numparse=True)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--short", action="store_true", help="the attacks of rbench selftest")
    parser.add_argument("--only", nargs="*", default=[], help="names of planted models")
    arguments = parser.parse_args()
    plants = [p for p in (*PLANTS, *LIMITS) if not arguments.only or p.name in arguments.only]
    labels = [alone.label for alone in FULL]
    rows = []
    for plant in plants:
        short = SHORT_RANDOM if plant.stochastic else SHORT
        with seeded(SEED):
            rows.append(plant_row(plant, short if arguments.short else FULL))
    print("## Planted models\n")
    print(table(rows, ("planted", "truth", *labels)))
    if arguments.only:
        return
    with seeded(SEED):
        rows = [sound_row(name, SHORT if arguments.short else FULL) for name in SOUND]
    print("\n## The same networks without a plant\n")
    print(table(rows, ("network", "truth", *labels)))
    print("\n## Small networks, proved image by image\n")
    columns = ("ball", "robust", "broken", "open", "proofs refuted", "proved broken and found")
    print(table(list(proved_rows()), (*columns, "alarms")))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
