"""Table and picture of a race from canned results; the golden files are what people read.

After a wanted change: ``REWRITE_GOLDEN=1 pytest tests/tools/speed``, then read them.
"""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tools.speed.attack_picture import COLOURS, race_picture
from tools.speed.attack_table import race_markdown
from tools.speed.contenders import CONTENDERS, Outcome
from tools.speed.records import Record
from tools.speed.standings import COLUMNS, Entry, standings

pytestmark = pytest.mark.process

GOLDEN = Path(__file__).parent / "golden"
MODEL, HOST = "fmnist-resnet20-bn-at", "a machine with 2 cores, torch 2.15.0, 2026-11-22"


def runs(
    seconds: list[float], robust: str, passes: tuple[float, float], session: str = "1"
) -> dict[int, Record]:
    verdicts = tuple(float(digit) for digit in robust)
    outcomes = [Outcome(s, 0.9 * s, 0.81 * s, *passes, verdicts) for s in seconds]
    return {
        i: Record(
            race="id",
            checkpoint=MODEL,
            setting="pgd",
            contender="x",
            session=session,
            round=i,
            outcome=outcome,
        )
        for i, outcome in enumerate(outcomes)
    }


def entries() -> list[Entry]:
    def pgd(name: str, version: str, **fields: object) -> Entry:
        return Entry(
            **{"checkpoint": MODEL, "attack": "PGD-20", **fields}, contender=name, version=version
        )

    def auto(name: str, version: str, **fields: object) -> Entry:
        return pgd(name, version, attack="AutoAttack standard", **fields)

    ours = runs([1.0, 3.0, 1.1], "11110000", (21, 20))
    return [
        pgd("rbench", "0.1.0", runs=ours, peak_mb=92.34),
        pgd("rbench exact", "0.1.0", runs=runs([2.0, 6.0, 2.4], "11110000", (21, 20)), peak_mb=61),
        pgd("torchattacks", "3.5.1", runs=runs([2.5, 7.2, 3.3], "11111000", (20, 20)), peak_mb=80),
        pgd("foolbox", "", runs={}, note="foolbox is not installed (pip install 'rbench[bench]')"),
        auto("rbench", "0.1.0", runs=runs([61.0], "11100000", (2750.5, 1010.25))),
        auto("pyautoattack", "0.2.0", runs=runs([305.0], "11100000", (5020, 1800), session="2")),
        auto("torchattacks", "3.5.1", runs={}, note="failed: RuntimeError: a | b"),
    ]


def elsewhere() -> pd.DataFrame:
    table = standings(entries()[:3], "rbench", "CPU with bfloat16", "another machine, 2026-11-20")
    ratios = ["ratio", "ratio_low", "ratio_high"]
    return table.assign(images=100, **{name: 2 * table[name] for name in ratios})


def check(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("REWRITE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_the_table_is_as_people_have_read_it() -> None:
    table = standings(entries(), "rbench", "CPU without bfloat16", HOST)
    assert tuple(table.columns) == COLUMNS
    check("attacks.csv", table.to_csv(index=False))
    text = race_markdown(
        table,
        {MODEL: "8 test images."},
        {"PGD-20": "n_iter 20, alpha 0.025", "AutoAttack standard": "n_iter 100"},
        ["foolbox has no AutoAttack standard"],
        HOST,
        "python -m tools.speed attacks",
        elsewhere(),
    )
    check("attacks.md", text)


def test_ratios_are_taken_round_by_round() -> None:
    table = standings(entries(), "rbench").set_index(["attack", "contender"])
    exact = table.loc[("PGD-20", "rbench exact")]
    assert exact["ratio"] == 2.0 and exact["seconds"] == 2.4  # one round was three times slower
    assert exact["ratio_high"] == pytest.approx(2.4 / 1.1, abs=1e-4)
    assert table.loc[("PGD-20", "torchattacks"), "agreement"] == 7 / 8
    apart = table.loc[("AutoAttack standard", "pyautoattack")]
    assert apart["ratio"] == 5 and "apart from rbench" in apart["note"]


def test_the_picture_has_a_bar_for_each_contender() -> None:
    image = Image.open(BytesIO(race_picture(standings(entries(), "rbench"), "rbench", HOST)))
    pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    for name in ("rbench exact", "pyautoattack", "torchattacks"):
        colour = tuple(int(COLOURS[name][0][i : i + 2], 16) for i in (1, 3, 5))
        assert (np.abs(pixels - np.array(colour)).max(1) < 8).sum() > 500, name
    assert set(COLOURS) == set(CONTENDERS) - {"rbench"}


def test_an_empty_race_has_an_empty_table() -> None:
    assert isinstance(standings([], "rbench"), pd.DataFrame) and standings([], "rbench").empty
